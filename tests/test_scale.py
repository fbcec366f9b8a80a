"""The pieces of ``experiments/scale.py`` run, at sizes that take seconds, and its table says what they found."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("PYTHONPATH", "RAY_worker_niceness"):  # restored afterwards, whatever becomes of them
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.syspath_prepend(EXPERIMENTS)
    module = importlib.import_module("scale")
    monkeypatch.setattr(module, "EVERY", 1)
    monkeypatch.setattr(module, "STOPS", 2)
    monkeypatch.setattr("overhead.SNAPSHOT_EVERY", 2)
    return module


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sizes(rows: list[dict[str, Any]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row in rows:
        assert row["value"] > 0 and row["per_unit"] > 0
        found.setdefault(row["what"], []).append(row["size"])
    return found


def test_candidates(scale: Any, tmp_path: Path) -> None:
    rows = list(scale.candidates(tmp_path, 0, sizes=(10, 20)))
    assert sizes(rows) == {
        f"search with {name}, no evaluation": [10, 20] for name in ("random", "evolution", "controller")
    }
    assert list(tmp_path.iterdir()) == [], "studies are gone"


def test_images_pixels_and_cells(scale: Any, tmp_path: Path) -> None:
    rows = list(scale.images(tmp_path, 0, sizes=(4, 8)))
    assert list(sizes(rows).values()) == [[4, 8]] * 3
    memory = [row["value"] for row in rows if row["what"].startswith("memory")]
    assert memory[1] == pytest.approx(2 * memory[0], rel=0.05), "with some bytes for each file"
    rows = list(scale.pixels(tmp_path, 0, sizes=(64, 128), count=8))
    macs = [row["value"] for row in rows if row["what"].startswith("multiply-adds")]
    assert macs[1] == pytest.approx(4 * macs[0], rel=0.1)
    rows = list(scale.cells(tmp_path, 0, sizes=(2, 4), count=8, graphs=2, trained=1))
    assert list(sizes(rows).values()) == [[2, 4]] * 4
    macs = [row["value"] for row in rows if row["what"].startswith("multiply-adds")]
    assert macs[1] > macs[0]


@pytest.mark.slow
@pytest.mark.long
def test_workers(scale: Any, tmp_path: Path) -> None:
    rows = list(scale.workers(tmp_path, 0, trials=2, images=24, steps=1, counts=(1,)))
    names = {
        f"{what}, {where}"
        for what in ("candidates an hour", "wait for the first result")
        for where in ("in the process", "Ray Tune")
    }
    assert sizes(rows) == {name: [1] for name in names}


def test_growth_is_since_the_row_before_of_the_same(scale: Any) -> None:
    rows = [scale.row(what, size, 2.0 * size, "s", per="x") for size in (1, 3, 12) for what in "ab"]
    grown = scale.with_growth(rows)
    assert [row["growth"] for row in grown] == [None, None, 3, 3, 4, 4]
    assert [row["size_growth"] for row in grown] == [None, None, 3, 3, 4, 4]
    assert all(row["per_unit"] == 2 for row in grown)


def test_the_table_and_the_plan(scale: Any, tmp_path: Path) -> None:
    table = importlib.import_module("scale_table")
    assert table.scale_section(tmp_path / "none.csv") == ""
    rows = [
        scale.row("candidates an hour, in the process", 1, 720.0, "1/h", per="worker"),
        scale.row("wait for the first result, Ray Tune", 2, 12.0, "s", per="search", count=1),
        scale.row("training step, by images", 500, 40.0, "ms", per="step", count=1),
        scale.row("memory of features", 250, 50.0, "MiB", per="image"),
        scale.row("memory of features", 500, 100.0, "MiB", per="image"),
        scale.row("features of generated images", 500, 5.0, "s", per="image"),
    ]
    made = {"device": "cpu: test", "command": "scale.py", "commit": "0123"}
    pd.DataFrame([{**row, **made} for row in scale.with_growth(rows)]).to_csv(tmp_path / "scale.csv")
    text = table.scale_section(tmp_path / "scale.csv")
    assert "| memory of features | 250 | 50 MiB | 0.2 MiB / image |  |" in text
    assert "|  | 500 | 100 MiB | 0.2 MiB / image | 2.00 (2) |" in text
    assert "| 8 | 8 | 5,760 / 28,800 |" in text, "720 candidates an hour last 5 s each"
    assert "Commit 0123" in text and "Estimates" in text
