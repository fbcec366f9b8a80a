"""Functions without weights that compiled necks call. They need torch alone: ``export`` copies them.

Maps are (N, C, H, W). ``like`` is a map of the size wanted. None changes what it is given.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample(x: Tensor, like: Tensor) -> Tensor:
    """Nearest neighbour to the size of ``like``."""
    if not torch.jit.is_scripting():  # type: ignore[attr-defined]
        times = enlarges_plainly(x, like)
        if times:
            return x.repeat_interleave(times, dim=3).repeat_interleave(times, dim=2)
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


def enlarges_plainly(x: Tensor, like: Tensor) -> int:
    """By how much ``x`` is to be enlarged where repeating its rows and columns is faster, 0 elsewhere.

    To a height and width of together 128 cells or less, torch enlarges channels last alone and transposes other maps
    before and after: on a CPU that takes several times as long, unless there are few cells. Backward would sum in
    another order, and exported code should say what it does.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) is not Tensor:  # type: ignore[no-untyped-call]
        return 0
    if not x.is_cpu or x.requires_grad or x.dim() != 4 or x.numel() < 4096 or not x.is_contiguous():
        return 0
    height, width = like.shape[2], like.shape[3]
    if x.shape[1] == 1 or min(x.shape[2:]) < 4 or height * width < 512 or height + width > 128:
        return 0
    times = width // x.shape[3]
    whole = height == times * x.shape[2] and width == times * x.shape[3]
    return times if whole and times in (2, 4, 8) else 0  # powers of two: torch's float32 index is exact for these


def resize(x: Tensor, like: Tensor, mode: str, align_corners: bool | None = None) -> Tensor:
    """Interpolate to the size of ``like``; a map of that size passes through."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode=mode, align_corners=align_corners)


def halve(x: Tensor, octaves: int) -> Tensor:
    """Max pool with kernel = stride = 2**octaves; partial windows at the border count."""
    window = 2**octaves
    return F.max_pool2d(x, window, window, ceil_mode=True)


def shrink(x: Tensor, like: Tensor, octaves: int) -> Tensor:
    """:func:`halve` where that meets the size of ``like``, else adaptive max pooling to it."""
    window = 2**octaves
    height, width = like.shape[-2:]
    if (x.shape[-2] + window - 1) // window == height and (x.shape[-1] + window - 1) // window == width:
        return halve(x, octaves)
    return F.adaptive_max_pool2d(x, (height, width))


def pick_pooled(pooled: Tensor, x: Tensor, like: Tensor) -> Tensor:
    """What :func:`shrink` gives, when ``x`` has already been halved to ``pooled``."""
    if pooled.shape[-2:] == like.shape[-2:]:
        return pooled
    return F.adaptive_max_pool2d(x, like.shape[-2:])


def fit(x: Tensor, like: Tensor, mode: str) -> Tensor:
    """Adaptive pooling to the size of ``like``; a map of that size passes through."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    size = (like.shape[-2], like.shape[-1])
    return F.adaptive_max_pool2d(x, size) if mode == "max" else F.adaptive_avg_pool2d(x, size)


