"""Convolutions of a neck's inference form by the library that is faster for them. They need torch alone.

On a CPU torch computes 1x1 convolutions on one thread and those of small maps as matrix products by MKL, and the others
by oneDNN. The classes here are laid over ``nn.Conv2d``: they have its parameters, and do as it does wherever float32 is
not computed eagerly on a CPU.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import is_tracing  # type: ignore[attr-defined]
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

# From this width on, a product that comes with channels last is faster than transposing what the other gives, and
# oneDNN gains more on a feature than it loses by taking that into its own layout.
_WIDE = 128
# Below so many cells or multiply-adds, oneDNN takes longer to start than is to be gained: up to 6 times as long.
_CELLS = 256
_MACS = 2**23


class Lateral(nn.Conv2d):
    """A 1x1 convolution of a feature, whose result has channels last without being transposed.

    It is the product that torch computes, with its factors exchanged: 0.87 to 1.01 of the time, and one map less.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Of (1, in_channels, H, W) in torch's own layout; anything else as ``nn.Conv2d`` does."""
        # With more threads torch takes oneDNN, which may be the faster library.
        if not _is_eager(input) or torch.get_num_threads() > 1 or input.shape[0] != 1 or not input.is_contiguous():
            return super().forward(input)
        weight, bias = self.weight, self.bias
        if bias is None or not _is_plain(input, weight):
            return super().forward(input)
        _, channels, height, width = input.shape
        cells = torch.addmm(bias, input.view(channels, height * width).t(), weight.view(-1, channels).t())
        return cells.view(1, height, width, -1).permute(0, 3, 1, 2)


class Direct(nn.Conv2d):
    """A convolution by oneDNN also where torch would take a matrix product."""

    def forward(self, input: Tensor) -> Tensor:
        """As ``nn.Conv2d`` does."""
        # What small maps ask first is cheap: they take a few microseconds.
        if not _is_eager(input) or (cells := input.numel() // self.in_channels) < _CELLS:
            return super().forward(input)
        weight = self.weight
        if cells * weight.numel() < _MACS or not _is_plain(input, weight) or not _has_onednn():
            return super().forward(input)
        padding: Any = self.padding  # no text, see choose
        return torch.mkldnn_convolution(  # type: ignore[attr-defined]
            input, weight, self.bias, padding, self.stride, self.dilation, self.groups
        )


def choose(conv: nn.Conv2d, *, of_feature: bool) -> None:
    """Make ``conv`` one of the classes above where that is faster on this machine."""
    if type(conv) is not nn.Conv2d or conv.groups > 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return
    pointwise = conv.kernel_size == (1, 1)
    if pointwise and conv.out_channels < _WIDE:
        return
    if products_are_slow():
        conv.__class__ = Direct
    elif pointwise and of_feature and conv.stride == (1, 1) and conv.padding == (0, 0):
        conv.__class__ = Lateral


@functools.cache
def products_are_slow() -> bool:
    """Whether matrix products take much longer here than the same by oneDNN; measured once, in about 20 ms.

    So it is where MKL keeps to AVX2 and oneDNN does not, which gives it half the speed; MKL chooses by the maker, too.
    """
    if not _has_onednn():
        return False
    side, width = 32, 256
    x = torch.ones(1, width, side, side).contiguous(memory_format=torch.channels_last)
    weight = torch.ones(width, width, 1, 1)
    cells, factor = x.permute(0, 2, 3, 1).view(-1, width), weight.view(width, width).t()
    product, direct = _least_seconds(
        lambda: torch.mm(cells, factor),
        lambda: torch.mkldnn_convolution(x, weight, None, (0, 0), (1, 1), (1, 1), 1),  # type: ignore[attr-defined]
    )
    return direct < 0.75 * product


def _least_seconds(*runs: Callable[[], Tensor], rounds: int = 6) -> list[float]:
    """Of each, in turns; the thread's own time, so that a busy machine counts little."""
    least = [float("inf")] * len(runs)
    with torch.inference_mode():
        for _ in range(rounds):
            for i, run in enumerate(runs):
                start = time.thread_time()
                run()
                least[i] = min(least[i], time.thread_time() - start)
    return least


def _has_onednn() -> bool:
    """Whether there is oneDNN, and torch is allowed to take it."""
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def _is_eager(x: Tensor) -> bool:
    """Whether it is on a CPU and nothing looks at the operations."""
    if torch.compiler.is_compiling() or type(x) is not Tensor or not x.is_cpu or is_tracing():
        return False
    return x.dim() == 4 and not is_in_torch_dispatch_mode()


def _is_plain(x: Tensor, weight: Tensor) -> bool:
    """Whether float32 is computed."""
    alike = x.dtype is torch.float32 and weight.dtype is torch.float32 and weight.is_cpu
    return alike and not torch.is_autocast_enabled("cpu")
