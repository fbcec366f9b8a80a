"""What a neck costs: parameters, multiply-adds, time."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from nasneck.cells import FrozenBatchNorm2d
from nasneck.functional import attend_cells
from nasneck.neck import Neck

_NORMS = (nn.BatchNorm2d, nn.GroupNorm, FrozenBatchNorm2d)


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
    """Multiply-adds of convolutions and matrix products for one image of (height, width) pixels.

    Papers call these FLOPs. Nothing is computed, only shapes, so this takes a few hundredths of a second at any size.
    """
    state = {name: torch.empty_like(value, device="meta") for name, value in neck.state_dict(keep_vars=True).items()}
    features = [torch.empty(shape, device="meta") for shape in feature_shapes(neck, image_size)]
    training = [module for module in neck.modules() if module.training]
    neck.eval()
    # A norm has none to count and keeps the shape, but without data torch goes through its decomposition in Python,
    # which takes as long as all the rest.
    norms: list[nn.Module] = [module for module in neck.modules() if isinstance(module, _NORMS)]
    for norm in norms:
        norm.forward = _same
    try:
        # The counter looks at every operation; where convolutions are all there is to count, hooks take half the time.
        plain = not neck.for_inference and not _has_products(neck)
        counter = _Convolutions(neck) if plain else FlopCounterMode(display=False)
        with counter, torch.no_grad():
            functional_call(neck, state, (features,))
    finally:
        for norm in norms:
            del norm.forward
        for module in training:
            module.training = True
    return counter.get_total_flops() // 2  # a multiply-add is two operations


def _same(x: Tensor) -> Tensor:
    return x


class _Convolutions:
    """Counts like torch's FlopCounterMode, convolutions alone."""

    def __init__(self, neck: Neck) -> None:
        self._modules = [module for module in neck.modules() if isinstance(module, nn.Conv2d)]
        self._total = 0

    def __enter__(self) -> None:
        self._hooks = [module.register_forward_hook(self._count) for module in self._modules]

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def get_total_flops(self) -> int:
        return self._total

    def _count(self, module: nn.Module, given: object, output: Tensor) -> None:
        weight = cast(nn.Conv2d, module).weight
        self._total += 2 * output.numel() * weight[0].numel()


def _has_products(neck: Neck) -> bool:
    return any(node.op == "call_function" and node.target is attend_cells for node in neck.body.graph.nodes)


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
