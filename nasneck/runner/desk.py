"""The desk between a strategy, a study and whoever evaluates; every runner works at one.

    next()   ask ──> log ──> decode ──> measured before? ──no──> too large? ──no──> Job, to be evaluated somewhere
                                 │            │                      └──yes── state "rejected" ──> log ──> tell
                                 │            └──yes── its values, state "cached" ──> log ──> tell
                                 └ being measured just now? waits for that and takes its values
    finish() measurement ──> log ──> tell, for the job and for those that waited for it

What must never be lost is in the log before anybody acts on it: an ask before its evaluation starts, a result
before the strategy hears of it. Not thread-safe: one thread at a time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, Protocol, TypeVar

from nasneck.decision import Choices, Decision, check_choices
from nasneck.errors import ConfigError, StudyError
from nasneck.runner.measuring import Values, cached_copy, one_line, outcome_of, reward_alone
from nasneck.runner.progress import Progress, Summary
from nasneck.runner.tally import Tally
from nasneck.strategy.base import Exhausted, Strategy
from nasneck.study.study import Study
from nasneck.trial import Ask, Measurement, State, Trial, latency_key

DEATHS = 5  # of processes over one trial, before it is taken for the cause


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


@dataclass(frozen=True, slots=True)
class Job(Generic[G]):
    """A candidate to evaluate, already in the log.

    Args:
        trial: With number and choices.
        graph: What to evaluate.
        cache_key: Under which its measurement will count.
        latencies: Of this graph, as far as they are known: what was measured once is not measured again.
        left: Whether a process ended, and not on purpose, while it or another one with it was being measured.
    """

    trial: Trial
    graph: G
    cache_key: str
    latencies: Mapping[str, float] = field(default_factory=dict)
    left: bool = False

    @property
    def number(self) -> int:
        """Number of the trial."""
        return self.trial.number


@dataclass(slots=True)
class _Running(Generic[G]):
    job: Job[G]
    started: float
    waiting: list[Trial]


class Desk(Generic[G]):
    """Hands out jobs and takes in measurements.

    Asks that a killed run left without a result come first, under their numbers; then the warm candidates that
    the study does not hold yet; then what the strategy asks.

    A duplicate (a graph whose cache key is measured) takes over the values, costs nothing and does not count;
    one whose twin is being measured waits for it and shares how it ends. A candidate that is over a limit costs
    nothing and does not count either. A trial that failed counts and is never the end; what may be otherwise another
    day (out of memory, timeout, exception) is measured again when it is asked again, see :meth:`Study.measured_as`.

    Args:
        study: Open for writing.
        strategy: In step with the study, as :func:`nasneck.study.resume` returns it.
        space: Decodes choices.
        cache_key: Says when two graphs need no second measurement.
        trials: Measured trials that the study shall hold in the end, failed and warm ones included.
        warm: Choices to measure before the strategy's own.
        on_event: Called when a trial starts and when it ends.
        max_duplicates: So many duplicates in a row end the search: the space is used up, or the strategy
            has settled on what it knows. Ten times as many refused candidates in a row do so too.
        snapshot_every: After so many results the strategy's state is stored, so that resuming a long search
            does not repeat all of its log.
        workers: How many jobs are evaluated at once, for the estimate of the time left.
        values: What the strategy is told of a measurement, one value per objective, larger is better.
        refuse: Says of a candidate that it is over a limit, by a measurement in state ``rejected``.
        same_process: Whether evaluations run in this process, so that one which ends the process (a crash in native
            code, the system's memory killer) would end every resume as well. After ``DEATHS`` of them, a trial is
            recorded as failed.

    Raises:
        StudyError: a strategy out of step.
        ConfigError, SpaceError: arguments that do not fit.
    """

    def __init__(
        self,
        study: Study,
        strategy: Strategy,
        space: Space[G],
        cache_key: Callable[[G], str],
        *,
        trials: int,
        warm: Sequence[Sequence[int]] = (),
        on_event: Callable[[Progress], object] = lambda progress: None,
        max_duplicates: int = 100,
        snapshot_every: int = 100,
        workers: int = 1,
        values: Values = reward_alone,
        refuse: Callable[[G], Measurement | None] = lambda graph: None,
        same_process: bool = False,
    ) -> None:
        limits = {"trials": trials, "max_duplicates": max_duplicates, "snapshot_every": snapshot_every}
        for name, value in limits.items():
            if value < 1:
                raise ConfigError(f"{name} = {value!r} is less than 1")
        self.study = study
        self.trials = trials
        self._max_duplicates = max_duplicates
        self._snapshot_every = snapshot_every
        self._strategy = strategy
        self._space = space
        self._cache_key = cache_key
        self._on_event = on_event
        self._begin = time.monotonic()
        self._workers = workers
        self._values = values
        self._refuse = refuse
        self._same_process = same_process
        stored = study.trials()
        _check_step(study, strategy, stored)
        self._tally = Tally(stored, budget=trials, workers=workers)
        self._stored = deque(trial for trial in stored if trial.state is None)
        self._postponed: list[Trial] = []  # of these, what there was no room for when its turn came
        self._deaths: dict[int, int] = {}
        self._latencies: dict[str, dict[str, float]] = {}
        for trial in stored:
            self._remember_latency(trial)
        self._candidates = self._new(stored, warm)
        if same_process and self._tally.measured < trials:
            # The oldest: that is the one which a process that ended was measuring, or one of those that took turns.
            # What is left of these is measured one at a time, so the next end has one cause.
            self._deaths = study.count_deaths([trial.number for trial in list(self._stored)[:1]])
        self._exhausted = False
        self._running: dict[int, _Running[G]] = {}
        self._number_of: dict[str, int] = {}  # cache key -> number of the running trial that measures it

    def next(self) -> Job[G] | None:
        """The next job; None if there is none now (look at :attr:`closed` whether there ever will be)."""
        if not self._full:
            self._stored.extendleft(reversed(self._postponed))
            self._postponed.clear()
        while self._stored:
            trial = self._stored.popleft()
            graph, _, problem = _decode(self._space, trial.choices)
            if self._deaths.get(trial.number, 0) >= DEATHS and not self._full:
                text = f"{DEATHS} processes ended while it was being measured"
                self._settle(trial, Measurement(State.ERROR, text=text))
                continue
            job = self._take(trial, graph, problem)
            if job is not None:
                return replace(job, left=any(count > 0 for count in self._deaths.values()))
        while not self._full and not self._stuck:
            try:
                trial, graph, problem = next(self._candidates)
            except Exhausted:
                self._exhausted = True
                break
            job = self._take(trial, graph, problem)
            if job is not None:
                return job
        return None

    def _take(self, trial: Trial, graph: G | None, problem: str) -> Job[G] | None:
        """A job for ``trial``, or None if it is settled without one, or will be by its twin."""
        if graph is None:
            return self._settle(trial, Measurement(State.ERROR, text=f"cannot be decoded: {problem}"))
        try:
            key = self._cache_key(graph)
        except Exception as error:
            return self._settle(trial, Measurement(State.ERROR, text=f"has no cache key: {one_line(error)}"))
        twin = self.study.measured_as(key)
        if twin is not None:
            return self._settle(trial, cached_copy(twin), key)
        if key in self._number_of:
            self._on_event(self._tally.progress(trial))
            self._running[self._number_of[key]].waiting.append(trial)
            return None
        try:
            refused = self._refuse(graph)
        except Exception as error:
            refused = Measurement(State.ERROR, text=f"its costs cannot be told: {one_line(error)}")
        if refused is not None:
            return self._settle(trial, refused, key)
        if self._full:  # for now, or it stays in flight for a search with a larger budget
            self._postponed.append(trial)
            return None
        self._on_event(self._tally.progress(trial))
        job = Job(trial, graph, key, dict(self._latencies.get(trial.graph_key, {})))
        self._running[trial.number] = _Running(job, time.monotonic(), [])
        self._number_of[key] = trial.number
        return job

    def _settle(self, trial: Trial, measurement: Measurement, key: str | None = None) -> None:
        """End a trial without a job."""
        self._on_event(self._tally.progress(trial))
        self._end(trial, measurement, key)

    def finish(self, number: int, measurement: Measurement, *, deaths: int = 0) -> None:
        """Take in the measurement of a job, for itself and for the duplicates that wait for it.

        Args:
            number: Of the trial.
            measurement: What came out.
            deaths: So many processes ended over it, as far as the runner knows.

        Raises:
            StudyError: no such job is running, or the study cannot be written.
        """
        if number not in self._running:
            raise StudyError(f"{self.study.folder}: trial {number} is not being measured")
        running = self._running[number]
        trial, key = running.job.trial, running.job.cache_key
        before = deaths + max(0, self._deaths.get(number, 0))
        if before:
            measurement = replace(measurement, attempts=1 + before)
        ended = self._end(trial, measurement, key, seconds=time.monotonic() - running.started)
        # Only now: if writing failed, the job is still one that is running.
        del self._running[number], self._number_of[key]
        for waiting in running.waiting:
            self._end(waiting, cached_copy(ended), key)

    def interrupted(self) -> None:
        """Note that the running jobs are given up on purpose: nothing is held against them."""
        if self._same_process:
            self.study.forgive_deaths()

    @property
    def running(self) -> tuple[Job[G], ...]:
        """Jobs handed out and not finished, oldest first."""
        return tuple(running.job for running in self._running.values())

    @property
    def closed(self) -> bool:
        """Whether no job will be handed out any more, whatever comes of those that are running."""
        if self._stored:
            return False
        if self._tally.measured >= self.trials:
            return True
        return self._stuck and not self._postponed and not self._running

    def summary(self, *, interrupted: bool = False) -> Summary:
        """How the search ended, or stands."""
        # An interruption may have come between a result's way to the log and to the tally.
        tally = Tally(self.study.trials(), budget=self.trials, workers=self._workers)
        reason: Literal["budget", "duplicates", "rejected", "exhausted", "interrupted"]
        if interrupted:
            reason, text = "interrupted", f"interrupted after {tally.measured} trials"
        elif tally.measured >= self.trials:
            reason, text = "budget", f"{tally.measured} trials measured"
        elif self._exhausted:
            reason = "exhausted"
            text = f"{tally.measured} trials measured: the strategy {self._strategy.name!r} has asked the whole space"
        elif tally.duplicates_in_a_row >= self._max_duplicates:
            reason = "duplicates"
            text = (
                f"{tally.duplicates_in_a_row} duplicates in a row: the strategy {self._strategy.name!r} finds"
                " nothing that is not measured yet"
            )
        else:
            reason = "rejected"
            text = (
                f"{tally.rejected_in_a_row} candidates in a row were over a limit: the strategy"
                f" {self._strategy.name!r} finds none that is not; the limits may be too tight for the space"
            )
        return Summary(
            reason,
            text,
            measured=tally.measured,
            cached=tally.cached,
            failed=tally.failed,
            best=tally.best,
            seconds=time.monotonic() - self._begin,
        )

    @property
    def _full(self) -> bool:
        # What is running may yet be over a limit and not count; then there is room again.
        return self._tally.measured + len(self._running) >= self.trials

    @property
    def _stuck(self) -> bool:
        waiting = sum(len(running.waiting) for running in self._running.values())
        return (
            self._exhausted
            or self._tally.duplicates_in_a_row + waiting >= self._max_duplicates
            or self._tally.rejected_in_a_row >= 10 * self._max_duplicates
        )

    def _end(self, trial: Trial, measurement: Measurement, key: str | None, *, seconds: float = 0.0) -> Trial:
        outcome = outcome_of(measurement, self._values)
        self.study.told(trial.number, outcome, measurement, cache_key=key)
        self._strategy.tell(trial.number, outcome)
        ended = replace(trial, state=measurement.state, measurement=measurement, values=outcome.values)
        self._remember_latency(ended)
        self._tally.add(ended, seconds=seconds)
        if self._tally.ended % self._snapshot_every == 0:
            snapshot = self._strategy.snapshot()
            if snapshot is not None:
                self.study.keep_snapshot(snapshot)
        self._on_event(self._tally.progress(ended))
        return ended

    def _remember_latency(self, trial: Trial) -> None:
        measured = trial.measurement
        if measured is not None and measured.latency_ms is not None and measured.image_size is not None:
            key = latency_key(measured.device, measured.image_size)
            self._latencies.setdefault(trial.graph_key, {}).setdefault(key, measured.latency_ms)

    def _new(self, stored: Sequence[Trial], warm: Sequence[Sequence[int]]) -> Iterator[tuple[Trial, G | None, str]]:
        """What to measure next, already in the log, with its graph, or None and what went wrong."""
        asked = {trial.choices for trial in stored if trial.source == "warm"}
        given = dict.fromkeys(check_choices(self._space.decisions, choices) for choices in warm)
        return self._endless([choices for choices in given if choices not in asked])

    def _endless(self, warm: Sequence[Choices]) -> Iterator[tuple[Trial, G | None, str]]:
        for choices in warm:
            yield self._log(self._strategy.inject(choices), source="warm")
        while True:
            yield self._log(self._strategy.ask(), source="strategy")

    def _log(self, ask: Ask, *, source: str) -> tuple[Trial, G | None, str]:
        graph, graph_key, problem = _decode(self._space, ask.choices)
        self.study.asked(ask, graph_key=graph_key, source=source)
        return Trial(ask.number, ask.choices, graph_key, source=source, started=time.time()), graph, problem


def _check_step(study: Study, strategy: Strategy, stored: Sequence[Trial]) -> None:
    running = tuple(Ask(trial.number, trial.choices) for trial in stored if trial.state is None)
    if strategy.next_number != len(stored) or strategy.open_asks != running:
        raise StudyError(
            f"{study.folder}: the study has {len(stored)} asks, {len(running)} of them without a result, the"
            f" strategy {strategy.next_number} and {len(strategy.open_asks)}; bring it in step with"
            " nasneck.study.resume"
        )


def _decode(space: Space[G], choices: Choices) -> tuple[G | None, str, str]:
    """Graph, its key and an empty text; or None, an empty key and what went wrong."""
    try:
        graph = space.decode(choices)
        return graph, graph.key(), ""
    except Exception as error:
        return None, "", one_line(error)
