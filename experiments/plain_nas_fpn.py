"""The published NAS-FPN network as one writes it by hand in plain PyTorch, for ``speed.py`` to compare with.

Google's dialect (tensorflow/tpu, nasfpn.py), as ``nasneck.necks.nas_fpn`` has it; images with sides divisible by 128.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Lateral(nn.Module):
    """1x1 convolution and norm, from a feature to the neck's width."""

    def __init__(self, given: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(N, given, H, W) to (N, channels, H, W)."""
        return self.norm(self.conv(x))


class Cell(nn.Module):
    """What follows the fusion: ReLU, 3x3 convolution, norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same."""
        return self.norm(self.conv(F.relu(x)))


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Nearest upsampling, or max pooling, to the size of ``like``."""
    height, wanted = x.shape[-2], like.shape[-2]
    if height == wanted:
        return x
    if height < wanted:
        return F.interpolate(x, size=like.shape[-2:], mode="nearest")
    return F.max_pool2d(x, height // wanted)


def attention(gating: Tensor, other: Tensor) -> Tensor:
    """``gating + sigmoid(global maximum of gating) * other``."""
    return gating + torch.sigmoid(F.adaptive_max_pool2d(gating, 1)) * other


class NASFPN(nn.Module):
    """From C3..C5 to P3..P7.

    Args:
        in_channels: Widths of C3..C5.
        channels: Width of the neck.
        repeats: Times the seven cells are applied.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, *, repeats: int = 1) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(Lateral(given, channels) for given in in_channels)
        self.repeats = nn.ModuleList(nn.ModuleList(Cell(channels) for _ in range(7)) for _ in range(repeats))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps of (N, in_channels, H, W), finest first, to five of (N, channels, H, W)."""
        p3, p4, p5 = (lateral(x) for lateral, x in zip(self.laterals, features, strict=True))
        p6 = F.max_pool2d(p5, 2)
        p7 = F.max_pool2d(p6, 2)
        for cells in self.repeats:
            first, second, out3, out4, out5, out7, out6 = cells  # type: ignore[misc]
            a = first(attention(resize(p6, p4), p4))
            b = second(p4 + a)
            new3 = out3(p3 + resize(b, p3))
            new4 = out4(b + resize(new3, b))
            new5 = out5(attention(resize(new4, p5), resize(new3, p5)) + p5)
            new7 = out7(attention(resize(new5, p7), resize(b, p7)) + p7)
            new6 = out6(attention(resize(new7, p6), resize(new5, p6)))
            p3, p4, p5, p6, p7 = new3, new4, new5, new6, new7
        return p3, p4, p5, p6, p7


def ours_by_plain(repeats: int) -> dict[str, str]:
    """Module of nasneck's body for each module with weights here."""
    names = {f"laterals.{i}": f"p{level}.from_c{level}" for i, level in enumerate((3, 4, 5))}
    for repeat in range(repeats):
        for i, cell in enumerate(("mid0", "mid1", "p3", "p4", "p5", "p7", "p6")):
            names[f"repeats.{repeat}.{i}"] = f"r{repeat}_{cell}"
    return names
