"""Convolutions of a neck's inference form by the library that is faster for them. They need torch alone.

On a CPU torch computes 1x1 convolutions on one thread and those of small maps as matrix products by MKL, and the others
by oneDNN. The functions here do as ``torch.conv2d`` does wherever float32 is not computed eagerly on a CPU.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit import is_tracing  # type: ignore[attr-defined]
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

# From this width on, a product that comes with channels last is faster than transposing what the other gives, and
# oneDNN gains more on a feature than it loses by taking that into its own layout.
_WIDE = 128
# Below so many cells or multiply-adds, oneDNN takes longer to start than is to be gained: up to 6 times as long.
_CELLS = 256
_MACS = 2**23
# And where products are nearly as fast, below so many.
_MANY_CELLS = 1024
_MANY_MACS = 2**24
# From more values on, torch takes oneDNN itself, except for 1x1 convolutions.
_SMALL = 20480

Size = tuple[int, int]


def lateral(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Size, dilation: Size, groups: int
) -> Tensor:
    """A 1x1 convolution of a feature, whose result has channels last without being transposed.

    It is the product that torch computes, with its factors exchanged: 0.87 to 1.01 of the time, and one map less. So it
    is for one image in torch's own layout; anything else goes to :func:`pointwise`. The arguments are those of
    ``torch.conv2d``.
    """
    # With more threads torch takes oneDNN, which may be the faster library.
    plain = _is_eager(x) and torch.get_num_threads() == 1 and x.shape[0] == 1 and x.is_contiguous()
    if not plain or bias is None or not _is_plain(x, weight):
        return pointwise(x, weight, bias, stride, padding, dilation, groups)
    _, channels, height, width = x.shape
    cells = torch.addmm(bias, x.view(channels, height * width).t(), weight.view(-1, channels).t())
    return cells.view(1, height, width, -1).permute(0, 3, 1, 2)


def pointwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Size, dilation: Size, groups: int
) -> Tensor:
    """A 1x1 convolution, by oneDNN where the map is large, has channels last and large products are slow.

    The arguments are those of ``torch.conv2d``.
    """
    values = 0 if torch.compiler.is_compiling() else x.numel()
    if type(values) is int and (cells := values // weight.shape[1]) >= _MANY_CELLS:
        pays = cells * weight.numel() >= _MANY_MACS and _is_eager(x) and _is_plain(x, weight)
        if pays and x.stride(1) == 1 and _has_onednn() and large_products_are_slow():
            return _by_onednn(x, weight, bias, stride, padding, dilation, groups)
    return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)


def direct(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Size, dilation: Size, groups: int
) -> Tensor:
    """A convolution by oneDNN also where ``torch.conv2d``, whose arguments these are, would take a matrix product."""
    # The common answers come first, and cheaply: this runs between kernels that take tens of microseconds.
    values = 0 if torch.compiler.is_compiling() else x.numel()
    if type(values) is int and (values <= _SMALL or weight.shape[-1] == 1):
        cells = values // weight.shape[1]
        pays = cells >= _CELLS and cells * weight.numel() >= _MACS
        if pays and _is_eager(x) and _is_plain(x, weight) and _has_onednn():
            return _by_onednn(x, weight, bias, stride, padding, dilation, groups)
    return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)


def choose(conv: nn.Conv2d, *, of_feature: bool) -> Callable[..., Tensor]:
    """The function that computes ``conv``, without padding modes, fastest on this machine, from its arguments."""
    if conv.groups > 1:
        return torch.conv2d
    if conv.kernel_size != (1, 1):
        return direct if products_are_slow() or unfolding_is_slow() else torch.conv2d
    if conv.out_channels >= _WIDE and products_are_slow():
        return direct
    other = pointwise if large_products_are_slow() else torch.conv2d  # found out here, not in the first forward pass
    plain = of_feature and conv.stride == (1, 1) and conv.padding == (0, 0)
    return lateral if plain and conv.out_channels >= _WIDE else other


@functools.cache
def products_are_slow() -> bool:
    """Whether matrix products take much longer here than the same by oneDNN; measured once, in about 20 ms.

    So it is where MKL keeps to AVX2 and oneDNN does not, which gives it half the speed; MKL chooses by the maker, too.
    """
    return _share(256, side=32) < 0.75


@functools.cache
def large_products_are_slow() -> bool:
    """Whether torch's matrix products for large maps take longer than oneDNN here; measured once, in about 5 ms.

    By 7 to 17 % on an AMD EPYC, where those for small maps do not.
    """
    return _share(64, side=64) < 0.97


@functools.cache
def unfolding_is_slow() -> bool:
    """Whether torch's own way with a small map, a product of its unfolded windows, takes longer than oneDNN here.

    By 7 % on an AMD EPYC, where MKL's products are as fast as oneDNN's. Measured once, in about 5 ms.
    """
    return _share(64, side=16, kernel=3) < 0.97


def _share(width: int, *, side: int, kernel: int = 1) -> float:
    """The time of a convolution by oneDNN over that of torch's own way on one thread, channels last."""
    if not _has_onednn():
        return math.inf
    ones = functools.partial(torch.ones, dtype=torch.float32, device="cpu")  # whatever the defaults are
    x = ones(1, width, side, side).contiguous(memory_format=torch.channels_last)
    weight = ones(width, width, kernel, kernel).contiguous(memory_format=torch.channels_last)
    padding = kernel // 2
    rows, factor = x.permute(0, 2, 3, 1).view(-1, width), weight.flatten(1).t()
    own, other = _least_seconds(
        # a product even with several threads, where torch's convolution would be oneDNN's
        lambda: torch.mm(rows, factor) if kernel == 1 else F.conv2d(x, weight, padding=padding),
        lambda: _by_onednn(x, weight, None, (1, 1), (padding, padding), (1, 1), 1),
    )
    return other / own


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


def _by_onednn(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Size, dilation: Size, groups: int
) -> Tensor:
    """``torch.conv2d`` by oneDNN; torch's function, which its type stubs lack, takes the padding first."""
    return torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)  # type: ignore[attr-defined]


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
