"""Putting a search together, with a proxy task that trains nothing; real ones run in the tests of the CLI."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nasneck import NeckGraph, SearchSpace, load_space
from nasneck.errors import ConfigError, DeviceError, NasneckError, SpaceError, StudyError
from nasneck.experiment import Choice, Experiment, experiment_from_dict
from nasneck.proxy import NeckConfig
from nasneck.proxy.deployed import Deployed
from nasneck.runner.progress import Progress
from nasneck.runner.spool import FOLDER, Spool
from nasneck.search import search, study_experiment
from nasneck.search_space import build_space
from nasneck.study import Study
from nasneck.trial import Measurement, State
from nasneck.workplace.base import search_key


def reward(graph: NeckGraph, seed: int) -> float:
    return int(hashlib.sha256(f"{graph.key()} {seed}".encode()).hexdigest()[:6], 16) / 16**6


class FakeTask:
    """Rewards a graph by its key."""

    fails: Exception | None = None
    bfloat16 = False
    measures: Callable[[NeckGraph, int], Measurement] = staticmethod(
        lambda graph, seed: Measurement(State.OK, reward=reward(graph, seed), seed=seed, seconds=0.0)
    )

    def __init__(
        self, config: Any, neck: Any, data: Any, *, store: Path, device: Any, objective: Any, **_: Any
    ) -> None:
        assert store.name == "store" and len(data.train) == 6 and device == "auto"
        self.prepared = False
        self.device, self.amp = torch.device("cpu"), self.bfloat16
        self.deployed = Deployed(objective, neck, {3: 8, 4: 8, 5: 8}, 64)

    def prepare(self, progress: Callable[[str, int, int], object], *, seed: int) -> None:
        if self.fails is not None:
            raise self.fails
        progress("work", 1, 1)
        self.prepared = True

    def stepwise(
        self, graph: NeckGraph, *, seed: int, rungs: Sequence[int], latencies: Mapping[str, float] | None
    ) -> Iterator[Measurement | None]:
        assert self.prepared
        yield None
        for rung, steps in enumerate(rungs):
            yield Measurement(State.PRUNED, reward=-reward(graph, seed), reward_kind="loss", rung=rung, steps=steps)
        yield replace(self.measures(graph, seed), rung=len(rungs))

    def context(self, *, seed: int) -> dict[str, Any]:
        assert self.prepared
        return {"seed": seed, "device": "fake"}


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("nasneck.workplace.local.ProxyTask", FakeTask)
    monkeypatch.chdir(tmp_path)


def make(**tables: Any) -> Experiment:
    table: dict[str, Any] = {
        "schema": "nasneck.experiment/1",
        "data": {"root": "data/shapes", "shapes": {"images": 10, "size": 80}},
        "space": {"name": "nas_fpn", "repeats": 2},
        "strategy": {"name": "random"},
        "search": {"trials": 4},
    }
    return experiment_from_dict({**table, **tables}, where="here")


def test_a_search_end_to_end() -> None:
    events: list[Progress] = []
    prepared: list[tuple[str, int, int]] = []
    result = search(make(seed=3), "q", on_event=events.append, on_prepare=lambda *what: prepared.append(what))
    space = load_space("nas_fpn", repeats=2)
    with Study.read("q") as study:
        trials, best = study.trials(), study.best()
        assert study_experiment(study) == make(seed=3)
    assert len(trials) == 4 and all(t.measurement and t.measurement.seed == 3 for t in trials)
    rewards = [reward(space.decode(t.choices), 3) for t in trials]
    assert [t.measurement and t.measurement.reward for t in trials] == rewards
    assert best is not None and best.number == rewards.index(max(rewards))
    assert result.graph is not None and result.graph.key() == best.graph_key
    assert NeckGraph.from_json(Path("q/best.json").read_text()).key() == best.graph_key
    assert f"trial {best.number} of q" in Path("q/best.svg").read_text()
    assert (result.summary.reason, result.summary.measured, result.folder) == ("budget", 4, Path("q"))
    assert [(e.trial.number, e.trial.state) for e in events] == [
        (n, state) for n in range(4) for state in (None, State.OK)
    ]
    assert [e.best and e.best.measurement and e.best.measurement.reward for e in events[1::2]] == [
        max(rewards[: n + 1]) for n in range(4)
    ]
    assert prepared == [("work", 1, 1)]


def test_candidates_in_turns() -> None:
    events: list[Progress] = []
    warnings: list[str] = []
    result = search(make(resources={"together": 3}), "q", on_event=events.append, on_warning=warnings.append)
    assert [w for w in warnings if w.startswith("resources.together 3 saves time with proxy.fidelity 'frozen' alone")]
    # Three are begun before the first of them ends; then there is room for one more.
    batches = [*((n, None) for n in range(3)), *((n, State.OK) for n in (1, 2, 0)), (3, None), (3, State.OK)]
    assert [(e.trial.number, e.trial.state) for e in events] == batches
    with Study.read("q") as study:
        together = [trial.measurement for trial in study.trials()]
    search(make(), "p")
    with Study.read("p") as study:
        assert [trial.measurement for trial in study.trials()] == together
    more = make(resources={"together": 2}, search={"trials": 5})
    assert search(more, "q", resume_study=True).summary.measured == 5
    assert result.summary.measured == 4


def test_best_is_on_disk_as_soon_as_it_is_known() -> None:
    """Before the user hears of a trial, its drawing and graph are there."""

    def look(progress: Progress) -> None:
        if progress.trial.state is not None:
            assert progress.best is not None
            assert NeckGraph.from_json(Path("q/best.json").read_text()).key() == progress.best.graph_key

    search(make(), "q", on_event=look)


def test_a_search_goes_on_with_another_library_for_ap() -> None:
    search(make(search={"trials": 2}), "q")
    changed = make(search={"trials": 3}, proxy={"ap_backend": "pycocotools"})
    assert search(changed, "q", resume_study=True).summary.measured == 3


def test_warm_starts_come_first_and_once() -> None:
    experiment = make(search={"trials": 3, "warm": ["nas_fpn", "nas_fpn"]})
    search(experiment, "q")
    with Study.read("q") as study:
        trials = study.trials()
    space = load_space("nas_fpn", repeats=2)
    from nasneck import necks

    assert [t.source for t in trials] == ["warm", "strategy", "strategy"]
    assert trials[0].graph_key == necks.nas_fpn(repeats=2).key() == space.decode(trials[0].choices).key()
    search(make(search={"trials": 5, "warm": ["nas_fpn"]}), "q", resume_study=True)
    with Study.read("q") as study:
        assert [t.source for t in study.trials()] == ["warm"] + ["strategy"] * 4


def test_all_failures_leave_no_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTask, "measures", staticmethod(lambda graph, seed: Measurement(State.OOM, text="no room")))
    result = search(make(), "q")
    assert result.graph is None and result.summary.failed == 4
    assert not Path("q/best.json").exists()
    assert Path("q/trials.csv").read_text().count("no room") == 4


def test_ctrl_c_keeps_what_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def measure(graph: NeckGraph, seed: int) -> Measurement:
        calls.append(seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return Measurement(State.OK, reward=reward(graph, seed), seconds=0.0)

    monkeypatch.setattr(FakeTask, "measures", staticmethod(measure))
    broken = search(make(), "q")
    assert broken.summary.interrupted and broken.summary.measured == 2
    assert Path("q/trials.csv").read_text().count("running") == 1
    search(make(), "q", resume_study=True)
    search(make(), "unbroken")
    with Study.read("q") as one, Study.read("unbroken") as other:
        assert [t.choices for t in one.trials()] == [t.choices for t in other.trials()]


def test_orphans_of_a_killed_search_are_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[NeckGraph] = []

    def measure(graph: NeckGraph, seed: int) -> Measurement:
        calls.append(graph)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return Measurement(State.OK, reward=reward(graph, seed), seconds=0.0)

    monkeypatch.setattr(FakeTask, "measures", staticmethod(measure))
    search(make(), "q")
    with Study.read("q") as study:
        (waiting,) = study.in_flight()
    key = search_key({"seed": 0, "device": "fake"}, calls[1])
    done = Measurement(State.OK, reward=0.125, text="by a worker")
    Spool.create(Path("q") / FOLDER).put(waiting.number, waiting.choices, key, done)
    result = search(make(), "q", resume_study=True)
    assert result.summary.measured == 4 and len(calls) == 4
    assert all(graph.key() != calls[1].key() for graph in calls[2:])
    with Study.read("q") as study:
        assert study.trial(waiting.number).measurement == done


@pytest.mark.parametrize("error", [ConfigError("does not fit"), RuntimeError("a bug"), MemoryError()])
def test_preparation_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(FakeTask, "fails", error)
    with pytest.raises(type(error)):
        search(make(), "q")
    assert not Path("q").exists()
    Path("q/store").mkdir(parents=True)
    Path("q/store/weights").write_text("hours of work")
    with pytest.raises(type(error)):
        search(make(), "q")
    assert sorted(str(path) for path in Path("q").rglob("*")) == ["q/store", "q/store/weights"]


def test_preparation_that_fails_keeps_a_study_that_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    search(make(), "q")
    monkeypatch.setattr(FakeTask, "fails", RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        search(make(), "q", resume_study=True)
    with Study.read("q") as study:
        assert len(study.trials()) == 4


@pytest.mark.parametrize(
    ("tables", "error", "match"),
    [
        ({"space": {"name": "nas_fpm"}}, SpaceError, "no search space 'nas_fpm'"),
        ({"strategy": {"name": "rundom"}}, ConfigError, "unknown strategy 'rundom'; did you mean 'random'"),
        ({"strategy": {"name": "random", "heat": 1}}, ConfigError, "unknown setting 'heat'"),
        ({"search": {"warm": ["fnp"]}}, ConfigError, r"\[search\] warm: unknown neck 'fnp'; did you mean 'fpn'"),
        ({"search": {"warm": ["fpn"]}}, ConfigError, "'fpn' is not a neck that repeats, so it is not in the space"),
        ({"search": {"warm": ["bifpn"]}}, SpaceError, "not in the space"),
        (
            {"strategy": {"name": "optuna", "sampler": "nsgaii", "objectives": 2}},
            ConfigError,
            r"objectives 2, but \[objective\] has 1 names; leave it out",
        ),
        ({"device": "tpu"}, DeviceError, "'tpu'"),
    ],
)
def test_mistakes_are_found_before_data_are_made(tables: dict[str, Any], error: type[NasneckError], match: str) -> None:
    with pytest.raises(error, match=match):
        search(make(**tables), "q")
    assert not list(Path().iterdir())


def test_folders() -> None:
    with pytest.raises(StudyError, match="q: holds no study"):
        search(make(), "q", resume_study=True)
    Path("q").write_text("mine")
    with pytest.raises(ConfigError, match="q: cannot be made a folder"):
        search(make(), "q")
    Path("q").unlink()
    search(make(), "q")
    with pytest.raises(StudyError, match="q: already holds a study; go on with it"):
        search(make(), "q")


def test_rewards_of_another_origin_are_not_mixed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    search(make(), "q")
    monkeypatch.setattr(FakeTask, "bfloat16", True)
    with pytest.raises(StudyError, match=r"another experiment: computed\.bfloat16 was false, is true"):
        search(make(), "q", resume_study=True)


# -- spaces ------------------------------------------------------------------------------------------------


def own_space(depth: int = 1) -> SearchSpace:
    """For the experiment of a user: ``tests.module:own_space``."""
    return load_space("nas_fpn", repeats=depth)


def test_space_of_an_experiment_has_its_levels() -> None:
    space = build_space(Choice("nas_fpn", {"repeats": 1, "intermediate_levels": [4, 5]}), NeckConfig((3, 5), (3, 6)))
    graph = space.decode((0,) * len(space.decisions))
    assert (graph.input_levels, graph.output_levels) == ((3, 4, 5), (3, 4, 5, 6))
    with pytest.raises(SpaceError, match=r"has inputs \[3, 4, 5\] and levels \[3, 4, 5, 6, 7\], the experiment's"):
        build_space(Choice("nas_fpn", {"levels": [3, 7]}), NeckConfig((3, 5), (3, 6)))


def test_space_from_a_function() -> None:
    space = build_space(Choice(f"{__name__}:own_space", {"depth": 2}), NeckConfig())
    graph = space.decode((0,) * len(space.decisions))
    assert graph.key() == load_space("nas_fpn", repeats=2).decode((0,) * len(space.decisions)).key()
    with pytest.raises(SpaceError, match=r"'.*:own_space' has inputs \[3, 4, 5\]"):
        build_space(Choice(f"{__name__}:own_space"), NeckConfig((4, 5), (4, 7)))
    with pytest.raises(SpaceError, match="unexpected keyword argument 'wide'"):
        build_space(Choice(f"{__name__}:own_space", {"wide": 1}), NeckConfig())


def test_a_study_of_an_older_version_goes_on() -> None:
    search(make(), "q")
    with Study.open("q") as study:
        table = study.experiment
        for name in ("objective", "halving", "confirm"):
            del table[name]
        study._db.execute("UPDATE meta SET value = ? WHERE key = 'experiment'", (json.dumps(table),))
    assert search(make(search={"trials": 5}), "q", resume_study=True).summary.measured == 5
    with pytest.raises(StudyError, match=r"halving\.steps was \[\], is \[9\]"):
        search(make(halving={"steps": [9]}, search={"trials": 6}), "q", resume_study=True)
