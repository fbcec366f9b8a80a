"""A backbone by its name."""

from __future__ import annotations

from pathlib import Path

from nasneck.backbone.module import Backbone
from nasneck.backbone.resnet import RESNETS, resnet_backbone
from nasneck.backbone.timm_models import timm_backbone
from nasneck.backbone.weights import load_weights
from nasneck.errors import ConfigError
from nasneck.settings import did_you_mean


def build_backbone(
    name: str,
    *,
    levels: tuple[int, int] = (3, 5),
    norm: str = "batch",
    width: int = 64,
    pretrained: bool = False,
    weights: str | Path | None = None,
) -> Backbone:
    """Build the backbone called ``name``, with weights drawn from torch's global generator by default.

    Args:
        name: One of :data:`RESNETS`, or ``timm:NAME``.
        levels: First and last level wanted.
        norm: ``batch``, ``group`` (32 groups where the width allows) or ``frozen`` (batch norm with fixed
            statistics and weights). timm models keep their own norm with ``batch``; ``group`` is refused.
        width: Channels of a ResNet's stem, 64 as published; C2..C5 follow.
        pretrained: Load the weights that torchvision or timm offer for the name (this downloads them).
        weights: A file with a state dict of this backbone, or of the whole classifier it comes from.

    Raises:
        ConfigError: an unknown name or norm, levels that the model does not have, weights that do not fit.
    """
    if levels[0] > levels[1]:
        raise ConfigError(f"levels {levels} of backbone {name!r}: the first must not be above the last")
    wanted = tuple(range(levels[0], levels[1] + 1))
    if norm not in ("batch", "group", "frozen"):
        raise ConfigError(f"norm {norm!r} is not one of batch, group, frozen")
    if pretrained and weights is not None:
        raise ConfigError(f"backbone {name!r}: give either pretrained or a weights file, not both")
    if name.startswith("timm:"):
        if width != 64:
            raise ConfigError(f"width {width} was asked for, but only ResNets take one, not {name!r}")
        backbone = timm_backbone(name.removeprefix("timm:"), wanted, norm=norm, pretrained=pretrained)
    elif name in RESNETS:
        backbone = resnet_backbone(name, wanted, norm=norm, width=width, pretrained=pretrained)
    else:
        known = did_you_mean(name, [*RESNETS, "timm:NAME"])
        raise ConfigError(f"unknown backbone {name!r}{known}")
    if weights is not None:
        load_weights(backbone, Path(weights))
    return backbone
