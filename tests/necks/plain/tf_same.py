"""TensorFlow's SAME padding: an odd pixel goes to the bottom and to the right."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def pad(x: Tensor, kernel_size: int, stride: int, value: float = 0.0) -> Tensor:
    extra = []
    for size in (x.shape[-1], x.shape[-2]):
        out = -(-size // stride)
        total = max(0, (out - 1) * stride + kernel_size - size)
        extra += [total // 2, total - total // 2]
    return F.pad(x, extra, value=value)


def max_pool2d(x: Tensor, kernel_size: int, stride: int) -> Tensor:
    return F.max_pool2d(pad(x, kernel_size, stride, float("-inf")), kernel_size, stride)
