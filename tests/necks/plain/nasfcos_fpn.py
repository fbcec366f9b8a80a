"""NAS-FCOS's pyramid (Wang et al., 2020): mmdet's NASFCOS_FPN (mmdet/models/necks/nasfcos_fpn.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvModule


class NormReluConv(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        # As many groups as outputs: an output sees two neighbours among the 2 * channels inputs.
        self.conv = nn.Conv2d(2 * channels, channels, 1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.relu(self.bn(x)))


class ConcatCell(nn.Module):
    """Concatenates two maps at the larger one's size; the second may enter without a convolution."""

    def __init__(self, channels: int, *, second_conv: bool, norm: bool) -> None:
        super().__init__()
        layer = nn.BatchNorm2d if norm else None
        self.input1_conv = ConvModule(channels, channels, 3, bias=True, norm=layer, act=nn.ReLU)
        self.input2_conv: nn.Module = nn.Identity()
        if second_conv:
            self.input2_conv = ConvModule(channels, channels, 3, bias=True, norm=layer, act=nn.ReLU)
        self.out_conv = NormReluConv(channels)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = self.input1_conv(a), self.input2_conv(b)
        size = max(tuple(a.shape[-2:]), tuple(b.shape[-2:]))
        a, b = (F.interpolate(x, size=size, mode="nearest") for x in (a, b))
        return self.out_conv(torch.cat([a, b], dim=1))


class NASFCOS_FPN(nn.Module):
    """From C3..C5; ``norm`` is about the convolutions of the cells' inputs, which mmdet's config deforms (not here)."""

    def __init__(self, in_channels: Sequence[int], channels: int, *, num_outs: int = 5, norm: bool = True) -> None:
        super().__init__()
        if len(in_channels) != 3:
            raise ValueError("NAS-FCOS's pyramid takes exactly three features")
        self.adapt_convs = nn.ModuleList()
        for width in in_channels:
            self.adapt_convs.append(ConvModule(width, channels, 1, norm=nn.BatchNorm2d, act=nn.ReLU))
        self.fpn = nn.ModuleDict()
        for name in ("c22_1", "c22_2", "c32", "c02", "c42", "c36", "c61"):
            # Only c32 and c02 take C5 as it is.
            self.fpn[name] = ConcatCell(channels, second_conv=name not in ("c32", "c02"), norm=norm)
        self.extra_downsamples = nn.ModuleList()
        for _ in range(num_outs - 3):
            self.extra_downsamples.append(ConvModule(channels, channels, 3, 2))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        c3, c4, c5 = (conv(x) for conv, x in zip(self.adapt_convs, features, strict=True))
        f3 = self.fpn["c22_1"](c5, c5)
        f4 = self.fpn["c22_2"](c5, c5)
        f5 = self.fpn["c32"](f3, c5)
        f6 = self.fpn["c02"](c3, c5)
        f7 = self.fpn["c42"](f4, c5)
        f8 = self.fpn["c36"](f3, f6)
        f9 = self.fpn["c61"](f6, c4)

        outputs = []
        for x, feature in zip((f9, f8, f7), features, strict=True):
            context = F.interpolate(f5, size=x.shape[-2:], mode="bilinear", align_corners=False)
            x = F.interpolate(x + context, size=feature.shape[-2:], mode="bilinear", align_corners=False)
            outputs.append(x)
        for i, conv in enumerate(self.extra_downsamples):
            outputs.append(conv(outputs[-1] if i == 0 else torch.relu(outputs[-1])))
        return tuple(outputs)
