"""What a training step costs each way: from scratch, with a frozen backbone, with stored features.

    python experiments/step_speed.py [--rounds 9]     # about ten minutes on one core; OMP_NUM_THREADS=1

The network that NAS-FPN published, stacked once, with the light head on 128 px, 16 images a step. Time is that of a
candidate and step: candidates of the ``frozen`` fidelity that take turns share the backbone's passes. The naive way is
from scratch, in float32 and torch's own layout; elsewhere channels lie last, as they do in searches. ``float32`` ways
compute in that, the others in bfloat16 where the processor does. Images are read and augmented beforehand, unless the
way says so. All ways take turns within a round, and ratios are those of a round: a busy machine slows all. The rows go
to ``experiments/results/step_speed.csv``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Literal
from unittest.mock import patch

import together
import torch
from strategies import RESULTS
from torch import Tensor

from nasneck import necks
from nasneck.data.config import DataConfig, load_data
from nasneck.data.shapes import ShapesConfig
from nasneck.data.split import DetectionData
from nasneck.device import describe_device
from nasneck.proxy import AugmentConfig, BackboneConfig, NeckConfig, ProxyTask, TrainConfig, proxy_config
from nasneck.proxy.fit import Fit
from nasneck.proxy.views import Target, Views
from nasneck.rows import write_csv

IMAGES = 64
STEPS = 100_000 // 16  # more than a run makes
BLOCK_S = 1.0  # of a way in a round, about


@dataclass(frozen=True)
class Setting:
    """A backbone and a width of the neck; ``bound`` is what stored features should save at least, in float32."""

    backbone: str
    width: int
    channels: int
    bound: float


@dataclass(frozen=True)
class Way:
    """How candidates are trained."""

    fidelity: Literal["scratch", "frozen", "cached"]
    together: int = 1
    float32: bool = False
    channels_last: bool = True
    reads: bool = False


SETTINGS = (Setting("resnet10", 32, 48, 3.5), Setting("resnet18", 64, 64, 9.0))
NAIVE = Way("scratch", float32=True, channels_last=False)
STORED = Way("cached", float32=True)  # has the bound
WAYS = (
    NAIVE,
    replace(NAIVE, reads=True),
    Way("scratch", float32=True),
    Way("scratch"),
    *(Way("frozen", count, float32=True) for count in (1, 2, 4, 8)),
    Way("frozen", 4),
    STORED,
    Way("cached"),
)


class Remembered(Views):
    """Each image is read and augmented once."""

    known: Mapping[int, tuple[Tensor, Target]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.known = {index: super(Remembered, self).__getitem__((0, index)) for index in range(len(self))}

    def __getitem__(self, address: tuple[int, int]) -> tuple[Tensor, Target]:
        return self.known[address[1]]


def task_of(way: Way, setting: Setting, data: DetectionData, store: Path) -> ProxyTask:
    """The proxy task of a way."""
    config = proxy_config({"preset": "quick"}, where="step_speed")
    config = replace(
        config,
        fidelity=way.fidelity,
        reward="loss",
        backbone=BackboneConfig(setting.backbone, setting.width),
        augment=AugmentConfig(views=1),
        train=TrainConfig(steps=STEPS, learning_rate=0.0015, schedule="constant"),
        backbone_train=TrainConfig(steps=1),
        amp="off" if way.float32 else "auto",
        channels_last=way.channels_last,
    )
    return ProxyTask(config, NeckConfig(channels=setting.channels), data, store=store, device="cpu")


@contextmanager
def fits(way: Way, task: ProxyTask) -> Iterator[list[Fit]]:
    """Trainings that are ready to begin."""
    with ExitStack() as stack:
        if not way.reads:
            stack.enter_context(patch("nasneck.proxy.scratch.Views", Remembered))
            stack.enter_context(patch("nasneck.proxy.frozen.Views", Remembered))
        graphs = [necks.nas_fpn(repeats=1)] * way.together
        yield stack.enter_context(together.fits(task, graphs, steps=STEPS))


def seconds(made: list[Fit], steps: int) -> float:
    """Of the process on the CPU, a candidate and step, as they take turns."""
    begin = time.process_time()
    for _ in range(steps):
        for fit in made:
            fit.advance(fit.done + 1)
    return (time.process_time() - begin) / len(made) / steps


def measure(
    setting: Setting, data: DetectionData, *, rounds: int, ways: tuple[Way, ...] = WAYS
) -> list[dict[str, Any]]:
    """A row for each way; two rounds at least.

    Args:
        setting: Backbone and neck.
        data: To train on.
        rounds: So often each way is timed.
        ways: With the naive one first.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        trainings = {}
        for way in ways:
            task = task_of(way, setting, data, Path(folder) / f"{way.float32}")
            trainings[way] = stack.enter_context(fits(way, task))
        blocks = {}
        for way, made in trainings.items():
            first = min(seconds(made, 1) for _ in range(2))
            blocks[way] = max(1, round(BLOCK_S / first / len(made)))
        times: dict[Way, list[float]] = {way: [] for way in ways}
        for turn in range(rounds):
            for way in ways[:: 1 if turn % 2 else -1]:
                times[way].append(seconds(trainings[way], blocks[way]))
    return [row(setting, way, times[way], times[ways[0]]) for way in ways]


def row(setting: Setting, way: Way, own: list[float], naive: list[float]) -> dict[str, Any]:
    """How many times as fast as the naive way."""
    low, middle, high = quantiles([there / here for there, here in zip(naive, own, strict=True)], n=4)
    return {
        "backbone": setting.backbone,
        "width": setting.width,
        "channels": setting.channels,
        "fidelity": way.fidelity,
        "together": way.together,
        "float32": way.float32,
        "channels_last": way.channels_last,
        "reads": way.reads,
        "step_ms": round(1000 * median(own), 2),
        "times": round(middle, 3),
        "times_low": round(low, 3),
        "times_high": round(high, 3),
        "bound": setting.bound if way == STORED else None,
        "rounds": len(own),
        "device": describe_device(torch.device("cpu")),
    }


def generated(folder: Path) -> DetectionData:
    """Some generated images."""
    shapes = ShapesConfig(images=IMAGES + 16, size=128, val_fraction=0.2)
    return load_data(DataConfig(root=str(folder), shapes=shapes, reward_images=1))


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = generated(Path(folder) / "shapes")
        for setting in SETTINGS:
            for found in measure(setting, data, rounds=given.rounds):
                rows.append(found)
                print(found, flush=True)
    print(write_csv(RESULTS / "step_speed.csv", rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
