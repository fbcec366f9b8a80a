"""A study as one of Optuna's: what is in the copy, and that Optuna's plots and dashboard take it."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import matplotlib
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from nasneck.decision import Decision
from nasneck.errors import ConfigError, SpaceError, StudyError
from nasneck.strategy import Strategy, make_strategy
from nasneck.study import Study, resume
from nasneck.trial import Ask, Measurement, Outcome, State

DECISIONS = (Decision("cell0.inputs", 5, "inputs"), Decision("cell0.op", 2, "op"), Decision("order", 3, "order"))


def tell(study: Study, number: int, measurement: Measurement, *, key: str | None = None, rung: int = 0) -> None:
    values = () if measurement.reward is None else (measurement.reward,)
    study.told(number, Outcome(values, measurement.state, rung=rung), measurement, cache_key=key)


def of_every_kind(folder: Path) -> Study:
    """Trials in every state, told in another order than asked; the last one is running."""
    study = Study.create(folder, experiment={"a": 1}, seed=7, decisions=DECISIONS)
    measurements = [
        (Measurement(State.OK, reward=0.25, ap=0.25, ap_small=-1.0, parameters=10**12, macs=5, seconds=1.5), "k0"),
        (Measurement(State.OOM, text="CUDA out of memory"), "k1"),
        (Measurement(State.OK, reward=0.5, ap=0.5, latency_ms=3.25, device="cpu: x"), "k1"),
        (Measurement(State.CACHED, reward=0.5, ap=0.5, text="equal to trial 2"), "k1"),
        (Measurement(State.CACHED, text="equal to trial 6 (nan: the loss)"), "k6"),
        (Measurement(State.PRUNED, reward=0.125), "k5"),
        (Measurement(State.NAN, text="the loss"), "k6"),
        (Measurement(State.REJECTED, reward=0.75), "k7"),
        (Measurement(State.TIMEOUT), "k8"),
        (Measurement(State.ERROR, text="ValueError: x"), None),
        (Measurement(State.OK, reward=float("inf")), "k10"),
    ]
    for number in range(len(measurements) + 1):
        source = "warm" if number == 0 else "strategy"
        study.asked(Ask(number, (number % 5, number % 2, number % 3)), graph_key=f"g{number}", source=source)
    for number in (6, 1, 2, *(n for n in range(len(measurements)) if n not in (6, 1, 2))):
        measurement, key = measurements[number]
        tell(study, number, measurement, key=key, rung=3)
    return study


def searched(folder: Path, trials: int = 25) -> Study:
    study = Study.create(folder, experiment={}, seed=0, decisions=DECISIONS)
    strategy = make_strategy("random", DECISIONS, seed=0)
    for _ in range(trials):
        ask = strategy.ask()
        study.asked(ask, graph_key=str(ask.choices))
        reward = 0.1 * ask.choices[0] + 0.01 * ask.choices[2]
        state = State.OOM if ask.number % 6 == 5 else State.OK
        tell(study, ask.number, Measurement(state, reward=reward if state is State.OK else None, macs=ask.number))
    study.asked(strategy.ask(), graph_key="running")
    return study


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        ({"names": ["reward", "latency"], "soft": None}, ["reward", "latency"]),
        ({"names": ["reward"], "soft": "latency"}, ["reward weighed by latency"]),
    ],
)
def test_what_was_optimised(tmp_path: Path, objective: dict[str, object], names: list[str]) -> None:
    from optuna.study import StudyDirection

    with Study.create(tmp_path, experiment={"objective": objective}, seed=7, decisions=DECISIONS) as study:
        told = [(0.5, -3.0), (0.25, -1.0), (0.4, -5.0)]
        for number, values in enumerate(told):
            study.asked(Ask(number, (0, 0, 0)), graph_key="g")
            state = State.PRUNED if number == 2 else State.OK
            outcome = Outcome(values[: len(names)], state)
            study.told(number, outcome, Measurement(state, reward=0.9), cache_key=None)
        copy = study.to_optuna()
    assert copy.metric_names == names
    assert copy.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][: len(names)]
    values = [trial.values for trial in copy.trials if trial.state is TrialState.COMPLETE]
    assert values == ([[0.5, 3.0], [0.25, 1.0]] if len(names) == 2 else [[0.5], [0.25]])
    assert len(copy.best_trials) == len(names), "both are on the front: one is better, the other one faster"


# --- decisions -------------------------------------------------------------------------------------------


def test_decisions_are_kept(tmp_path: Path) -> None:
    with Study.create(tmp_path, experiment={}, seed=0, decisions=DECISIONS) as study:
        assert study.decisions == DECISIONS
    with Study.read(tmp_path) as study:
        assert study.decisions == DECISIONS


def test_study_without_decisions(tmp_path: Path) -> None:
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        for use in (lambda: study.decisions, study.to_optuna):
            with pytest.raises(StudyError, match=r": the study says nothing of its decisions$"):
                use()


# --- what is in the copy ---------------------------------------------------------------------------------


def test_trials(tmp_path: Path) -> None:
    with of_every_kind(tmp_path / "bccd") as study:
        copy = study.to_optuna()
    assert copy.study_name == "bccd"
    assert copy.direction is optuna.study.StudyDirection.MAXIMIZE and copy.metric_names == ["reward"]
    assert copy.user_attrs == {"seed": 7, "created": study_created(tmp_path / "bccd"), "versions": VERSIONS}
    assert copy.best_trial.number == 2 and copy.best_value == 0.5
    trials = copy.trials
    assert [trial.number for trial in trials] == list(range(12))
    assert [(trial.state, trial.value, trial.intermediate_values) for trial in trials] == [
        (TrialState.COMPLETE, 0.25, {}),
        (TrialState.FAIL, None, {}),
        (TrialState.COMPLETE, 0.5, {}),
        (TrialState.COMPLETE, 0.5, {}),
        (TrialState.FAIL, None, {}),
        (TrialState.PRUNED, 0.125, {3: 0.125}),
        *[(TrialState.FAIL, None, {})] * 5,
        (TrialState.RUNNING, None, {}),
    ]
    for number, trial in enumerate(trials):
        assert trial.params == {"cell0.inputs": number % 5, "cell0.op": number % 2, "order": number % 3}
        assert trial.distributions == {d.name: CategoricalDistribution(range(d.choices)) for d in DECISIONS}


VERSIONS: dict[str, str] = {}


@pytest.fixture(autouse=True)
def versions(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not VERSIONS:
        with Study.create(tmp_path_factory.mktemp("v"), experiment={}, seed=0) as study:
            VERSIONS.update(study.versions)


def study_created(folder: Path) -> str:
    with Study.read(folder) as study:
        return study.created


def test_attributes(tmp_path: Path) -> None:
    with of_every_kind(tmp_path) as study:
        attributes = [trial.user_attrs for trial in study.to_optuna().trials]
    common = {"seed": 0, "steps": 0, "rung": 0, "attempts": 1, "split": "reward", "reward_kind": "ap"}
    assert attributes[0] == {
        **common,
        "state": "ok",
        "graph_key": "g0",
        "source": "warm",
        "ap": 0.25,
        "ap_small": -1.0,
        "parameters": 10**12,
        "macs": 5,
        "seconds": 1.5,
    }
    assert attributes[1] == {
        **common,
        "state": "oom",
        "graph_key": "g1",
        "source": "strategy",
        "text": "CUDA out of memory",
    }
    assert attributes[2]["latency_ms"] == 3.25 and attributes[2]["device"] == "cpu: x"
    states = ["ok", "oom", "ok", "cached", "cached", "pruned", "nan", "rejected", "timeout", "error", "ok", "running"]
    assert [entry["state"] for entry in attributes] == states
    # Trial 1 came first under that key, but ran out of memory: trial 2 is what 3 took over.
    assert {i: entry["duplicate_of"] for i, entry in enumerate(attributes) if "duplicate_of" in entry} == {3: 2, 4: 6}
    assert attributes[11] == {"state": "running", "graph_key": "g11", "source": "strategy"}


def test_times(tmp_path: Path) -> None:
    with of_every_kind(tmp_path) as study:
        events = list(study.events())
        trials = study.to_optuna().trials
    asked = {event.ask.number: event.time for event in events[:12]}  # type: ignore[union-attr]
    told = {event.number: event.time for event in events[12:]}  # type: ignore[union-attr]
    for trial in trials[:11]:
        assert trial.datetime_start == datetime.fromtimestamp(asked[trial.number])
        assert trial.datetime_complete == datetime.fromtimestamp(told[trial.number])
    assert trials[11].datetime_start == datetime.fromtimestamp(asked[11]) and trials[11].datetime_complete is None


def test_empty_study(tmp_path: Path) -> None:
    with Study.create(tmp_path, experiment={}, seed=0, decisions=DECISIONS) as study:
        assert study.to_optuna(study_name="other").trials == []


def test_log_of_another_space_leaves_nothing_behind(tmp_path: Path) -> None:
    storage = optuna.storages.InMemoryStorage()
    with Study.create(tmp_path, experiment={}, seed=0, decisions=DECISIONS) as study:
        study.asked(Ask(0, (0, 0, 0)), graph_key="g")
        study.asked(Ask(1, (0, 0)), graph_key="g")
        with pytest.raises(SpaceError, match="2 choices given, but the space has 3 decisions"):
            study.to_optuna(storage)
    assert storage.get_all_studies() == []


# --- where it goes ---------------------------------------------------------------------------------------


def test_storage_by_url(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    with of_every_kind(tmp_path / "s") as study:
        expected = study.to_optuna().trials
        study.to_optuna(url, "first")
        study.to_optuna(url, "second")
        with pytest.raises(StudyError) as caught:
            study.to_optuna(url, "first")
    assert str(caught.value) == "the storage already holds a study 'first'; choose another name for it"
    loaded = optuna.load_study(study_name="first", storage=url)
    assert loaded.metric_names == ["reward"]
    assert [vars_of(trial) for trial in loaded.trials] == [vars_of(trial) for trial in expected]
    assert optuna.get_all_study_names(url) == ["first", "second"]
    loaded._storage.remove_session()


def vars_of(trial: optuna.trial.FrozenTrial) -> tuple[Any, ...]:
    return (
        trial.number,
        trial.state,
        trial.value,
        trial.params,
        trial.user_attrs,
        trial.intermediate_values,
        trial.datetime_start,
        trial.datetime_complete,
    )


def test_storage_object(tmp_path: Path) -> None:
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log"))
    storage = optuna.storages.JournalStorage(backend)
    with of_every_kind(tmp_path / "s") as study:
        assert study.to_optuna(storage, "j").best_value == 0.5
    assert len(optuna.load_study(study_name="j", storage=storage).trials) == 12


@pytest.mark.parametrize("url", ["nowhere", "sqlite:////nowhere/at/all.db", "nosuch://x/y"])
def test_storages_that_cannot_be_used(tmp_path: Path, url: str) -> None:
    with of_every_kind(tmp_path) as study, pytest.raises(StudyError) as caught:
        study.to_optuna(url)
    assert str(caught.value).startswith(f"{url}: is no storage of Optuna that can be used: ")
    assert "\n" not in str(caught.value)


def test_optuna_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with of_every_kind(tmp_path) as study:
        monkeypatch.setitem(sys.modules, "optuna", None)
        with pytest.raises(ConfigError, match=r"pip install optuna$"):
            study.to_optuna()


def test_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with of_every_kind(tmp_path / "s") as study:
        study.to_optuna(f"sqlite:///{tmp_path}/optuna.db")._storage.remove_session()
    assert capfd.readouterr() == ("", "")


# --- the study itself ------------------------------------------------------------------------------------

WRITER = """\
import sys
from test_study_optuna import *
with Study.open(sys.argv[1]) as study:
    print("open", flush=True)
    number = study.next_number
    for line in sys.stdin:
        study.asked(Ask(number, (0, 0, 0)), graph_key="g")
        tell(study, number, Measurement(State.OK, reward=0.9))
        number += 1
        print(number, flush=True)
