"""DETR-style channel mapping: mmdet's ChannelMapper (mmdet/models/necks/channel_mapper.py)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .layers import ConvModule


class ChannelMapper(nn.Module):
    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        kernel_size: int = 3,
        num_outs: int | None = None,
        norm: bool = False,
    ) -> None:
        super().__init__()
        layer = nn.BatchNorm2d if norm else None
        self.convs = nn.ModuleList()
        for width in in_channels:
            self.convs.append(ConvModule(width, channels, kernel_size, norm=layer, act=nn.ReLU))
        extra = 0 if num_outs is None else max(0, num_outs - len(in_channels))
        self.extra_convs = nn.ModuleList()
        for width in ([in_channels[-1]] + [channels] * extra)[:extra]:
            self.extra_convs.append(ConvModule(width, channels, 3, 2, norm=layer, act=nn.ReLU))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        outputs = [conv(x) for conv, x in zip(self.convs, features, strict=True)]
        x = features[-1]
        for conv in self.extra_convs:
            x = conv(x)
            outputs.append(x)
        return tuple(outputs)
