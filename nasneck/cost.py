"""What a neck costs: parameters, multiply-adds, time."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nasneck.neck import Neck


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters, each counted once however often it is used."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def feature_shapes(neck: Neck, image_size: tuple[int, int], batch: int = 1) -> list[tuple[int, int, int, int]]:
    """Shapes of the backbone features for images of (height, width) pixels, each level half, rounded up."""
    height, width = image_size
    return [
        (batch, channels, -(-height // 2**level), -(-width // 2**level)) for level, channels in neck.in_channels.items()
    ]


def count_macs(neck: Neck, image_size: tuple[int, int]) -> int:
    """Multiply-adds of convolutions for one image of (height, width) pixels; papers call these FLOPs."""
    dry = copy.deepcopy(neck).to("meta").eval()
    features = [torch.empty(shape, device="meta") for shape in feature_shapes(neck, image_size)]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        dry(features)
    return counter.get_total_flops() // 2  # the counter takes a multiply-add as two operations


def measure_latency(
    neck: Neck,
    image_size: tuple[int, int],
    *,
    device: torch.device | str = "cpu",
    runs: int = 10,
    warmup: int = 3,
) -> float:
    """Median time of a forward pass for one image, in milliseconds, on ``device``.

    The neck is measured in eval mode on a copy, with features of zeros.
    """
    device = torch.device(device)
    ready = copy.deepcopy(neck).to(device).eval()
    features = [torch.zeros(shape, device=device) for shape in feature_shapes(neck, image_size)]

    def forward() -> list[Tensor]:
        return ready(features)

    with torch.inference_mode():
        for _ in range(warmup):
            forward()
        return statistics.median(_milliseconds(forward, device) for _ in range(runs))


def _milliseconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) * 1e3
