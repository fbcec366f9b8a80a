"""The plain way to search: one candidate at a time, in this process.

ask ──> log ──> decode ──> measured before? ──no──> evaluate ──> log ──> tell
                                 └──yes── its values, state "cached" ──┘
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, Protocol, TypeVar

from nasneck.decision import Choices, Decision, check_choices
from nasneck.errors import ConfigError, StudyError
from nasneck.runner.measuring import cached_copy, measure, one_line, outcome_of
from nasneck.runner.progress import Progress, Summary
from nasneck.runner.tally import Tally
from nasneck.strategy.base import Strategy
from nasneck.study.study import Study
from nasneck.trial import Ask, Measurement, State, Trial


class Keyed(Protocol):
    """A graph, as far as a search is concerned."""

    def key(self) -> str: ...


G = TypeVar("G", bound=Keyed)
G_co = TypeVar("G_co", bound=Keyed, covariant=True)


class Space(Protocol[G_co]):
    """A search space, as far as a search is concerned."""

    @property
    def decisions(self) -> tuple[Decision, ...]: ...

    def decode(self, choices: Choices, /) -> G_co: ...


def run(
    study: Study,
    strategy: Strategy,
    space: Space[G],
    evaluate: Callable[[G], Measurement],
    cache_key: Callable[[G], str],
    *,
    trials: int,
    warm: Sequence[Sequence[int]] = (),
    on_event: Callable[[Progress], object] = lambda progress: None,
    max_duplicates: int = 100,
    snapshot_every: int = 100,
) -> Summary:
    """Search until ``trials`` candidates of the study are measured.

    Asks that a killed run left without a result are measured first, under their numbers; then the warm
    candidates that the study does not hold yet; then what the strategy asks.

    A duplicate (a graph whose cache key is measured) takes over the values, costs nothing and does not
    count. A trial that failed counts and is never the end; what may be otherwise another day (out of memory,
    timeout, exception) is measured again when it is asked again, see :meth:`Study.measured_as`.

    Args:
        study: Open for writing.
        strategy: In step with the study, as :func:`nasneck.study.resume` returns it.
        space: Decodes choices.
        evaluate: Measures a graph; what it raises becomes the trial's text.
        cache_key: Says when two graphs need no second measurement.
        trials: Measured trials that the study shall hold in the end, failed and warm ones included.
        warm: Choices to measure before the strategy's own.
        on_event: Called when a trial starts and when it ends.
        max_duplicates: So many duplicates in a row end the search: the space is used up, or the strategy
            has settled on what it knows.
        snapshot_every: After so many results the strategy's state is stored, so that resuming a long search
            does not repeat all of its log.

    Returns:
        How it ended. Ctrl-C is one of the ways: the running trial stays in the log without a result. After
        it the strategy may be a step behind the log; resume the study to go on.

    Raises:
        StudyError: a strategy out of step, or a study that cannot be written.
        ConfigError, SpaceError: arguments that do not fit.
    """
    limits = {"trials": trials, "max_duplicates": max_duplicates, "snapshot_every": snapshot_every}
    for name, value in limits.items():
        if value < 1:
            raise ConfigError(f"{name} = {value!r} is less than 1")
    begin = time.monotonic()
    stored = study.trials()
    _check_step(study, strategy, stored)
    tally = Tally(stored, budget=trials)
    candidates = _candidates(study, strategy, space, stored, warm)
    reason: Literal["budget", "duplicates", "interrupted"]
    try:
        while True:
            if tally.measured >= trials:
                reason, text = "budget", f"{tally.measured} trials measured"
                break
            if tally.duplicates_in_a_row >= max_duplicates:
                reason = "duplicates"
                text = (
                    f"{tally.duplicates_in_a_row} duplicates in a row: the strategy {strategy.name!r} finds"
                    " nothing that is not measured yet"
                )
                break
            candidate = next(candidates)
            on_event(tally.progress(candidate.trial))
            started = time.monotonic()
            measurement, key = _measurement(study, candidate, evaluate, cache_key)
            outcome = outcome_of(measurement)
            study.told(candidate.trial.number, outcome, measurement, cache_key=key)
            strategy.tell(candidate.trial.number, outcome)
            trial = replace(candidate.trial, state=measurement.state, measurement=measurement)
            tally.add(trial, seconds=time.monotonic() - started)
            if (tally.measured + tally.cached) % snapshot_every == 0:
                snapshot = strategy.snapshot()
                if snapshot is not None:
                    study.keep_snapshot(snapshot)
            on_event(tally.progress(trial))
    except KeyboardInterrupt:
        # It may have come between a result's way to the log and to the tally.
        tally = Tally(study.trials(), budget=trials)
        reason, text = "interrupted", f"interrupted after {tally.measured} trials"
    return Summary(
        reason,
        text,
        measured=tally.measured,
        cached=tally.cached,
        failed=tally.failed,
        best=tally.best,
        seconds=time.monotonic() - begin,
    )


@dataclass(frozen=True, slots=True)
class _Candidate(Generic[G]):
    trial: Trial
    graph: G | None  # None if the choices could not be decoded
    problem: str = ""


def _check_step(study: Study, strategy: Strategy, stored: Sequence[Trial]) -> None:
    running = tuple(Ask(trial.number, trial.choices) for trial in stored if trial.state is None)
    if strategy.next_number != len(stored) or strategy.open_asks != running:
        raise StudyError(
            f"{study.folder}: the study has {len(stored)} asks, {len(running)} of them without a result, the"
            f" strategy {strategy.next_number} and {len(strategy.open_asks)}; bring it in step with"
            " nasneck.study.resume"
        )


def _candidates(
    study: Study, strategy: Strategy, space: Space[G], stored: Sequence[Trial], warm: Sequence[Sequence[int]]
) -> Iterator[_Candidate[G]]:
    """Without end: what to measure next, already in the log."""
    asked = {trial.choices for trial in stored if trial.source == "warm"}
    given = dict.fromkeys(check_choices(space.decisions, choices) for choices in warm)
    for trial in stored:
        if trial.state is None:
            graph, _, problem = _decode(space, trial.choices)
            yield _Candidate(trial, graph, problem)
    for choices in given:
        if choices not in asked:
            yield _logged(study, space, strategy.inject(choices), source="warm")
    while True:
        yield _logged(study, space, strategy.ask(), source="strategy")


def _logged(study: Study, space: Space[G], ask: Ask, *, source: str) -> _Candidate[G]:
    graph, graph_key, problem = _decode(space, ask.choices)
    study.asked(ask, graph_key=graph_key, source=source)
    trial = Trial(ask.number, ask.choices, graph_key, source=source, started=time.time())
    return _Candidate(trial, graph, problem)


def _decode(space: Space[G], choices: Choices) -> tuple[G | None, str, str]:
    """Graph, its key and an empty text; or None, an empty key and what went wrong."""
    try:
        graph = space.decode(choices)
        return graph, graph.key(), ""
    except Exception as error:
        return None, "", one_line(error)


def _measurement(
    study: Study,
    candidate: _Candidate[G],
    evaluate: Callable[[G], Measurement],
    cache_key: Callable[[G], str],
) -> tuple[Measurement, str | None]:
    """The measurement of a candidate, made or remembered, and the cache key that it counts under."""
    graph = candidate.graph
    if graph is None:
        return Measurement(State.ERROR, text=f"cannot be decoded: {candidate.problem}"), None
    try:
        key = cache_key(graph)
    except Exception as error:
        return Measurement(State.ERROR, text=f"has no cache key: {one_line(error)}"), None
    twin = study.measured_as(key)
    return (measure(evaluate, graph) if twin is None else cached_copy(twin)), key
