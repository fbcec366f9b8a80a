"""ASFF (Liu et al., 2019): the three fusions of GOATmessi8/ASFF (models/network_blocks.py, models/yolov3_asff.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_bn_leaky(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    block = nn.Sequential()
    block.add_module("conv", nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False))
    block.add_module("batch_norm", nn.BatchNorm2d(out_channels))
    block.add_module("leaky", nn.LeakyReLU(0.1))
    return block


class Fusion(nn.Module):
    """One level, weighed per pixel out of all three. Levels count from the coarsest here."""

    def __init__(self, level: int, widths: Sequence[int], out_channels: int, weight_channels: int) -> None:
        super().__init__()
        self.level = level
        width = widths[level]
        if level == 0:
            self.stride_level_1 = conv_bn_leaky(widths[1], width, 3, 2)
            self.stride_level_2 = conv_bn_leaky(widths[2], width, 3, 2)
        elif level == 1:
            self.compress_level_0 = conv_bn_leaky(widths[0], width, 1)
            self.stride_level_2 = conv_bn_leaky(widths[2], width, 3, 2)
        else:
            self.compress_level_0 = conv_bn_leaky(widths[0], width, 1)
        self.expand = conv_bn_leaky(width, out_channels, 3)
        self.weight_level_0 = conv_bn_leaky(width, weight_channels, 1)
        self.weight_level_1 = conv_bn_leaky(width, weight_channels, 1)
        self.weight_level_2 = conv_bn_leaky(width, weight_channels, 1)
        self.weight_levels = nn.Conv2d(3 * weight_channels, 3, 1)

    def forward(self, coarse: Tensor, middle: Tensor, fine: Tensor) -> Tensor:
        if self.level == 0:
            middle = self.stride_level_1(middle)
            fine = self.stride_level_2(F.max_pool2d(fine, 3, stride=2, padding=1))
        elif self.level == 1:
            coarse = F.interpolate(self.compress_level_0(coarse), scale_factor=2.0, mode="nearest")
            fine = self.stride_level_2(fine)
        else:
            coarse = F.interpolate(self.compress_level_0(coarse), scale_factor=4.0, mode="nearest")
            middle = F.interpolate(middle, scale_factor=2.0, mode="nearest")  # same width already: no convolution
        votes = [self.weight_level_0(coarse), self.weight_level_1(middle), self.weight_level_2(fine)]
        share = self.weight_levels(torch.cat(votes, dim=1)).softmax(dim=1)
        return self.expand(coarse * share[:, 0:1] + middle * share[:, 1:2] + fine * share[:, 2:3])


class ASFF(nn.Module):
    """Three levels in, the two finest of one width; ``channels``, twice and four times as many out."""

    def __init__(self, in_channels: Sequence[int], channels: int, *, weight_channels: int = 16) -> None:
        super().__init__()
        fine, middle, coarse = in_channels
        if fine != middle:
            raise ValueError("the two finest levels must have one width: nothing converts between them")
        widths = (coarse, middle, fine)
        self.level_0_fusion = Fusion(0, widths, 4 * channels, weight_channels)
        self.level_1_fusion = Fusion(1, widths, 2 * channels, weight_channels)
        self.level_2_fusion = Fusion(2, widths, channels, weight_channels)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        coarsest_first = features[::-1]
        fusions = (self.level_2_fusion, self.level_1_fusion, self.level_0_fusion)
        return tuple(fusion(*coarsest_first) for fusion in fusions)
