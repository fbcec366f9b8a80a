"""SSH (Najibi et al., 2017): mmdet's SSH (mmdet/models/necks/ssh.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .layers import ConvModule


class Context(nn.Module):
    """Receptive fields of 5x5 and 7x7 from chains of 3x3 convolutions that share their first one."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        quarter = channels // 4
        self.conv5x5_1 = ConvModule(in_channels, quarter, 3, norm=nn.BatchNorm2d, act=nn.ReLU)
        self.conv5x5_2 = ConvModule(quarter, quarter, 3, norm=nn.BatchNorm2d)
        self.conv7x7_2 = ConvModule(quarter, quarter, 3, norm=nn.BatchNorm2d, act=nn.ReLU)
        self.conv7x7_3 = ConvModule(quarter, quarter, 3, norm=nn.BatchNorm2d)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.conv5x5_1(x)
        return torch.cat([self.conv5x5_2(shared), self.conv7x7_3(self.conv7x7_2(shared))], dim=1)


class Level(nn.Module):
    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv3x3 = ConvModule(in_channels, channels // 2, 3, norm=nn.BatchNorm2d)
        self.context_module = Context(in_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(torch.cat([self.conv3x3(x), self.context_module(x)], dim=1))


class SSH(nn.Module):
    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.num_levels = len(in_channels)
        for level, width in enumerate(in_channels):
            self.add_module(f"ssh_module{level}", Level(width, channels))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(self.get_submodule(f"ssh_module{level}")(x) for level, x in enumerate(features))
