"""The cases of ``experiments/speed.py`` run, and both sides of each give the same; how fast is not looked at here."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("effdet")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "experiments"))

import speed
import speed_cases

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.mark.parametrize("case", speed_cases.CASES, ids=lambda c: f"{c.name} {c.against} {c.pixels}")
def test_cases(case: speed_cases.Case) -> None:
    row = speed.measure(replace(case, pixels=128, channels=16), rounds=2, seconds=0)
    assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"] and row["ratio"] > 0
    assert (row["deviation"] is None) == (case.against == "peak")
    assert row["in_channels"] == "512 1024 2048" and row["device"].startswith("cpu: ")


def test_sides_that_differ_are_noticed() -> None:
    def differ(pixels: int, channels: int, device: torch.device) -> speed_cases.Sides:
        x = torch.ones(1, channels, pixels, pixels)
        return speed_cases.Sides(lambda: [x], lambda: [x + 0.25])

    with pytest.raises(ValueError, match=r"a and b: outputs differ by 0\.2"):
        speed.measure(speed_cases.Case("a", "b", 8, 2, 1.0, differ), rounds=2, seconds=0)


def test_rows_of_other_processors_stay(tmp_path: Path) -> None:
    path = tmp_path / "speed.csv"
    assert speed.of_others(path, "cpu: a") == []
    path.write_text("case,device\nx,cpu: a\ny,cpu: b\n")
    assert speed.of_others(path, "cpu: a") == [{"case": "y", "device": "cpu: b"}]
