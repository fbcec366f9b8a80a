"""RTMDet (Lyu et al., 2022): mmdet's CSPNeXtPAFPN (mmdet/models/necks/cspnext_pafpn.py)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .yolox_pafpn import CSPLayer, Norm, SeparableConv, conv_bn_silu


class CSPNeXtBlock(nn.Module):
    """3x3, then a depthwise separable 5x5, both at full width and without a residual connection."""

    def __init__(self, channels: int, *, use_depthwise: bool, norm: Norm) -> None:
        super().__init__()
        conv = SeparableConv if use_depthwise else conv_bn_silu
        self.conv1 = conv(channels, channels, 3, norm=norm)
        self.conv2 = SeparableConv(channels, channels, 5, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class CSPNeXtPAFPN(nn.Module):
    """The published RTMDet configurations give a bare ``SyncBN``: bn_eps 1e-5, bn_momentum 0.1."""

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
        block = partial(CSPNeXtBlock, use_depthwise=use_depthwise, norm=norm)
        csp = partial(CSPLayer, num_blocks=num_csp_blocks, expand_ratio=expand_ratio, block=block, norm=norm)

        steps = list(pairwise(in_channels))
        self.reduce_layers = nn.ModuleList([conv_bn_silu(high, low, 1, norm=norm) for low, high in steps[::-1]])
        self.top_down_blocks = nn.ModuleList([csp(2 * low, low) for low, _ in steps[::-1]])
        self.downsamples = nn.ModuleList([conv(low, low, 3, 2, norm=norm) for low, _ in steps])
        self.bottom_up_blocks = nn.ModuleList([csp(2 * low, high) for low, high in steps])
        self.out_convs = nn.ModuleList([conv(width, channels, 3, norm=norm) for width in in_channels])

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
