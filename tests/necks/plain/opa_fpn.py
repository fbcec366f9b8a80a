"""OPANAS (Liang et al., 2021): VDIGPKU/OPANAS's OPA_FPN (mmdet/models/necks/opa_fpn.py), its convolutions plain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ConvModule

# The published network: one row for each stage, in it one operation for each stage before (the laterals are first).
PATHS = (
    *("TD",),
    *("TD", "TD"),
    *("FS", "none", "skip_connect"),
    *("BU", "skip_connect", "none", "TD"),
    *("BU", "none", "FS", "SE", "BU"),
)


def resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="nearest")


def halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2, stride=2)


class TopDown(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.tdm_convs = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1) for _ in range(4)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        p5 = self.tdm_convs[3](maps[3])
        p4 = self.tdm_convs[2](maps[2] + resize(p5, maps[2]))
        p3 = self.tdm_convs[1](maps[1] + resize(p4, maps[1]))
        p2 = self.tdm_convs[0](maps[0] + resize(p3, maps[0]))
        return [p2, p3, p4, p5]


class BottomUp(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bun_convs = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1) for _ in range(4)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        p2 = self.bun_convs[0](maps[0])
        p3 = self.bun_convs[1](maps[1] + halve(p2))
        p4 = self.bun_convs[2](maps[2] + halve(p3))
        # Only the coarsest level is fitted to its partner, so P2..P4 must halve evenly.
        p5 = self.bun_convs[3](maps[3] + resize(halve(p4), maps[3]))
        return [p2, p3, p4, p5]


class FuseSplit(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        shared = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.fuse = nn.ModuleList([shared, shared])  # one convolution under two names, as published

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        fine = maps[1] + halve(maps[0])
        coarse = resize(maps[3], maps[2]) + maps[2]
        p3 = self.fuse[0](torch.cat([fine, resize(coarse, fine)], dim=1))
        p4 = self.fuse[1](torch.cat([halve(fine), coarse], dim=1))
        return [resize(p3, maps[0]), p3, p4, resize(halve(p4), maps[3])]


class ScaleEqualize(nn.Module):
    """Pyramid convolution: one kernel each for the coarser, own and finer neighbour, shared by all levels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.Pconv = nn.ModuleList([nn.Conv2d(channels, channels, 3, stride, padding=1) for stride in (1, 1, 2)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        outputs = []
        for level, own in enumerate(maps):
            total = self.Pconv[1](own)
            if level > 0:
                total = total + self.Pconv[2](maps[level - 1])
            if level < len(maps) - 1:
                total = total + resize(self.Pconv[0](maps[level + 1]), own)
            outputs.append(torch.relu(total))
        return outputs


class OPA_FPN(nn.Module):
    def __init__(
        self, in_channels: Sequence[int], channels: int, *, num_outs: int = 5, paths: Sequence[str] = PATHS
    ) -> None:
        super().__init__()
        self.paths = list(paths)
        self.num_outs = num_outs
        operations = {"TD": TopDown, "BU": BottomUp, "FS": FuseSplit, "SE": ScaleEqualize}
        self.features = nn.ModuleList(
            [operations[path](channels) if path in operations else nn.Identity() for path in self.paths]
        )
        self.topcontext = nn.Sequential(ConvModule(channels, channels, 1), nn.AdaptiveAvgPool2d(1))
        self.lateral_convs = nn.ModuleList([ConvModule(width, channels, 1) for width in in_channels])

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        laterals[-1] = self.topcontext(laterals[-1]) + laterals[-1]  # 1x1, added everywhere

        stages = [laterals]
        edge = 0
        while edge < len(self.paths):
            total = [torch.zeros_like(x) for x in laterals]
            for source in list(stages):
                if self.paths[edge] != "none":
                    result = self.features[edge](source)
                    total = [a + b for a, b in zip(total, result, strict=True)]
                edge += 1
            stages.append(total)

        outputs = stages[-1]
        for stage in stages[1:-1]:  # the laterals themselves are left out
            outputs = [a + b for a, b in zip(outputs, stage, strict=True)]
        while len(outputs) < self.num_outs:
            outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
        return tuple(outputs)
