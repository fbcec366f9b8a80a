"""YOLOX (Ge et al., 2021): mmdet's YOLOXPAFPN (mmdet/models/necks/yolox_pafpn.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ConvModule

Norm = Callable[[int], nn.Module]


def conv_bn_silu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1, *, norm: Norm
) -> ConvModule:
    return ConvModule(in_channels, out_channels, kernel_size, stride, groups=groups, norm=norm, act=nn.SiLU)


class SeparableConv(nn.Module):
    """A depthwise convolution and a 1x1 one, each with its own norm and SiLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, norm: Norm) -> None:
        super().__init__()
        self.depthwise_conv = conv_bn_silu(in_channels, in_channels, kernel_size, stride, groups=in_channels, norm=norm)
        self.pointwise_conv = conv_bn_silu(in_channels, out_channels, 1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class Bottleneck(nn.Module):
    """1x1, then 3x3, both at full width and without a residual connection."""

    def __init__(self, channels: int, *, use_depthwise: bool, norm: Norm) -> None:
        super().__init__()
        conv = SeparableConv if use_depthwise else conv_bn_silu
        self.conv1 = conv_bn_silu(channels, channels, 1, norm=norm)
        self.conv2 = conv(channels, channels, 3, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class CSPLayer(nn.Module):
    """Two narrow 1x1 branches, blocks on the main one, concatenated (main first) and merged by a 1x1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_blocks: int,
        expand_ratio: float,
        block: Callable[[int], nn.Module],
        norm: Norm,
    ) -> None:
        super().__init__()
        middle = int(out_channels * expand_ratio)
        self.main_conv = conv_bn_silu(in_channels, middle, 1, norm=norm)
        self.short_conv = conv_bn_silu(in_channels, middle, 1, norm=norm)
        self.final_conv = conv_bn_silu(2 * middle, out_channels, 1, norm=norm)
        self.blocks = nn.Sequential(*[block(middle) for _ in range(num_blocks)])

    def forward(self, x: Tensor) -> Tensor:
        main = self.blocks(self.main_conv(x))
        return self.final_conv(torch.cat([main, self.short_conv(x)], dim=1))


class YOLOXPAFPN(nn.Module):
    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        num_csp_blocks: int = 3,
        use_depthwise: bool = False,
        expand_ratio: float = 0.5,
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.03,
    ) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=bn_eps, momentum=bn_momentum)
        conv = SeparableConv if use_depthwise else conv_bn_silu
        block = partial(Bottleneck, use_depthwise=use_depthwise, norm=norm)
        csp = partial(CSPLayer, num_blocks=num_csp_blocks, expand_ratio=expand_ratio, block=block, norm=norm)

        self.reduce_layers = nn.ModuleList()
        self.top_down_blocks = nn.ModuleList()
        for fine, coarse in reversed(list(pairwise(in_channels))):
            self.reduce_layers.append(conv_bn_silu(coarse, fine, 1, norm=norm))
            self.top_down_blocks.append(csp(2 * fine, fine))
        self.downsamples = nn.ModuleList()
        self.bottom_up_blocks = nn.ModuleList()
        for fine, coarse in pairwise(in_channels):
            self.downsamples.append(conv(fine, fine, 3, 2, norm=norm))
            self.bottom_up_blocks.append(csp(2 * fine, coarse))
        self.out_convs = nn.ModuleList([conv_bn_silu(width, channels, 1, norm=norm) for width in in_channels])

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        top = features[-1]
        reduced = []  # coarsest first; the way up joins these, not the maps that entered the reduction
        for step, feature in enumerate(reversed(features[:-1])):
            reduced.append(self.reduce_layers[step](top))
            upsampled = F.interpolate(reduced[-1], scale_factor=2.0, mode="nearest")
            top = self.top_down_blocks[step](torch.cat([upsampled, feature], dim=1))

        merged = [top]
        for step, lateral in enumerate(reversed(reduced)):
            down = self.downsamples[step](merged[-1])
            merged.append(self.bottom_up_blocks[step](torch.cat([down, lateral], dim=1)))
        return tuple(conv(x) for conv, x in zip(self.out_convs, merged, strict=True))
