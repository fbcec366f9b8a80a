"""Rungs, time limits and broken GPUs on Ray Tune. One small Ray for all tests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from search_fakes import FakeGraph, FakeSpace, FileEvaluator, Listed, cache_key, reward

from nasneck.runner import Desk, Halving, Summary, scores_of
from nasneck.runner.spool import Spool
from nasneck.strategy import Strategy, make_strategy
from nasneck.study import Study, resume
from nasneck.trial import Measurement, State

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SPACE = FakeSpace(6, 5, 7, 2)


@pytest.fixture(scope="module", autouse=True)
def ray_with_two_cpus() -> Iterator[None]:
    from nasneck.runner.cluster import connected

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        with connected(None, cpus=2):
            yield


@dataclass(frozen=True)
class Make:
    notes: Path
    kind: Any

    def __call__(self) -> Any:
        return self.kind(self.notes)


@pytest.fixture
def study(tmp_path: Path):
    with Study.create(tmp_path / "q", experiment={}, seed=0) as study:
        yield study


def search(study: Study, strategy: Strategy, make: Make, *, workers: int = 1, **settings: Any) -> Summary:
    from nasneck.runner.cluster import Share
    from nasneck.runner.tune import run_on_tune

    on_tune = {name: settings.pop(name) for name in ("halving", "timeout_s", "on_warning") if name in settings}
    spool = Spool.create(study.folder / "spool")
    return run_on_tune(
        Desk(study, strategy, SPACE, cache_key, workers=workers, **settings),
        make,
        space=SPACE,
        workers=workers,
        share=Share(),
        spool=spool,
        scratch=study.folder / "tune",
        **on_tune,
    )


class InRungs(FileEvaluator):
    def __call__(self, graph: FakeGraph) -> Any:
        return self.stages(graph)

    def stages(self, graph: FakeGraph) -> Iterator[Measurement]:
        scores: tuple[float, ...] = ()
        for rung in (0, 1):
            score = reward(graph) - 2 + rung
            yield Measurement(State.PRUNED, reward=score, reward_kind="loss", rung=rung, scores=scores)
            scores = (*scores, score)
        self.note(f"end {graph.key()}")
        yield Measurement(State.OK, reward=reward(graph), rung=2, scores=scores)


@pytest.mark.long
def test_asha_decides_as_the_rule_in_the_process_and_after_a_resume(study: Study, tmp_path: Path) -> None:
    def make() -> Strategy:
        return make_strategy("random", SPACE.decisions, seed=0)

    for trials in (12, 40):  # the second run starts with what the first one knows
        strategy = resume(study, make).strategy
        halving = lambda: Halving(2, 3.0, study.trials())  # noqa: E731
        summary = search(study, strategy, Make(tmp_path / "notes", InRungs), trials=trials, halving=halving)
        assert summary.measured == trials and summary.failed == 0
    rule, ended = Halving(2, 3.0), 0
    for trial in study.trials():  # one worker, so in the order of numbers
        if trial.state is State.CACHED:
            continue
        scores = scores_of(trial)
        kept = [rule.keeps(rung, score) for rung, score in enumerate(scores)]
        assert trial.state in (State.OK, State.PRUNED)
        assert kept == [True] * len(scores) if trial.state is State.OK else kept == [*[True] * (len(scores) - 1), False]
        ended += trial.state is State.OK
    assert 3 <= ended <= 12
    assert len((tmp_path / "notes").read_text().split()) == 2 * ended, "the others were not trained to the end"


class Hangs(FileEvaluator):
    def __call__(self, graph: FakeGraph) -> Measurement:
        if graph.numbers[0] == 1:
            self.note("start")
            time.sleep(600)
        return super().__call__(graph)


@pytest.mark.long
def test_a_worker_that_hangs_is_ended_and_the_trial_recorded(study: Study, tmp_path: Path) -> None:
    warnings: list[str] = []
    listed = Listed(SPACE, [(0, 0, 2, 0), (1, 0, 0, 0), (2, 0, 0, 0)])
    summary = search(
        study, listed, Make(tmp_path / "notes", Hangs), trials=3, timeout_s=1.0, on_warning=warnings.append
    )
    assert (summary.measured, summary.failed) == (3, 1)
    hung = study.trial(1).measurement
    assert hung is not None and hung.state is State.TIMEOUT
    assert hung.text == "its worker was ended: it did not come to an end within 6 s"
    assert (tmp_path / "notes").read_text().split().count("start") >= 1
    assert len([line for line in (tmp_path / "notes").read_text().splitlines() if line == "start"]) == 1
    assert len(warnings) == 1 and "its worker died" in warnings[0]
    assert not list((study.folder / "spool").glob("*.json"))


class Breaks(FileEvaluator):
    """Leaves the "GPU" broken for its process."""

    broken = False

    def __call__(self, graph: FakeGraph) -> Measurement:
        self.note(f"process {os.getpid()}")
        if graph.numbers[0] == 1:
            Breaks.broken = True
        if Breaks.broken:
            return Measurement(State.ERROR, text="RuntimeError: CUDA error: device-side assert triggered")
        return super().__call__(graph)


@pytest.mark.long
def test_a_worker_with_a_broken_gpu_is_replaced(study: Study, tmp_path: Path) -> None:
    warnings: list[str] = []
    listed = Listed(SPACE, [(0, 0, 2, 0), (1, 0, 0, 0), (2, 0, 0, 0), (3, 0, 2, 0)])
    make = Make(tmp_path / "notes", Breaks)
    summary = search(study, listed, make, trials=4, on_warning=warnings.append)
    assert (summary.measured, summary.failed) == (4, 1)
    assert [trial.state for trial in study.trials()] == [State.OK, State.ERROR, State.OK, State.OK]
    assert warnings == ["trial 2 goes to a new worker: that of before was ended, as its GPU was in an error state"]
    processes = [line for line in (tmp_path / "notes").read_text().splitlines() if line.startswith("process")]
    assert len(processes) == 4 and len(set(processes)) == 2
