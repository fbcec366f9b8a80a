"""NAS-FPN (Ghiasi et al., 2019): mmdet's NASFPN (mmdet/models/necks/nas_fpn.py, mmcv/ops/merge_cells.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvModule


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest neighbour to enlarge, max pooling to shrink; which one it is, the height decides first."""
    height, width = x.shape[-2:]
    if (height, width) == size:
        return x
    if (height, width) < size:
        return F.interpolate(x, size=size, mode="nearest")
    # Zeros on both sides, the odd one below and to the right, until the windows fit. -(-a // b) rounds up.
    missing_h = -(-height // size[0]) * size[0] - height
    missing_w = -(-width // size[1]) * size[1] - width
    if missing_h or missing_w:
        left, top = missing_w // 2, missing_h // 2
        x = F.pad(x, (left, missing_w - left, top, missing_h - top))
    window = (x.shape[-2] // size[0], x.shape[-1] // size[1])
    return F.max_pool2d(x, window, window)


class Cell(nn.Module):
    """Merges two maps at a size, by sum or by gating the first with the second's mean; then ReLU, conv, BN."""

    def __init__(self, kind: str, channels: int, *, convolve: bool = True) -> None:
        super().__init__()
        self.kind = kind
        self.convolve = convolve
        if convolve:
            # The convolution keeps its bias although a norm follows.
            self.out_conv = ConvModule(channels, channels, 3, bias=True, norm=nn.BatchNorm2d)

    def forward(self, a: Tensor, b: Tensor, like: Tensor) -> Tensor:
        size = (like.shape[-2], like.shape[-1])
        a, b = resize(a, size), resize(b, size)
        merged = a + b if self.kind == "sum" else b + torch.sigmoid(F.adaptive_avg_pool2d(b, 1)) * a
        return self.out_conv(torch.relu(merged)) if self.convolve else merged


class NASFPN(nn.Module):
    """From C3..C5 to P3..P7."""

    def __init__(self, in_channels: Sequence[int], channels: int, *, stack_times: int = 7) -> None:
        super().__init__()
        if len(in_channels) != 3:
            raise ValueError("NAS-FPN takes exactly three features")
        self.lateral_convs = nn.ModuleList()
        for width in in_channels:
            self.lateral_convs.append(ConvModule(width, channels, 1, norm=nn.BatchNorm2d))
        self.extra_downsamples = nn.ModuleList()
        for _ in range(2):
            conv = ConvModule(channels, channels, 1, norm=nn.BatchNorm2d)
            self.extra_downsamples.append(nn.Sequential(conv, nn.MaxPool2d(2, 2)))
        self.fpn_stages = nn.ModuleList()
        for _ in range(stack_times):
            stage = nn.ModuleDict()
            stage["gp_64_4"] = Cell("gp", channels)
            stage["sum_44_4"] = Cell("sum", channels)
            stage["sum_43_3"] = Cell("sum", channels)
            stage["sum_34_4"] = Cell("sum", channels)
            stage["gp_43_5"] = Cell("gp", channels, convolve=False)
            stage["sum_55_5"] = Cell("sum", channels)
            stage["gp_54_7"] = Cell("gp", channels, convolve=False)
            stage["sum_77_7"] = Cell("sum", channels)
            stage["gp_75_6"] = Cell("gp", channels)
            self.fpn_stages.append(stage)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        p3, p4, p5 = (conv(x) for conv, x in zip(self.lateral_convs, features, strict=True))
        p6 = self.extra_downsamples[0](p5)
        p7 = self.extra_downsamples[1](p6)
        for stage in self.fpn_stages:
            middle = stage["gp_64_4"](p6, p4, p4)
            middle = stage["sum_44_4"](middle, p4, p4)
            p3 = stage["sum_43_3"](middle, p3, p3)
            p4 = stage["sum_34_4"](p3, middle, p4)
            p5 = stage["sum_55_5"](p5, stage["gp_43_5"](p4, p3, p5), p5)
            p7 = stage["sum_77_7"](p7, stage["gp_54_7"](p5, middle, p7), p7)
            p6 = stage["gp_75_6"](p7, p5, p6)
        return p3, p4, p5, p6, p7
