"""Modules with weights that compiled necks are made of: convolutions and norms."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

from nasneck.errors import CompileError
from nasneck.graph import Norm
from nasneck.graph.ops import Init

NormKind = Literal["batch", "group", "frozen"]
NORM_KINDS: tuple[NormKind, ...] = ("batch", "group", "frozen")


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that uses its stored statistics always and whose weights do not train.

    torchvision has one with the same name; an exported neck may need torch alone, hence this one. It loads
    the weights of ``nn.BatchNorm2d``.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps=eps)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenBatchNorm2d:
        super().train(False)
        return self

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"


def make_norm(slot: Norm, width: int, *, kind: NormKind, momentum: float | None) -> nn.Module:
    """A norm over ``width`` channels; the slot's kind wins over ``kind``, ``momentum`` over the slot's."""
    chosen = slot.kind or kind
    if chosen == "group":
        return nn.GroupNorm(math.gcd(32, width), width, eps=slot.eps)
    if chosen == "frozen":
        return FrozenBatchNorm2d(width, eps=slot.eps)
    return nn.BatchNorm2d(width, eps=slot.eps, momentum=slot.momentum if momentum is None else momentum)


def make_conv(
    given: int,
    width: int,
    *,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    init: Init = "fan_in",
) -> nn.Conv2d:
    """A convolution with the weights that ``init`` names and a bias of zero.

    Raises:
        CompileError: widths that the groups do not divide.
    """
    if given % groups or width % groups:
        raise CompileError(f"{groups} groups do not divide a convolution from {given} to {width} channels")
    conv = nn.Conv2d(
        given, width, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias
    )
    if init == "zero":
        nn.init.zeros_(conv.weight)
    elif init == "glorot":
        # EfficientDet counts the fan-out of one group only.
        area = kernel * kernel
        bound = math.sqrt(6.0 / (area * given // groups + area * width // groups))
        nn.init.uniform_(conv.weight, -bound, bound)
    else:
        nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