"""


def test_while_another_process_writes(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    of_every_kind(folder).close()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdin is not None and writer.stdout is not None
    try:
        assert writer.stdout.readline() == "open\n"
        with Study.read(folder) as study:
            for more in range(1, 4):
                writer.stdin.write("go\n")
                writer.stdin.flush()
                assert writer.stdout.readline() == f"{12 + more}\n"
                before = list(study.events())
                copy = study.to_optuna()
                assert len(copy.trials) == 12 + more and copy.best_value == 0.9
                copy.tell(11, 1.0)  # what happens to the copy stays there
                assert list(study.events()) == before
    finally:
        writer.stdin.close()
        assert writer.wait(20) == 0
        writer.stdout.close()


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "grid"])
def test_resume_repeats_optunas_asks(tmp_path: Path, sampler: str) -> None:
    def make() -> Strategy:
        return make_strategy("optuna", DECISIONS, seed=1, options={"sampler": sampler})

    with Study.create(tmp_path, experiment={}, seed=1, decisions=DECISIONS) as study:
        strategy = make()
        for number in range(20):
            ask = strategy.inject((4, 1, 2)) if number == 3 else strategy.ask()
            study.asked(ask, graph_key="g", source="warm" if number == 3 else "strategy")
            if number % 5 != 4:
                outcome = Outcome((0.1 * ask.choices[0],))
                study.told(number, outcome, Measurement(State.OK, reward=outcome.values[0]), cache_key=None)
                strategy.tell(number, outcome)
        resumed = resume(study, make)
        assert resumed.warning == "" and resumed.strategy.open_asks == strategy.open_asks
        assert [resumed.strategy.ask() for _ in range(9)] == [strategy.ask() for _ in range(9)]


# --- Optuna's own eyes -----------------------------------------------------------------------------------


def test_plots(tmp_path: Path) -> None:
    with searched(tmp_path) as study:
        copy = study.to_optuna()
    from optuna import visualization

    history = visualization.plot_optimization_history(copy, target_name="reward")
    points = history.data[0]  # type: ignore[attr-defined]
    assert list(points.y) == [trial.value for trial in copy.trials if trial.state is TrialState.COMPLETE]
    importances = visualization.plot_param_importances(copy)
    assert set(importances.data[0].y) == {decision.name for decision in DECISIONS}  # type: ignore[attr-defined]
    assert optuna.importance.get_param_importances(copy)["cell0.inputs"] > 0.5
    parallel = visualization.plot_parallel_coordinate(copy)
    drawn = json.dumps(parallel.to_plotly_json(), default=str)  # how it is drawn changes with the version
    assert all(decision.name in drawn for decision in DECISIONS)


def test_plots_with_matplotlib(tmp_path: Path) -> None:
    matplotlib.use("Agg")
    with searched(tmp_path) as study:
        copy = study.to_optuna()
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as visualization

    plots = (
        visualization.plot_optimization_history,
        visualization.plot_param_importances,
        visualization.plot_parallel_coordinate,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        for plot in plots:
            assert plot(copy) is not None
    pyplot.close("all")


def get(app: Any, path: str) -> tuple[str, bytes]:
    environ: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": "GET"}
    setup_testing_defaults(environ)
    status: list[str] = []
    answer = app(environ, lambda text, headers, error=None: status.append(text))
    try:
        return status[0], b"".join(answer)
    finally:
        getattr(answer, "close", lambda: None)()


def test_dashboard(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    with searched(tmp_path / "bccd") as study:
        study.to_optuna(url)._storage.remove_session()
    from optuna_dashboard import wsgi

    storage = optuna.storages.RDBStorage(url)
    app = wsgi(storage)
    try:
        status, body = get(app, "/api/studies")
        assert status.startswith("200")
        (summary,) = json.loads(body)["study_summaries"]
        assert (summary["study_name"], summary["directions"]) == ("bccd", ["maximize"])
        assert get(app, f"/dashboard/studies/{summary['study_id']}")[0].startswith("200")
        status, body = get(app, f"/api/studies/{summary['study_id']}")
        assert status.startswith("200")
        detail = json.loads(body)
        assert len(detail["trials"]) == 26
        states = [trial["state"] for trial in detail["trials"]]
        assert (states.count("Complete"), states.count("Fail"), states.count("Running")) == (21, 4, 1)
        assert {column["name"] for column in detail["intersection_search_space"]} == {d.name for d in DECISIONS}
        assert {attribute["key"] for attribute in detail["union_user_attrs"]} >= {"state", "graph_key", "macs"}
    finally:
        storage.remove_session()
        storage.engine.dispose()