def reassemble(x: Tensor, logits: Tensor, like: Tensor, kernel: int, scale: int) -> Tensor:
    """CARAFE: each cell of the ``scale`` times larger result is a weighted sum of ``kernel`` x ``kernel`` cells.

    ``logits`` is (N, kernel**2 * scale**2, H, W); cells outside ``x`` count as zero. The result is cut to the size
    of ``like``, and resized only where it is too small for it.
    """
    n, channels, height, width = x.shape
    share = logits.view(n, kernel**2, 1, scale**2, height, width).softmax(1)
    padded = F.pad(x, [kernel // 2] * 4)
    total = torch.zeros_like(share[:, 0])
    for i in range(kernel**2):
        top, left = i // kernel, i % kernel
        total = total + padded[:, :, None, top : top + height, left : left + width] * share[:, i]
    large = F.pixel_shuffle(total.reshape(n, channels * scale**2, height, width), scale)
    return resize(large[..., : like.shape[-2], : like.shape[-1]], like, "nearest")


def pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """``value`` around ``x`` so that a window then gives ceil(n / stride) cells, as TensorFlow's SAME does."""
    pad = []
    for size in (x.shape[-1], x.shape[-2]):
        missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pad += [missing // 2, missing - missing // 2]
    return F.pad(x, pad, value=value)


def pool_same(x: Tensor, mode: str, kernel: int, stride: int) -> Tensor:
    """Pooling with TensorFlow's SAME padding: ceil(n / stride) cells, odd padding at the far side."""
    if mode == "max":
        return F.max_pool2d(pad_same(x, kernel, stride, float("-inf")), kernel, stride)
    # TensorFlow averages over the cells that exist
    counted = F.avg_pool2d(pad_same(torch.ones_like(x[:1, :1]), kernel, stride), kernel, stride)
    return F.avg_pool2d(pad_same(x, kernel, stride), kernel, stride) / counted


def adaptive_pool(x: Tensor, ratio: float, mode: str) -> Tensor:
    """Adaptive pooling to ``ratio`` of height and width, at least one cell."""
    size = (max(1, int(x.shape[-2] * ratio)), max(1, int(x.shape[-1] * ratio)))
    return F.adaptive_max_pool2d(x, size) if mode == "max" else F.adaptive_avg_pool2d(x, size)


def global_max(x: Tensor) -> Tensor:
    """Maximum over space, (N, C, 1, 1)."""
    return x.amax(dim=(-2, -1), keepdim=True)


def global_mean(x: Tensor) -> Tensor:
    """Mean over space, (N, C, 1, 1)."""
    return x.mean(dim=(-2, -1), keepdim=True)


def attend(gating: Tensor, other: Tensor, context: Tensor) -> Tensor:
    """``gating + sigmoid(context) * other``; ``context`` is the globally pooled gating map."""
    return gating + torch.sigmoid(context) * other


def gate(x: Tensor, by: Tensor) -> Tensor:
    """``x * sigmoid(by)``."""
    return x * torch.sigmoid(by)


def gate_complement(x: Tensor, by: Tensor) -> Tensor:
    """``x * (1 - sigmoid(by))``."""
    return x * (1 - torch.sigmoid(by))


def attend_cells(theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
    """Sum over all cells j of ``softmax_j(theta_i . phi_j) g_j`` for every cell i."""
    weight = torch.softmax(theta.flatten(2).transpose(1, 2) @ phi.flatten(2), dim=-1)
    return (weight @ g.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(g.shape)


def mean_of(*maps: Tensor) -> Tensor:
    """Elementwise mean."""
    total = maps[0]
    for x in maps[1:]:
        total = total + x
    return total / len(maps)


def max_of(*maps: Tensor) -> Tensor:
    """Elementwise maximum."""
    largest = maps[0]
    for x in maps[1:]:
        largest = torch.maximum(largest, x)
    return largest


def fast_normalized(weight: Tensor, eps: float, *maps: Tensor) -> Tensor:
    """Sum of the maps with weights ``relu(w) / (sum(relu(w)) + eps)``."""
    share = F.relu(weight)
    share = share / (share.sum() + eps)
    return weighted(share, *maps)


def softmax_weighted(weight: Tensor, *maps: Tensor) -> Tensor:
    """Sum of the maps with weights ``softmax(w)``."""
    return weighted(torch.softmax(weight, dim=0), *maps)


def weighted(share: Tensor, *maps: Tensor) -> Tensor:
    """Sum of ``share[i] * maps[i]``."""
    total = maps[0] * share[0]
    for i in range(1, len(maps)):
        total = total + maps[i] * share[i]
    return total


def pixel_softmax(logits: Tensor, *maps: Tensor) -> Tensor:
    """Sum of the maps with per-pixel weights, softmax over ``logits`` (N, len(maps), H, W)."""
    return pixel_weighted(torch.softmax(logits, dim=1), *maps)


def pixel_sigmoid(logits: Tensor, *maps: Tensor) -> Tensor:
    """Sum of the maps with per-pixel weights, sigmoid of ``logits`` (N, len(maps), H, W)."""
    return pixel_weighted(torch.sigmoid(logits), *maps)


def pixel_weighted(share: Tensor, *maps: Tensor) -> Tensor:
    """Sum of ``share[:, i] * maps[i]``."""
    total = maps[0] * share[:, :1]
    for i in range(1, len(maps)):
        total = total + maps[i] * share[:, i : i + 1]
    return total
