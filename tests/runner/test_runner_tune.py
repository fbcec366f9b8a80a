"""The runner on Ray Tune: the contract of runners, dying workers, the spool. One small Ray for all tests."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from search_fakes import FakeGraph, FakeSpace, FileEvaluator, Listed, cache_key, run

from nasneck.errors import ClusterError, DataError, StudyError
from nasneck.runner import Desk, Summary
from nasneck.runner.spool import Spool, bring_home
from nasneck.strategy import make_strategy
from nasneck.study import Study, resume
from nasneck.trial import Measurement, State, Trial

pytest.importorskip("ray")
# Warnings of Ray's own modules, and of sockets that it leaves to the garbage collector.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SPACE = FakeSpace(4, 5, 6, 2)


@pytest.fixture(scope="module")
def ray_with_two_cpus() -> Iterator[None]:
    from nasneck.runner.cluster import connected

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else they wait for the other tests
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # workers import the fakes
        with connected(None, cpus=2):
            yield


pytestmark.append(pytest.mark.usefixtures("ray_with_two_cpus"))


@dataclass(frozen=True)
class Make:
    """Makes an evaluator in a worker."""

    notes: Path
    kind: Callable[..., Any] = FileEvaluator

    def __call__(self) -> Callable[[FakeGraph], Measurement]:
        (self.notes.parent / f"worker-{os.getpid()}").touch()
        return self.kind(self.notes)


def search(
    study: Study, strategy: Any, make: Callable[[], Any], *, spool: Spool | None = None, **settings: Any
) -> Summary:
    from nasneck.runner.cluster import Share
    from nasneck.runner.tune import run_on_tune

    on_warning = settings.pop("on_warning", lambda text: None)
    desk = Desk(study, strategy, SPACE, cache_key, workers=2, **settings)
    return run_on_tune(
        desk,
        make,
        space=SPACE,
        workers=2,
        share=Share(),
        spool=spool,
        scratch=study.folder / "tune",
        on_warning=on_warning,
    )


@pytest.fixture
def study(tmp_path: Path):
    with Study.create(tmp_path / "q", experiment={}, seed=0) as study:
        yield study


def comparable(trials: list[Trial]) -> Counter[tuple[Any, ...]]:
    """Trials without what time and order decide: a duplicate may come while its twin is still being measured."""
    return Counter(
        (trial.choices, trial.graph_key, trial.state, replace(trial.measurement, seconds=None, text=""))
        for trial in trials
        if trial.measurement is not None and trial.state is not State.CACHED
    )


def test_both_runners_measure_the_same(study: Study, tmp_path: Path) -> None:
    import ray

    strategy = make_strategy("random", SPACE.decisions, seed=4)
    summary = search(study, strategy, Make(tmp_path / "notes"), trials=40, warm=[(0, 1, 2, 0), (0, 1, 2, 1)])
    with Study.create(tmp_path / "p", experiment={}, seed=0) as plain:
        again = run(
            plain,
            make_strategy("random", SPACE.decisions, seed=4),
            SPACE,
            FileEvaluator(tmp_path / "notes2"),
            cache_key,
            trials=40,
            warm=[(0, 1, 2, 0), (0, 1, 2, 1)],
        )
        assert comparable(study.trials()) == comparable(plain.trials())
    assert (summary.measured, summary.reason, summary.failed) == (40, "budget", again.failed)
    assert summary.best is not None and again.best is not None
    assert summary.best.choices == again.best.choices
    assert len(list(tmp_path.glob("worker-*"))) <= 4, "workers are used again for trial after trial"
    assert sorted(path.name for path in study.folder.iterdir()) == [
        "study.lock",
        "study.sqlite",
        "study.sqlite-shm",
        "study.sqlite-wal",
    ]
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: ray.available_resources().get("CPU") == 2.0)
    assert ray.available_resources().get("CPU") == 2.0, "no worker holds on to its share"


@pytest.mark.long
def test_a_search_on_ray_can_be_resumed_in_the_process(study: Study, tmp_path: Path) -> None:
    def make() -> Any:
        return make_strategy("controller", SPACE.decisions, seed=1, options={"hidden": 8, "batch": 4, "epochs": 2})

    search(study, make(), Make(tmp_path / "notes"), trials=12)
    resumed = resume(study, make)
    assert not resumed.warning
    evaluate = FileEvaluator(tmp_path / "notes")
    assert run(study, resumed.strategy, SPACE, evaluate, cache_key, trials=16).measured == 16


class Threads(FileEvaluator):
    def __call__(self, graph: FakeGraph) -> Measurement:
        import torch

        return Measurement(State.OK, reward=0.5, parameters=torch.get_num_threads())


@pytest.mark.long
def test_workers_have_one_thread(study: Study, tmp_path: Path) -> None:
    summary = search(study, Listed(SPACE, [(2, 0, 0, 0)]), Make(tmp_path / "notes", Threads), trials=1)
    assert summary.best is not None and summary.best.measurement is not None
    assert summary.best.measurement.parameters == 1


@pytest.mark.long
def test_a_strategy_at_its_end_ends_the_search(study: Study, tmp_path: Path) -> None:
    choices = [(2, 0, 0, 0), (3, 0, 0, 0), (2, 0, 0, 1)]
    summary = search(study, Listed(SPACE, choices), Make(tmp_path / "notes"), trials=9, max_duplicates=4)
    assert (summary.reason, summary.measured) == ("duplicates", 2)


class DiesOnce(FileEvaluator):
    """Kills its worker in the middle of the first evaluation of some graphs."""

    def __call__(self, graph: FakeGraph) -> Measurement:
        if graph.numbers[1] in (1, 2) and not (mark := self.notes.with_name(f"died {graph.key()}")).exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(graph)


@pytest.mark.long
def test_killed_workers_cost_an_attempt_and_no_trial(study: Study, tmp_path: Path) -> None:
    warnings: list[str] = []
    listed = Listed(SPACE, [(i % 4, i % 3, 2 + i % 2, 0) for i in range(12)])
    summary = search(study, listed, Make(tmp_path / "notes", DiesOnce), trials=6, on_warning=warnings.append)
    assert summary.measured == 6 and len(study.trials()) == 6 and not study.in_flight()
    died = len(list(tmp_path.glob("died *")))
    assert died == 4 == sum(": its worker died and it is measured again (" in text for text in warnings)
    started = Counter((tmp_path / "notes").read_text().splitlines())
    assert set(started.values()) == {1}, "what was finished is not measured again"
    attempts = [trial.measurement.attempts for trial in study.trials() if trial.measurement]
    assert sorted(attempts) == [1, 1, 2, 2, 2, 2], "and how often each was begun is on record"


class AlwaysDies(FileEvaluator):
    def __call__(self, graph: FakeGraph) -> Measurement:
        if graph.numbers[0] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(graph)


@pytest.mark.long
def test_a_candidate_that_kills_every_worker_is_recorded(study: Study, tmp_path: Path) -> None:
    listed = Listed(SPACE, [(0, 0, 2, 0), (1, 0, 0, 0), (2, 0, 0, 0)])
    summary = search(study, listed, Make(tmp_path / "notes", AlwaysDies), trials=3)
    assert (summary.measured, summary.failed) == (3, 1)
    failed = study.trial(1).measurement
    assert failed is not None and failed.state is State.ERROR
    assert failed.text.startswith("3 workers died over it; the last one: ") and failed.attempts == 3


class Broken:
    def __call__(self) -> Any:
        raise DataError("there are no images here")


@pytest.mark.long
def test_a_worker_that_cannot_start_ends_the_search(study: Study) -> None:
    start = time.monotonic()
    with pytest.raises(ClusterError, match=r"^worker on \S+: there are no images here$"):
        search(study, Listed(SPACE, [(0, 0, 0, 0)]), Broken(), trials=3)
    assert time.monotonic() - start < 60
    assert len(study.in_flight()) >= 1, "nobody measured it, so it is still to be measured"


@pytest.mark.long
def test_what_fails_on_a_machine_names_it() -> None:
    from nasneck.runner.cluster import nodes, on_each

    with pytest.raises(ClusterError, match=r"^node \S+: there are no images here$"):
        on_each(nodes(), Broken())


@dataclass(frozen=True)
class DiesAsItPrepares:
    mark: Path

    def __call__(self) -> Any:
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def prepare(self, progress: Callable[[str, int, int], None]) -> str:
        progress("work", 1, 1)
        return "ready"


@pytest.mark.long
def test_a_worker_that_dies_as_it_prepares(tmp_path: Path) -> None:
    from nasneck.runner.cluster import Remote, Share

    warnings: list[str] = []
    remote = Remote(DiesAsItPrepares(tmp_path / "died"), Share(), warnings.append)
    assert remote.call("prepare", lambda *what: None) == "ready"
    assert len(warnings) == 1 and warnings[0].startswith("a worker died as it prepared; another is tried (")
    remote.close()


class Unpicklable:
    def __reduce__(self) -> Any:
        return _not_there, ()


def _not_there() -> Any:
    raise ModuleNotFoundError("No module named 'of_the_driver_only'")


@pytest.mark.long
def test_code_that_workers_do_not_have(study: Study) -> None:
    with pytest.raises(ClusterError, match=r"workers cannot start: .*No module named 'of_the_driver_only'"):
        search(study, Listed(SPACE, [(0, 0, 0, 0)]), Unpicklable(), trials=3)


class DiesAfterwards(FileEvaluator):
    """Kills its worker soon after the first evaluation: it is in the spool, and the driver has not heard of it."""

    def __call__(self, graph: FakeGraph) -> Measurement:
        mark = self.notes.with_name("died")
        measurement = super().__call__(graph)
        if not mark.exists():
            mark.touch()
            # The worker writes to the spool in the meantime; Tune asks for the answer only then.
            original = os.replace

            def replace_and_die(*args: Any, **kwargs: Any) -> None:
                original(*args, **kwargs)
                os.kill(os.getpid(), signal.SIGKILL)

            Path.replace = lambda self, target: replace_and_die(self, target)  # type: ignore[method-assign]
        return measurement


@pytest.mark.long
def test_what_a_dead_worker_had_finished_is_not_measured_again(study: Study, tmp_path: Path) -> None:
    spool = Spool.create(study.folder / "spool")
    listed = Listed(SPACE, [(0, 0, 2, 0), (2, 0, 0, 0), (3, 0, 2, 0)])
    summary = search(study, listed, Make(tmp_path / "notes", DiesAfterwards), trials=3, spool=spool)
    assert summary.measured == 3 and summary.failed == 0
    started = [line for line in (tmp_path / "notes").read_text().splitlines() if line.startswith("start")]
    assert len(started) == 3
    assert not list(spool.folder.glob("*.json")), "the study has them"


@pytest.mark.long
def test_an_exception_of_tune_costs_attempts(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's memory monitor kills a worker with an exception that Tune does not know, and that ends its run."""
    from nasneck.runner.tune import DeskSearcher

    warnings: list[str] = []
    original, calls = DeskSearcher.suggest, iter(range(10**6))

    def suggest(self: DeskSearcher, trial_id: str) -> Any:
        if next(calls) == 2:
            raise RuntimeError(
                "Caught unexpected exception: 1 worker(s) were killed due to the node running low on memory"
            )
        return original(self, trial_id)

    monkeypatch.setattr(DeskSearcher, "suggest", suggest)
    listed = Listed(SPACE, [(0, 0, 2, 0), (2, 0, 0, 0), (3, 0, 2, 0)])
    summary = search(study, listed, Make(tmp_path / "notes"), trials=3, on_warning=warnings.append)
    assert (summary.reason, summary.measured, summary.failed) == ("budget", 3, 0)
    assert warnings and all("low on memory" in text for text in warnings)


