"""A small generated data set and a proxy task that takes a second or two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nasneck.data.config import DataConfig, load_data
from nasneck.data.shapes import ShapesConfig
from nasneck.data.split import DetectionData
from nasneck.proxy import (
    AugmentConfig,
    BackboneConfig,
    DetectorConfig,
    NeckConfig,
    ProxyConfig,
    ProxyTask,
    TrainConfig,
)

TINY = ProxyConfig(
    canvas=64,
    backbone=BackboneConfig(width=8),
    detector=DetectorConfig(score_threshold=0.01),
    augment=AugmentConfig(views=2),
    train=TrainConfig(steps=12, batch_size=4),
    backbone_train=TrainConfig(steps=6, batch_size=4),
    amp="off",
)
NECK = NeckConfig(channels=16)


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> DetectionData:
    """20 training, 10 reward and 10 test images of 80 px."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    config = ShapesConfig(images=40, size=80, val_fraction=0.25, sizes=(0.1, 0.9))
    return load_data(DataConfig(root=str(root), shapes=config, reward_images=10))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that the backbone of the tiny task is trained once."""
    return tmp_path_factory.mktemp("store")


MakeTask = Callable[..., ProxyTask]


@pytest.fixture
def make_task(shapes: DetectionData, store: Path) -> MakeTask:
    def make(*, neck: NeckConfig = NECK, where: Path | None = None, **changes: Any) -> ProxyTask:
        return ProxyTask(replace(TINY, **changes), neck, shapes, store=where or store, device="cpu")

    return make


@pytest.fixture(scope="session")
def task(shapes: DetectionData, store: Path) -> ProxyTask:
    """A prepared tiny task, shared by the tests that do not change it."""
    made = ProxyTask(TINY, NECK, shapes, store=store, device="cpu")
    made.prepare()
    return made
