"""MLFPN of M2Det (Zhao et al., 2019), as in qijiezhao/M2Det (m2det.py, layers/nn_utils.py)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ConvModule

conv_bn_relu = partial(ConvModule, norm=partial(nn.BatchNorm2d, eps=1e-5, momentum=0.01), act=nn.ReLU)


class TUM(nn.Module):
    """One thinned U-shaped module; its maps come coarsest first."""

    def __init__(self, in_channels: int, channels: int, num_scales: int, smooth: bool) -> None:
        super().__init__()
        # The last step down is a convolution without padding, so that 3x3 becomes 1x1.
        steps = [conv_bn_relu(in_channels, channels, 3, stride=2)]
        steps += [conv_bn_relu(channels, channels, 3, stride=2) for _ in range(num_scales - 3)]
        steps += [conv_bn_relu(channels, channels, 3, padding=0) for _ in range(min(1, num_scales - 2))]
        self.layers = nn.Sequential(*steps)
        self.toplayer = nn.Sequential(conv_bn_relu(channels, channels, 1))
        laterals = [conv_bn_relu(channels, channels, 3) for _ in range(num_scales - 2)]
        self.latlayer = nn.Sequential(*laterals, conv_bn_relu(in_channels, channels, 3))
        if smooth:
            self.smooth = nn.Sequential(*[conv_bn_relu(channels, channels, 1) for _ in range(num_scales - 1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        down = [x]
        for layer in self.layers:
            down.append(layer(down[-1]))
        up = [self.toplayer(down.pop())]
        for lateral in self.latlayer:
            skip = lateral(down.pop())
            up.append(F.interpolate(up[-1], size=skip.shape[-2:], mode="nearest") + skip)
        if hasattr(self, "smooth"):
            # The coarsest map stays as it is.
            return [up[0], *[layer(m) for layer, m in zip(self.smooth, up[1:], strict=True)]]
        return up


class SFAM(nn.Module):
    """Channel attention over each scale; the keys are per scale, the weights are one pair for all."""

    def __init__(self, channels: int, num_scales: int) -> None:
        super().__init__()
        self.fc1 = nn.ModuleList([nn.Conv2d(channels, channels // 16, 1)] * num_scales)
        self.fc2 = nn.ModuleList([nn.Conv2d(channels // 16, channels, 1)] * num_scales)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        outs = []
        for i, x in enumerate(features):
            gate = self.fc2[i](F.relu(self.fc1[i](F.adaptive_avg_pool2d(x, 1))))
            outs.append(x * torch.sigmoid(gate))
        return outs


class MLFPN(nn.Module):
    """From a map at stride 8 and one at stride 16 to ``num_scales`` maps of ``num_levels * channels``."""

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        num_levels: int = 8,
        num_scales: int = 6,
        smooth: bool = True,
        sfam: bool = False,
        base_channels: Sequence[int] = (256, 512),
    ) -> None:
        super().__init__()
        self.num_levels = num_levels
        for i in range(num_levels):
            tum_in = channels // 2 if i == 0 else channels // 2 + channels
            self.add_module(f"unet{i + 1}", TUM(tum_in, channels // 2 * 2, num_scales, smooth))
        shallow, deep = base_channels
        self.reduce = conv_bn_relu(in_channels[0], shallow, 3)
        self.up_reduce = conv_bn_relu(in_channels[1], deep, 1)
        self.Norm = nn.BatchNorm2d(channels * num_levels)
        # One module under num_levels names, as in the published checkpoints.
        self.leach = nn.ModuleList([conv_bn_relu(shallow + deep, channels // 2, 1)] * num_levels)
        self.sfam_module = SFAM(channels * num_levels, num_scales) if sfam else None

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        shallow, deep = features
        up = F.interpolate(self.up_reduce(deep), scale_factor=2, mode="nearest")
        base = torch.cat([self.reduce(shallow), up], dim=1)
        levels: list[list[Tensor]] = []
        for i in range(self.num_levels):
            # The shared layer runs once per level, so in training its running statistics move num_levels times.
            x = self.leach[i](base)
            if levels:
                x = torch.cat([x, levels[-1][-1]], dim=1)
            levels.append(self.get_submodule(f"unet{i + 1}")(x))
        outs = [torch.cat(maps, dim=1) for maps in zip(*levels, strict=True)][::-1]
        if self.sfam_module is not None:
            outs = self.sfam_module(outs)
        return (self.Norm(outs[0]), *outs[1:])