class Signals(FileEvaluator):
    """Sends the driver the signal by which clusters warn of an end, and Tune ends early."""

    def __call__(self, graph: FakeGraph) -> Measurement:
        os.kill(int(self.notes.with_name("driver").read_text()), signal.SIGUSR1)
        time.sleep(3)
        return super().__call__(graph)


@pytest.mark.long
def test_a_run_that_tune_ends_early_is_interrupted(study: Study, tmp_path: Path) -> None:
    (tmp_path / "driver").write_text(str(os.getpid()))
    listed = Listed(SPACE, [(i % 4, i // 4, 2, 0) for i in range(16)])
    summary = search(study, listed, Make(tmp_path / "notes", Signals), trials=9)
    assert summary.interrupted and summary.measured < 9


class Forgetful(Desk[FakeGraph]):
    """A driver that ends as the first results arrive: nothing of them reaches the study."""

    def finish(self, number: int, measurement: Measurement, *, deaths: int = 0) -> None:
        raise StudyError("the disk is full")


@pytest.mark.long
def test_results_of_a_driver_that_died_are_brought_home(study: Study, tmp_path: Path) -> None:
    from nasneck.runner.cluster import Share
    from nasneck.runner.tune import run_on_tune

    def make() -> Any:
        return make_strategy("random", SPACE.decisions, seed=2)

    spool = Spool.create(study.folder / "spool")
    desk = Forgetful(study, make(), SPACE, cache_key, trials=8, workers=2)
    share = Share()
    with pytest.raises(StudyError, match="the disk is full"):
        run_on_tune(
            desk, Make(tmp_path / "notes"), space=SPACE, workers=2, share=share, spool=spool, scratch=tmp_path / "tune"
        )
    assert all(trial.state is None for trial in study.trials())
    orphans = len(list(spool.folder.glob("*.json")))
    assert orphans >= 1
    home = bring_home(study, spool.folder, lambda choices: cache_key(SPACE.decode(choices)))
    assert home == orphans
    search(study, resume(study, make).strategy, Make(tmp_path / "notes"), trials=8, spool=spool)
    assert not study.in_flight()
    ended = Counter(line for line in (tmp_path / "notes").read_text().splitlines() if line.startswith("start"))
    repeated = sum(count - 1 for count in ended.values())
    assert repeated <= 2, "at most what was running when the driver died"


def wait_until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.2)
