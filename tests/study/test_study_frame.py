"""A study as a table of pandas: its rows, its columns, their kinds."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nasneck.decision import Decision
from nasneck.study import Study
from nasneck.trial import Ask, Measurement, Outcome, State

DECISIONS = (Decision("cell0.inputs", 5, "inputs"), Decision("cell0.op", 2, "op"), Decision("seed", 3, "order"))
FULL = Measurement(
    State.OK,
    reward=0.25,
    ap=0.25,
    ap_small=-1.0,
    loss=1.5,
    parameters=2**60 + 1,  # more than a float can tell from its neighbour
    macs=5,
    latency_ms=3.25,
    image_size=(64, 96),
    seconds=2.0,
    seed=7,
    steps=20,
    device="cpu: x",
)


def filled(folder: Path, decisions: tuple[Decision, ...] = DECISIONS) -> Study:
    study = Study.create(folder, experiment={}, seed=0, decisions=decisions)
    for number in range(4):
        source = "warm" if number == 0 else "strategy"
        study.asked(Ask(number, (number, number % 2, 2)), graph_key="" if number == 2 else f"g{number}", source=source)
    study.told(2, Outcome((), State.OOM), Measurement(State.OOM, text="full"), cache_key="k2")
    study.told(0, Outcome((0.5,)), FULL, cache_key="k0")
    copy = dataclasses.replace(FULL, state=State.CACHED, seconds=0.0, text="equal to trial 0")
    study.told(1, Outcome((0.5,), State.CACHED), copy, cache_key="k0")
    return study


def test_one_row_a_trial(tmp_path: Path) -> None:
    with filled(tmp_path) as study:
        frame = study.frame()
        pd.testing.assert_frame_equal(frame, study.frame())
    with Study.read(tmp_path) as reader:
        pd.testing.assert_frame_equal(frame, reader.frame())
        trials = reader.trials()
    assert list(frame["number"]) == [0, 1, 2, 3]
    assert list(frame["source"]) == ["warm", "strategy", "strategy", "strategy"]
    assert list(frame["state"]) == ["ok", "cached", "oom", "running"]
    assert list(frame["graph_key"]) == ["g0", "g1", "", "g3"]
    assert list(frame["cached"]) == [False, True, False, False]
    assert frame["duplicate_of"].tolist() == [pd.NA, 0, pd.NA, pd.NA]
    assert frame["parameters"].tolist() == [2**60 + 1, 2**60 + 1, pd.NA, pd.NA]
    assert frame["text"].tolist() == ["", "equal to trial 0", "full", pd.NA]
    assert frame["steps"].tolist() == [20, 20, 0, pd.NA]
    assert list(frame["image_size"]) == [(64, 96), (64, 96), None, None]
    np.testing.assert_array_equal(frame["objective"], [0.5, 0.5, np.nan, np.nan])
    np.testing.assert_array_equal(frame["reward"], [0.25, 0.25, np.nan, np.nan])
    np.testing.assert_array_equal(frame["ap_small"], [-1.0, -1.0, np.nan, np.nan])
    assert list(frame["cell0.inputs"]) == [0, 1, 2, 3] and list(frame["cell0.op"]) == [0, 1, 0, 1]
    assert list(frame["seed"][:2]) == [7, 7] and list(frame["decision.seed"]) == [2] * 4
    started = [moment.timestamp() for moment in frame["started"]]
    assert started == pytest.approx([trial.started for trial in trials], abs=1e-6)
    assert abs(frame["started"][0] - datetime.now(UTC)).total_seconds() < 60
    assert list(frame["ended"].isna()) == [False, False, False, True]
    assert (frame["ended"].dropna() >= frame["started"][:3]).all() and frame["ended"][0] > frame["ended"][2]


KINDS = {
    "number": "int64",
    "source": "string",
    "state": "string",
    "started": "datetime64[us, UTC]",
    "ended": "datetime64[us, UTC]",
    "graph_key": "string",
    "cached": "bool",
    "duplicate_of": "Int64",
    "objective": "float64",
    "reward": "float64",
    "reward_kind": "string",
    "ap": "float64",
    "parameters": "Int64",
    "macs": "Int64",
    "latency_ms": "float64",
    "image_size": "object",
    "seconds": "float64",
    "seed": "Int64",
    "steps": "Int64",
    "device": "string",
    "text": "string",
    "cell0.inputs": "Int64",
    "decision.seed": "Int64",
}


@pytest.mark.parametrize("trials", ["some", "none"])
def test_kinds_of_columns_do_not_depend_on_the_rows(tmp_path: Path, trials: str) -> None:
    if trials == "some":
        filled(tmp_path).close()
    else:
        Study.create(tmp_path, experiment={}, seed=0, decisions=DECISIONS).close()
    with Study.read(tmp_path) as study:
        frame = study.frame()
    found = {name: str(kind) for name, kind in frame.dtypes.items()}
    assert {name: found.get(name) for name in KINDS} == KINDS
    fields = {field.name for field in dataclasses.fields(Measurement)} - {"state"}
    columns = {"number", "source", "state", "started", "ended", "graph_key", "cached", "duplicate_of", "objective"}
    assert set(found) == columns | fields | {"cell0.inputs", "cell0.op", "decision.seed"}
    assert list(found)[-3:] == ["cell0.inputs", "cell0.op", "decision.seed"]


def test_a_study_that_does_not_name_its_decisions(tmp_path: Path) -> None:
    with filled(tmp_path, decisions=()) as study:
        frame = study.frame()
    assert list(frame.columns[-3:]) == ["choice0", "choice1", "choice2"]
    assert list(frame["choice0"]) == [0, 1, 2, 3]
