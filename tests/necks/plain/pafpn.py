"""Path aggregation network (Liu et al., 2018): mmdet's PAFPN (mmdet/models/necks/pafpn.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvModule


class PAFPN(nn.Module):
    """``add_extra_convs``: None, "on_input", "on_lateral" (after the top-down path) or "on_output"."""

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        num_outs: int | None = None,
        add_extra_convs: str | None = None,
        relu_before_extra_convs: bool = False,
        norm: bool = False,
    ) -> None:
        super().__init__()
        if add_extra_convs not in (None, "on_input", "on_lateral", "on_output"):
            raise ValueError(f"unknown source of the extra levels: {add_extra_convs!r}")
        self.num_extra = 0 if num_outs is None else num_outs - len(in_channels)
        self.add_extra_convs = add_extra_convs
        self.relu_before_extra_convs = relu_before_extra_convs
        layer = nn.BatchNorm2d if norm else None

        self.lateral_convs = nn.ModuleList()
        self.fpn_convs = nn.ModuleList()
        for width in in_channels:
            self.lateral_convs.append(ConvModule(width, channels, 1, norm=layer))
            self.fpn_convs.append(ConvModule(channels, channels, 3, norm=layer))
        if add_extra_convs is not None:
            for i in range(self.num_extra):
                width = in_channels[-1] if i == 0 and add_extra_convs == "on_input" else channels
                self.fpn_convs.append(ConvModule(width, channels, 3, 2, norm=layer))
        self.downsample_convs = nn.ModuleList()
        self.pafpn_convs = nn.ModuleList()
        for _ in in_channels[1:]:
            self.downsample_convs.append(ConvModule(channels, channels, 3, 2, norm=layer))
            self.pafpn_convs.append(ConvModule(channels, channels, 3, norm=layer))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        for i in reversed(range(len(laterals) - 1)):
            up = F.interpolate(laterals[i + 1], size=laterals[i].shape[-2:], mode="nearest")
            laterals[i] = laterals[i] + up
        smoothed = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=False)]

        outputs = [smoothed[0]]
        x = smoothed[0]
        for p, down, smooth in zip(smoothed[1:], self.downsample_convs, self.pafpn_convs, strict=True):
            x = p + down(x)  # the next level is fed from this sum; the paper feeds it from the convolution's output
            outputs.append(smooth(x))

        if self.add_extra_convs is None:
            for _ in range(self.num_extra):
                outputs.append(F.max_pool2d(outputs[-1], kernel_size=1, stride=2))
            return tuple(outputs)
        x = {"on_input": features[-1], "on_lateral": laterals[-1], "on_output": outputs[-1]}[self.add_extra_convs]
        for i, conv in enumerate(self.fpn_convs[len(laterals) :]):
            if i > 0 and self.relu_before_extra_convs:  # never before the first one
                x = torch.relu(x)
            x = conv(x)
            outputs.append(x)
        return tuple(outputs)
