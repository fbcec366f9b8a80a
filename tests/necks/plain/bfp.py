"""Balanced feature pyramid of Libra R-CNN (Pang et al., 2019): mmdet's BFP (mmdet/models/necks/bfp.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvModule


class NonLocal(nn.Module):
    """Every pixel looks at every other one (embedded Gaussian); the scores are not scaled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = ConvModule(channels, channels, 1)
        self.conv_out = ConvModule(channels, channels, 1)
        self.theta = ConvModule(channels, channels, 1)
        self.phi = ConvModule(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query = self.theta(x).flatten(2)
        key = self.phi(x).flatten(2)
        value = self.g(x).flatten(2)
        attention = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        y = (attention @ value.transpose(1, 2)).transpose(1, 2)
        return x + self.conv_out(y.reshape(x.shape))


class BFP(nn.Module):
    """Refines a pyramid: all of ``in_channels`` must be ``channels``. ``refine_type``: None, "conv" or "non_local"."""

    def __init__(
        self, in_channels: Sequence[int], channels: int, *, refine_level: int = 2, refine_type: str | None = None
    ) -> None:
        super().__init__()
        if any(width != channels for width in in_channels):
            raise ValueError("a balanced pyramid keeps its widths")
        if refine_type not in (None, "conv", "non_local"):
            raise ValueError(f"unknown refinement: {refine_type!r}")
        self.refine_level = refine_level
        self.refine_type = refine_type
        if refine_type == "conv":
            self.refine = ConvModule(channels, channels, 3, act=nn.ReLU)
        elif refine_type == "non_local":
            self.refine = NonLocal(channels)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        size = features[self.refine_level].shape[-2:]
        total: Tensor | None = None
        for level, x in enumerate(features):
            if level < self.refine_level:
                x = F.adaptive_max_pool2d(x, size)
            else:
                x = F.interpolate(x, size=size, mode="nearest")
            total = x if total is None else total + x
        assert total is not None
        balanced = total / len(features)
        if self.refine_type is not None:
            balanced = self.refine(balanced)

        outputs = []
        for level, x in enumerate(features):
            if level < self.refine_level:
                residual = F.interpolate(balanced, size=x.shape[-2:], mode="nearest")
            else:
                residual = F.adaptive_max_pool2d(balanced, x.shape[-2:])
            outputs.append(residual + x)
        return tuple(outputs)
