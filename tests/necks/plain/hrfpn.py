"""HRNet's pyramid (Sun et al., 2019): mmdet's HRFPN (mmdet/models/necks/hrfpn.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvModule


class HRFPN(nn.Module):
    """Everything is gathered at the finest size, by factors of two, and pooled from there."""

    def __init__(self, in_channels: Sequence[int], channels: int, *, num_outs: int = 5, pooling: str = "avg") -> None:
        super().__init__()
        if pooling not in ("avg", "max"):
            raise ValueError(f"unknown pooling: {pooling!r}")
        self.pooling = pooling
        self.reduction_conv = ConvModule(sum(in_channels), channels, 1)
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in range(num_outs))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        gathered = [features[0]]
        for i, x in enumerate(features[1:], start=1):
            gathered.append(F.interpolate(x, scale_factor=2**i, mode="bilinear", align_corners=False))
        base = self.reduction_conv(torch.cat(gathered, dim=1))

        pool = F.avg_pool2d if self.pooling == "avg" else F.max_pool2d
        outputs = []
        for i, conv in enumerate(self.fpn_convs):
            outputs.append(conv(base if i == 0 else pool(base, kernel_size=2**i, stride=2**i)))
        return tuple(outputs)
