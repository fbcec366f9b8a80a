"""Feature pyramid network (Lin et al., 2017): mmdet's FPN (mmdet/models/necks/fpn.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvModule


class FPN(nn.Module):
    """``add_extra_convs`` names the map that the first level beyond the inputs is computed from.

    It is "on_input" (coarsest feature), "on_lateral" (coarsest lateral), "on_output" (coarsest output), or None,
    where the levels beyond the inputs are subsampled outputs.
    """

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

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        maps = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        for i in reversed(range(len(maps) - 1)):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], size=maps[i].shape[-2:], mode="nearest")
        outputs = [conv(x) for conv, x in zip(self.fpn_convs, maps, strict=False)]

        if self.add_extra_convs is None:
            for _ in range(self.num_extra):
                outputs.append(F.max_pool2d(outputs[-1], kernel_size=1, stride=2))
            return tuple(outputs)
        x = {"on_input": features[-1], "on_lateral": maps[-1], "on_output": outputs[-1]}[self.add_extra_convs]
        for i, conv in enumerate(self.fpn_convs[len(maps) :]):
            if i > 0 and self.relu_before_extra_convs:  # never before the first one
                x = torch.relu(x)
            x = conv(x)
            outputs.append(x)
        return tuple(outputs)
