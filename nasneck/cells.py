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


def as_norm(name: str | None) -> NormKind:
    """The norm called ``name``; batch norm where there is none."""
    for kind in NORM_KINDS:
        if kind == name:
            return kind
    return "batch"


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
        return nn.GroupNorm(_groups(width), width, eps=slot.eps)
    if chosen == "frozen":
        return FrozenBatchNorm2d(width, eps=slot.eps)
    return nn.BatchNorm2d(width, eps=slot.eps, momentum=slot.momentum if momentum is None else momentum)


def _groups(width: int) -> int:
    """As many of 32 groups as divide ``width``, with at least two channels in each.

    A group of one channel would make every 1x1 map zero, and torch refuses it for one image.
    """
    groups = math.gcd(32, width)
    return groups // 2 if groups == width > 1 else groups


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
    conv = nn.Conv2d(given, width, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias)
    return init_conv(conv, init)


def init_conv(conv: nn.Conv2d, init: str) -> nn.Conv2d:
    """Draw the weights of ``conv`` as ``init`` says (see ``nasneck.graph.Conv``); its bias becomes zero."""
    if conv.weight.is_meta:  # nothing to draw; and torch's meta kernels for it take seconds to import
        return conv
    if init == "zero":
        nn.init.zeros_(conv.weight)
    elif init == "small":
        nn.init.normal_(conv.weight, std=0.001)
    elif init == "fan_out":
        nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    elif init == "torch":
        nn.init.kaiming_uniform_(conv.weight, a=math.sqrt(5))
    elif init == "glorot":
        # EfficientDet counts the fan-out of one group only.
        area = conv.kernel_size[0] * conv.kernel_size[1]
        fans = area * (conv.in_channels + conv.out_channels) // conv.groups
        nn.init.uniform_(conv.weight, -math.sqrt(6.0 / fans), math.sqrt(6.0 / fans))
    else:
        nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
