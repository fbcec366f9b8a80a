"""``experiments/step_speed.py`` runs; how fast the ways are is not looked at here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "experiments"))

import step_speed

from nasneck.data.augment import augmented_view
from nasneck.data.split import DetectionData
from nasneck.proxy.passes import Passes


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DetectionData:
    return step_speed.generated(tmp_path_factory.mktemp("step") / "shapes")


def test_a_row_for_each_way(data: DetectionData, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = step_speed.Setting("resnet10", 8, 16, 3.5)
    ways = (step_speed.NAIVE, step_speed.Way("frozen", 2, float32=True), step_speed.STORED)
    passes = []
    original = Passes._pass
    monkeypatch.setattr(Passes, "_pass", lambda self, images: passes.append(1) or original(self, images))
    monkeypatch.setattr(step_speed, "BLOCK_S", 0.0)
    rows = step_speed.measure(setting, data, rounds=2, ways=ways)
    assert [(row["fidelity"], row["together"], row["bound"]) for row in rows] == [
        ("scratch", 1, None),
        ("frozen", 2, None),
        ("cached", 1, 3.5),
    ]
    assert rows[0]["times"] == 1 and all(row["step_ms"] > 0 and row["times"] > 0 for row in rows)
    assert len(passes) == 4, "one for the two in turns, in each of four steps"


@pytest.mark.parametrize(("reads", "count"), [(False, 0), (True, 2 * 16)])
def test_images_are_augmented_once_unless_the_way_says_so(
    data: DetectionData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: bool, count: int
) -> None:
    views = []
    monkeypatch.setattr(
        "nasneck.proxy.views.augmented_view", lambda *a, **o: views.append(1) or augmented_view(*a, **o)
    )
    way = replace(step_speed.NAIVE, reads=reads)
    task = step_speed.task_of(way, step_speed.Setting("resnet10", 8, 16, 3.5), data, tmp_path)
    with step_speed.fits(way, task) as made:
        views.clear()
        step_speed.seconds(made, 2)
    assert len(views) == count
