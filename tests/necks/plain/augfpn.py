"""AugFPN's neck (Guo et al., 2020), as in Gus-Guo/AugFPN (mmdet/models/necks/high_fpn.py, high_fpn_retinanet.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ConvModule


class HighFPN(nn.Module):
    """FPN whose coarsest lateral gains ratio-invariant pooled context; gives (outputs, laterals before that).

    Extra levels subsample the coarsest output, or with ``add_extra_convs`` are strided convolutions from the coarsest
    input on.
    """

    extra_from_input = True

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        num_outs: int = 5,
        pool_ratios: Sequence[float] = (0.1, 0.2, 0.3),
        add_extra_convs: bool = False,
    ) -> None:
        super().__init__()
        self.num_outs = num_outs
        self.pool_ratios = tuple(pool_ratios)
        self.add_extra_convs = add_extra_convs
        self.lateral_convs = nn.ModuleList([ConvModule(c, channels, 1) for c in in_channels])
        self.fpn_convs = nn.ModuleList([ConvModule(channels, channels, 3) for _ in in_channels])
        n = len(self.pool_ratios)
        self.high_lateral_conv = nn.ModuleList([nn.Conv2d(in_channels[-1], channels, 1) for _ in range(n)])
        self.high_lateral_conv_attention = nn.Sequential(
            nn.Conv2d(channels * n, channels, 1), nn.ReLU(), nn.Conv2d(channels, n, 3, padding=1)
        )
        if add_extra_convs:
            width = in_channels[-1] if self.extra_from_input else channels
            for _ in range(num_outs - len(in_channels)):
                self.fpn_convs.append(ConvModule(width, channels, 3, stride=2))
                width = channels

    def context(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        maps = []
        for ratio, conv in zip(self.pool_ratios, self.high_lateral_conv, strict=True):
            pooled = conv(F.adaptive_avg_pool2d(x, (max(1, int(h * ratio)), max(1, int(w * ratio)))))
            maps.append(F.interpolate(pooled, size=(h, w), mode="bilinear", align_corners=True))
        weights = torch.sigmoid(self.high_lateral_conv_attention(torch.cat(maps, dim=1)))
        total = torch.zeros_like(maps[0])
        for i, m in enumerate(maps):
            total = total + weights[:, i : i + 1] * m
        return total

    def pyramid(self, raw: Sequence[Tensor], context: Tensor) -> list[Tensor]:
        merged = [raw[-1] + context]
        for lateral in reversed(raw[:-1]):
            merged.insert(0, lateral + F.interpolate(merged[0], scale_factor=2, mode="nearest"))
        return [self.fpn_convs[i](m) for i, m in enumerate(merged)]

    def forward(self, features: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        raw = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        outs = self.pyramid(raw, self.context(features[-1]))
        x = features[-1]
        while len(outs) < self.num_outs:
            if self.add_extra_convs:
                x = self.fpn_convs[len(outs)](x)
                outs.append(x)
            else:
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs), tuple(raw)


class HighFPNRetinanet(HighFPN):
    """The variant of the one-stage detectors: the first extra level also gains the mean of the context.

    It gives the outputs alone, or (outputs, raw laterals) with ``train_with_auxiliary``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        num_outs: int = 5,
        extra_convs_on_inputs: bool = True,
        relu_before_extra_convs: bool = False,
        train_with_auxiliary: bool = False,
    ) -> None:
        self.extra_from_input = extra_convs_on_inputs
        super().__init__(in_channels, channels, num_outs=num_outs, add_extra_convs=True)
        self.relu_before_extra_convs = relu_before_extra_convs
        self.train_with_auxiliary = train_with_auxiliary

    def forward(self, features: Sequence[Tensor]) -> tuple:
        raw = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        context = self.context(features[-1])
        outs = self.pyramid(raw, context)
        if len(outs) < self.num_outs:
            first = self.fpn_convs[len(outs)](features[-1] if self.extra_from_input else outs[-1])
            outs.append(first + F.adaptive_avg_pool2d(context, 1))
        while len(outs) < self.num_outs:
            x = F.relu(outs[-1]) if self.relu_before_extra_convs else outs[-1]
            outs.append(self.fpn_convs[len(outs)](x))
        return (tuple(outs), tuple(raw)) if self.train_with_auxiliary else tuple(outs)
