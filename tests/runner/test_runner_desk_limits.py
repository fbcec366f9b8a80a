"""What the desk refuses, remembers and gives up: limits, latencies, processes that die."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from search_fakes import FakeGraph, FakeSpace, Listed, cache_key, reward

from nasneck.objective import ObjectiveConfig
from nasneck.runner import Desk, run
from nasneck.runner.desk import DEATHS
from nasneck.strategy import make_strategy
from nasneck.study import Study, resume
from nasneck.trial import Measurement, Outcome, State, latency_key

SPACE = FakeSpace(4, 5, 6, 2)
A, B, C, TWIN = (0, 0, 1, 0), (1, 0, 0, 0), (2, 0, 0, 0), (1, 0, 0, 1)


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        yield study


def measured(graph: FakeGraph) -> Measurement:
    return Measurement(State.OK, reward=reward(graph), latency_ms=1.0 + graph.numbers[0], parameters=10)


def too_large(graph: FakeGraph) -> Measurement | None:
    if graph.numbers[0] == 1:
        return Measurement(State.REJECTED, parameters=99, text="99 parameters are more than 50")
    if graph.numbers[0] == 3:
        raise ValueError("no such\nwidth")
    return None


# --- limits ----------------------------------------------------------------------------------------------


def test_over_a_limit_nothing_is_handed_out(study: Study) -> None:
    strategy = Listed(SPACE, [A, B, TWIN, C])
    summary = run(Desk(study, strategy, SPACE, cache_key, trials=2, refuse=too_large), measured)
    assert [trial.state for trial in study.trials()] == [State.OK, State.REJECTED, State.CACHED, State.OK]
    assert strategy.told[1] == (1, Outcome((), State.REJECTED, text="99 parameters are more than 50"))
    assert (summary.measured, summary.failed) == (2, 0), "it costs nothing, so it does not count"
    refused = study.trial(1).measurement
    assert refused is not None and refused.parameters == 99


def test_a_cost_that_cannot_be_told_is_a_failed_trial(study: Study) -> None:
    desk = Desk(study, Listed(SPACE, [(3, 0, 0, 0), A]), SPACE, cache_key, trials=2, refuse=too_large)
    assert run(desk, measured).failed == 1
    failed = study.trial(0).measurement
    assert failed is not None and failed.state is State.ERROR
    assert failed.text == "its costs cannot be told: ValueError: no such width"


def test_limits_that_nothing_keeps_end_the_search(study: Study) -> None:
    def never(graph: FakeGraph) -> Measurement:
        return Measurement(State.REJECTED, text="too large")

    space = FakeSpace(50, 50, 50, 2)
    strategy = make_strategy("random", space.decisions, seed=0)
    desk = Desk(study, strategy, space, cache_key, trials=5, refuse=never, max_duplicates=3)
    summary = run(desk, measured)
    assert summary.reason == "rejected" and summary.measured == 0
    assert summary.text.startswith("30 candidates in a row were over a limit: the strategy 'random' finds none")


def test_a_learners_batch_is_filled_by_refused_ones_too(study: Study) -> None:
    options = {"hidden": 8, "batch": 4, "epochs": 1}
    strategy = make_strategy("controller", SPACE.decisions, seed=0, options=options)
    run(Desk(study, strategy, SPACE, cache_key, trials=12, refuse=too_large), measured)
    ended = [trial for trial in study.trials() if trial.state is not None]
    assert len(ended) > 12
    assert len(strategy._batch) == len(ended) % 4  # type: ignore[attr-defined]


# --- objectives ------------------------------------------------------------------------------------------


def test_values_of_several_objectives(study: Study) -> None:
    strategy = Listed(SPACE, [A, C])
    values = ObjectiveConfig(names=("reward", "latency")).values
    run(Desk(study, strategy, SPACE, cache_key, trials=2, values=values), measured)
    assert [outcome.values for _, outcome in strategy.told] == [
        (reward(SPACE.decode(A)), -1.0),
        (reward(SPACE.decode(C)), -3.0),
    ]
    assert [trial.values for trial in study.trials()] == [outcome.values for _, outcome in strategy.told]


def test_the_best_is_by_the_objective(study: Study) -> None:
    values = ObjectiveConfig(soft="latency", target=1.0, weight=-9.0).values
    slow = (3, 0, 0, 0)
    assert reward(SPACE.decode(slow)) > reward(SPACE.decode(A))
    summary = run(Desk(study, Listed(SPACE, [A, slow]), SPACE, cache_key, trials=2, values=values), measured)
    assert summary.best is not None and summary.best.choices == A, "the other one is four times as slow"
    assert study.best() == summary.best


# --- latencies -------------------------------------------------------------------------------------------


class Times:
    """Out of memory at first; measures the latency if it is not told."""

    def __init__(self) -> None:
        self.calls: list[dict[str, float]] = []

    def __call__(self, graph: FakeGraph, latencies: Mapping[str, float] | None = None) -> Measurement:
        self.calls.append(dict(latencies or {}))
        known = (latencies or {}).get(latency_key("cpu", (64, 96)), float(len(self.calls)))
        where = {"latency_ms": known, "image_size": (64, 96), "device": "cpu"}
        state = State.OOM if len(self.calls) < 3 else State.OK
        return Measurement(state, reward=0.5 if state is State.OK else None, **where)  # type: ignore[arg-type]


def test_a_latency_is_measured_once_for_a_graph_also_after_a_resume(tmp_path: Path) -> None:
    times = Times()
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        run(Desk(study, Listed(SPACE, [B]), SPACE, cache_key, trials=1), times)
    with Study.open(tmp_path) as study:
        strategy = resume(study, lambda: Listed(SPACE, [B, TWIN, B])).strategy
        run(Desk(study, strategy, SPACE, cache_key, trials=3), times)
        assert [trial.state for trial in study.trials()] == [State.OOM, State.OOM, State.OK]
        found = [trial.measurement.latency_ms for trial in study.trials() if trial.measurement]
    assert times.calls == [{}, {"cpu @ 64x96": 1.0}, {"cpu @ 64x96": 1.0}]
    assert found == [1.0, 1.0, 1.0]


# --- processes that die ----------------------------------------------------------------------------------


class Died(BaseException):
    """Stands for the end of the process: nothing catches it."""


def die(graph: FakeGraph) -> Measurement:
    if graph.numbers[0] == 1:
        raise Died
    return measured(graph)


def go_on(folder: Path, *, same_process: bool = True, evaluate: object = die) -> bool:
    """One more process; whether it came to the end."""
    with Study.open(folder) as study:
        strategy = resume(study, lambda: Listed(SPACE, [A, B, C])).strategy
        desk = Desk(study, strategy, SPACE, cache_key, trials=3, same_process=same_process)
        try:
            return not run(desk, evaluate).interrupted  # type: ignore[arg-type]
        except Died:
            return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Study.create(tmp_path, experiment={}, seed=0).close()
    return tmp_path


def test_a_candidate_that_ends_every_process_is_recorded_in_the_end(folder: Path) -> None:
    ends = [go_on(folder) for _ in range(DEATHS + 1)]
    assert ends == [False] * DEATHS + [True]
    with Study.read(folder) as study:
        states = [trial.state for trial in study.trials()]
        failed = study.trial(1).measurement
    assert states == [State.OK, State.ERROR, State.OK]
    assert failed is not None and failed.text == f"{DEATHS} processes ended while it was being measured"


def test_only_what_was_being_measured_is_blamed(folder: Path) -> None:
    """Trials that workers left in flight wait for their turn; nobody has begun them."""
    with Study.open(folder) as study:
        desk = Desk(study, Listed(SPACE, [B, A, C]), SPACE, cache_key, trials=3)
        for _ in range(3):
            desk.next()

    def again() -> bool:
        with Study.open(folder) as study:
            strategy = resume(study, lambda: Listed(SPACE, [B, A, C])).strategy
            try:
                run(Desk(study, strategy, SPACE, cache_key, trials=3, same_process=True), die)
            except Died:
                return False
        return True

    while not again():
        pass
    with Study.read(folder) as study:
        assert [trial.state for trial in study.trials()] == [State.ERROR, State.OK, State.OK]


def test_ends_on_purpose_are_not_held_against_it(folder: Path) -> None:
    def interrupt(graph: FakeGraph) -> Measurement:
        if graph.numbers[0] == 1:
            raise KeyboardInterrupt
        return measured(graph)

    for _ in range(2 * DEATHS):
        assert not go_on(folder, evaluate=interrupt)
    assert go_on(folder, evaluate=measured)
    with Study.read(folder) as study:
        assert [trial.state for trial in study.trials()] == [State.OK] * 3


def test_a_death_after_an_end_on_purpose_counts_anew(folder: Path) -> None:
    def interrupt(graph: FakeGraph) -> Measurement:
        raise KeyboardInterrupt

    for _ in range(DEATHS - 1):
        assert not go_on(folder)
    assert not go_on(folder, evaluate=interrupt)
    for _ in range(DEATHS - 1):
        assert not go_on(folder)
    assert go_on(folder, evaluate=measured)
    with Study.read(folder) as study:
        assert [trial.state for trial in study.trials()] == [State.OK] * 3
        attempts = [trial.measurement.attempts for trial in study.trials() if trial.measurement]
    assert attempts == [1, DEATHS, 1], "those since the end on purpose"


def test_the_death_of_a_driver_says_nothing_of_what_its_workers_measure(folder: Path) -> None:
    for _ in range(2 * DEATHS):
        assert not go_on(folder, same_process=False)
    assert go_on(folder, same_process=False, evaluate=measured)
