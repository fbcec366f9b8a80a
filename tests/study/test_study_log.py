"""The log of a study, and what is derived from it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
import torch

from nasneck.errors import ConfigError, StudyError
from nasneck.strategy import Snapshot
from nasneck.study import Asked, Study, Told
from nasneck.trial import Ask, Measurement, Outcome, State

EXPERIMENT = {"proxy": {"steps": 100, "lr": 0.1, "sizes": [3, 5]}, "search": {"trials": 8}, "seed": 1}


def new(folder: Path) -> Study:
    return Study.create(folder, experiment=EXPERIMENT, seed=1)


def ok(reward: float, **more: object) -> Measurement:
    return Measurement(State.OK, reward=reward, **more)  # type: ignore[arg-type]


def tell(study: Study, number: int, measurement: Measurement, key: str | None = None) -> None:
    values = () if measurement.reward is None else (measurement.reward,)
    study.told(number, Outcome(values, measurement.state), measurement, cache_key=key)


def test_meta(tmp_path: Path) -> None:
    with new(tmp_path / "a" / "b") as study:
        assert study.experiment == EXPERIMENT
        assert study.seed == 1
        assert study.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
        assert set(study.versions) == {"python", "torch", "nasneck", "optuna", "scipy"}
        assert study.created.endswith("+00:00")
        assert study.trials() == [] and study.best() is None and study.next_number == 0


def test_log_keeps_order_and_every_bit(tmp_path: Path) -> None:
    measurement = ok(0.1 + 0.2, ap=1 / 3, parameters=10**12, text="käse ‑ 'quoted'", device="cpu: x")
    outcome = Outcome((0.1 + 0.2, -1e-300), State.PRUNED, rung=3, text="early")
    with new(tmp_path) as study:
        study.asked(Ask(0, (1, 2, 3)), graph_key="g0", source="warm")
        study.asked(Ask(1, (4, 5, 6)), graph_key="g1")
        study.told(1, outcome, measurement, cache_key="c1")
        study.asked(Ask(2, (1, 2, 3)), graph_key="g0")
    with Study.open(tmp_path) as study:
        events = list(study.events())
        times = [event.time for event in events]
        assert times == sorted(times) and times[0] > 1.7e9
        assert events == [
            Asked(Ask(0, (1, 2, 3)), "g0", "warm", times[0]),
            Asked(Ask(1, (4, 5, 6)), "g1", "strategy", times[1]),
            Told(1, outcome, measurement, "c1", times[2]),
            Asked(Ask(2, (1, 2, 3)), "g0", "strategy", times[3]),
        ]
        assert list(study.events(after=3)) == events[3:]
        assert study.next_number == 3


def test_trials(tmp_path: Path) -> None:
    with new(tmp_path) as study:
        study.asked(Ask(0, (1, 2)), graph_key="g0", source="warm")
        study.asked(Ask(1, (0, 0)), graph_key="g1")
        tell(study, 1, Measurement(State.OOM, text="CUDA out of memory"))
        zero, one = study.trials()
        assert (zero.number, zero.choices, zero.graph_key, zero.source) == (0, (1, 2), "g0", "warm")
        assert zero.state is None and zero.measurement is None
        assert one.state is State.OOM and one.measurement == Measurement(State.OOM, text="CUDA out of memory")
        assert study.in_flight() == [zero]
        assert study.trial(1) == one


def test_best_is_the_first_of_the_highest_measured(tmp_path: Path) -> None:
    with new(tmp_path) as study:
        results = [
            Measurement(State.ERROR, text="x"),
            ok(-3.0),
            ok(-1.0),
            ok(-1.0),
            Measurement(State.CACHED, reward=9.0),
            Measurement(State.PRUNED, reward=5.0),
        ]
        for number, result in enumerate(results):
            study.asked(Ask(number, (0,)), graph_key="g")
            tell(study, number, result)
        best = study.best()
        assert best is not None and best.number == 2


def test_measurements_that_can_be_used_again(tmp_path: Path) -> None:
    again = {State.OK, State.NAN, State.REJECTED, State.PRUNED}
    with new(tmp_path) as study:
        for number, state in enumerate(State):
            study.asked(Ask(number, (number,)), graph_key="g")
            tell(study, number, Measurement(state, reward=None, text=str(number)), f"key-{state}")
        for number, state in enumerate(State):
            found = study.measurement(f"key-{state}")
            assert (found is not None) == (state in again)
            if found:
                assert found.text == str(number)
        assert study.measurement("unknown") is None


def test_first_measurement_of_a_key_stands(tmp_path: Path) -> None:
    with new(tmp_path) as study:
        for number, (state, reward) in enumerate(
            [(State.ERROR, None), (State.OK, 0.3), (State.CACHED, 0.3), (State.OK, 0.4)]
        ):
            study.asked(Ask(number, (0,)), graph_key="g")
            tell(study, number, Measurement(state, reward=reward), "same")
        trial = study.measured_as("same")
        assert trial is not None and trial.number == 1


def test_wrong_calls(tmp_path: Path) -> None:
    with new(tmp_path) as study:
        with pytest.raises(StudyError, match="trial 1 asked, but 0 is next"):
            study.asked(Ask(1, (0,)), graph_key="g")
        with pytest.raises(StudyError, match=r"trial 0 was never asked \(0 asks so far\)"):
            tell(study, 0, ok(0.1))
        study.asked(Ask(0, (0,)), graph_key="g")
        tell(study, 0, ok(0.1))
        with pytest.raises(StudyError, match=r"trial 0 already has a result \(ok\)"):
            tell(study, 0, ok(0.2))
        assert [trial.measurement for trial in study.trials()] == [ok(0.1)]
    with pytest.raises(StudyError, match="closed database"):
        study.trials()


def test_snapshot_round_trip(tmp_path: Path) -> None:
    with new(tmp_path) as study:
        assert study.latest_snapshot() is None
        study.keep_snapshot(Snapshot({"n": 0}))
        assert study.latest_snapshot() == (0, Snapshot({"n": 0}))
        study.asked(Ask(0, (0,)), graph_key="g")
        tensors = {"w": torch.tensor([0.1], dtype=torch.float64), "step": torch.tensor(3.0)}
        study.keep_snapshot(Snapshot({"n": [1, 0.1]}, tensors))
    with Study.open(tmp_path) as study:
        stored = study.latest_snapshot()
        assert stored is not None
        event, snapshot = stored
        assert event == 1 and snapshot.data == {"n": [1, 0.1]}
        assert snapshot.tensors.keys() == tensors.keys()
        assert all(torch.equal(snapshot.tensors[name], tensors[name]) for name in tensors)


def test_file_is_durable_and_plain_sqlite(tmp_path: Path) -> None:
    with new(tmp_path) as study:
        study.asked(Ask(0, (7,)), graph_key="g")
        assert study._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert study._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    db = sqlite3.connect(tmp_path / "study.sqlite")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert json.loads(db.execute("SELECT choices FROM event").fetchone()[0]) == [7]
    db.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.lock", "study.sqlite"]


def test_experiment_has_to_be_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be stored as JSON"):
        Study.create(tmp_path / "x", experiment={"a": object()}, seed=0)
    assert not (tmp_path / "x").exists()
