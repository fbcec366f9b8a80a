"""Several candidates in turns in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from search_fakes import FakeGraph, FakeSpace, Listed, cache_key, reward

from nasneck.decision import Choices
from nasneck.errors import ConfigError, DeviceError
from nasneck.experiment import ResourcesConfig
from nasneck.runner import Desk, Halving, run
from nasneck.runner import limit as limits
from nasneck.runner.desk import DEATHS
from nasneck.study import Study, resume
from nasneck.trial import Measurement, State

SPACE = FakeSpace(9, 5, 6, 2)
LIST: list[Choices] = [(i, 0, 0, 0) for i in range(9)]
At = Callable[[FakeGraph, int], Measurement | None]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        yield study


class Stepping:
    """Three steps a candidate, or so many as ``lengths`` says by its first number; notes them, and who ended."""

    def __init__(self, lengths: dict[int, int] | None = None, at: At = lambda graph, step: None) -> None:
        self.lengths = lengths or {}
        self.at = at
        self.steps: list[tuple[int, int]] = []
        self.closed: list[int] = []

    def __call__(self, graph: FakeGraph) -> Iterator[Measurement | None]:
        number = graph.numbers[0]
        try:
            for step in range(self.lengths.get(number, 3)):
                self.steps.append((number, step))
                yield self.at(graph, step)
            yield Measurement(State.OK, reward=reward(graph))
        finally:
            self.closed.append(number)


def go(study: Study, evaluate: Any, *, trials: int, together: int, **options: Any) -> Any:
    strategy = resume(study, lambda: Listed(SPACE, LIST)).strategy
    return run(Desk(study, strategy, SPACE, cache_key, trials=trials), evaluate, together=together, **options)


def states(study: Study) -> list[str]:
    return [str(trial.state) for trial in study.trials()]


def test_a_step_of_each_in_turn_in_batches(study: Study) -> None:
    evaluate = Stepping()
    summary = go(study, evaluate, trials=5, together=3)
    # Each in turn comes first.
    rounds = [(0, 1, 2), (1, 2, 0), (2, 0, 1)], [(3, 4), (4, 3), (3, 4)]
    assert evaluate.steps == [(number, step) for batch in rounds for step in range(3) for number in batch[step]]
    assert summary.measured == 5 and states(study) == ["ok"] * 5
    measured = [trial.measurement for trial in study.trials()]
    assert [m.reward for m in measured if m] == [reward(SPACE.decode(choices)) for choices in LIST[:5]]


def test_one_at_a_time_takes_no_turns(study: Study) -> None:
    evaluate = Stepping()
    go(study, evaluate, trials=2, together=1)
    assert evaluate.steps == [(number, step) for number in (0, 1) for step in range(3)]


def test_who_ends_early_is_in_the_log_early(study: Study) -> None:
    def at(graph: FakeGraph, step: int) -> None:
        if (graph.numbers[0], step) == (1, 4):
            assert study.trial(0).state is State.OK and study.trial(1).state is None

    evaluate = Stepping({0: 2, 1: 6}, at)
    go(study, evaluate, trials=2, together=2)
    assert evaluate.steps[-3:] == [(1, 3), (1, 4), (1, 5)]


def test_a_failure_is_its_own(study: Study) -> None:
    def at(graph: FakeGraph, step: int) -> None:
        if graph.numbers[0] == 1 and step == 1:
            raise ValueError("no")

    go(study, Stepping(at=at), trials=3, together=3)
    assert states(study) == ["ok", "error", "ok"]


def test_halving_decides_for_each(study: Study) -> None:
    def at(graph: FakeGraph, step: int) -> Measurement | None:
        score = float(-graph.numbers[0])
        return Measurement(State.PRUNED, reward=score, reward_kind="loss") if step == 1 else None

    evaluate = Stepping(at=at)
    go(study, evaluate, trials=4, together=4, halving=Halving(1, 2.0))
    # 1 is the first to come there in the second round, and 0 the last.
    assert states(study) == ["ok", "ok", "pruned", "pruned"]
    assert sorted(number for number, step in evaluate.steps if step == 2) == [0, 1]
    assert sorted(evaluate.closed) == [0, 1, 2, 3]


def test_the_limit_is_for_the_turns_of_a_candidate(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GRACE_S", 0.6)

    def at(graph: FakeGraph, step: int) -> None:
        if graph.numbers[0] == 1:
            time.sleep(30)
        time.sleep(0.1)

    go(study, Stepping({0: 4, 2: 4, 3: 4, 4: 4, 5: 4}, at), trials=6, together=6, timeout_s=0.1)
    assert states(study) == ["ok", "timeout", "ok", "ok", "ok", "ok"]
    hung = study.trial(1).measurement
    assert hung is not None and hung.text == "interrupted: it did not come to an end within 1 s"


def test_the_limit_is_for_all_turns_of_a_candidate(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GRACE_S", 0.3)

    def at(graph: FakeGraph, step: int) -> None:
        time.sleep(0.05 if graph.numbers[0] == 1 else 0.0)

    go(study, Stepping({0: 4, 1: 600}, at), trials=2, together=2, timeout_s=0.1)
    assert states(study) == ["ok", "timeout"]


def test_an_interrupt_gives_all_of_them_up(study: Study) -> None:
    def at(graph: FakeGraph, step: int) -> None:
        if graph.numbers[0] == 1 and step == 2:
            raise KeyboardInterrupt

    evaluate = Stepping({0: 1}, at)
    summary = go(study, evaluate, trials=3, together=3)
    assert summary.reason == "interrupted" and states(study) == ["ok", "None", "None"]
    assert sorted(evaluate.closed) == [0, 1, 2]
    evaluate = Stepping()
    go(study, evaluate, trials=4, together=3)
    assert evaluate.steps[:3] == [(1, 0), (2, 0), (3, 0)], "in turns again: it was on purpose"
    assert states(study) == ["ok"] * 4


def test_a_gpu_in_an_error_state_ends_it_at_once(study: Study) -> None:
    def at(graph: FakeGraph, step: int) -> None:
        if graph.numbers[0] == 0 and step == 1:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    evaluate = Stepping(at=at)
    with pytest.raises(DeviceError, match="trial 0 left the GPU"):
        go(study, evaluate, trials=3, together=3)
    assert states(study) == ["error", "None", "None"] and sorted(evaluate.closed) == [0, 1, 2]


class Died(BaseException):
    """Stands for the end of the process: nothing catches it."""


def test_a_candidate_that_ends_the_process_does_not_take_the_others_along(tmp_path: Path) -> None:
    def at(graph: FakeGraph, step: int) -> None:
        if graph.numbers[0] == 1 and step == 1:
            raise Died

    Study.create(tmp_path, experiment={}, seed=0).close()
    died = 0
    while died < 20:  # each time another process
        with Study.open(tmp_path) as study:
            strategy = resume(study, lambda: Listed(SPACE, LIST)).strategy
            evaluate = Stepping(at=at)
            try:
                run(Desk(study, strategy, SPACE, cache_key, trials=4, same_process=True), evaluate, together=3)
            except Died:
                died += 1
                assert died == 1 or evaluate.steps[-2:] == [(1, 0), (1, 1)], "what is left comes one at a time"
            else:
                break
    with Study.read(tmp_path) as study:
        assert states(study) == ["ok", "error", "ok", "ok"]
        culprit = study.trial(1).measurement
    assert culprit is not None and culprit.text == f"{DEATHS} processes ended while it was being measured"
    # The first time nobody knows who of the three it was.
    assert died in (DEATHS, DEATHS + 1)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="together 0 must be at least 1"):
        ResourcesConfig(together=0)
    for options in ({"workers": 2}, {"address": "auto"}):
        with pytest.raises(ConfigError, match="together 4 is for a search in one process"):
            ResourcesConfig(together=4, **options)  # type: ignore[arg-type]
