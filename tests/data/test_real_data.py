"""Real sets, where ``NASNECK_DATA`` names a folder that holds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nasneck.data import DataConfig, augmented_view, letterbox, load_data

SETS = {"bccd": (291, 73, 3929, 3), "aquarium": (510, 128, 3869, 7)}


@pytest.mark.parametrize("name", SETS)
def test_real_sets(real_data: Path, name: str) -> None:
    root = real_data / name
    if not root.is_dir():
        pytest.skip(f"there is no {name}")
    train, test, boxes, classes = SETS[name]
    data = load_data(DataConfig(root=str(root), reward_fraction=0.25))
    assert data.test is not None
    assert len(data.train) + len(data.reward) == train
    assert len(data.reward) == round(train * 0.25)
    assert len(data.test) == test
    assert data.train.boxes + data.reward.boxes == boxes
    assert len(data.classes) == classes
    assert data.notes == ()
    for split in (data.train, data.reward, data.test):
        image, target = split[len(split) // 2]
        assert image.dtype == torch.uint8
        assert image.shape[-2:] == target["boxes"].canvas_size
        moved, view, _ = letterbox(image, target, (256, 256))
        assert moved.shape == (3, 256, 256)
        assert len(view["boxes"]) == len(target["boxes"])
        moved, view = augmented_view(image, target, canvas=256, seed=0, jitter=(0.3, 1.2))
        assert moved.shape == (3, 256, 256)
        assert len(view["boxes"]) <= len(target["boxes"])
