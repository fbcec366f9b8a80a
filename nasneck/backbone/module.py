"""The module that every backbone becomes, and the check of the levels asked of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nasneck.errors import ConfigError


class Backbone(nn.Module):
    """An image (N, 3, H, W) to an ordered mapping of ``"c3"`` and so on, each (N, C, H / 2^level, ...).

    Attributes:
        levels: Finest first.
        channels: Width by level.
        mean, std: Of the images that it wants, by colour, for pixels in 0..1.
    """

    def __init__(
        self,
        body: nn.Module,
        channels: Mapping[int, int],
        *,
        channels_last: bool = False,
        mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        std: tuple[float, ...] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        self.body = body
        self.channels = dict(sorted(channels.items()))
        self.levels = tuple(self.channels)
        self.channels_last = channels_last
        self.mean = mean
        self.std = std

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        features = self.body(images)
        maps = list(features.values()) if isinstance(features, Mapping) else list(features)
        if self.channels_last:
            maps = [m.permute(0, 3, 1, 2) for m in maps]  # (N, H, W, C) -> (N, C, H, W)
        return OrderedDict((f"c{level}", m) for level, m in zip(self.levels, maps, strict=True))


def check_levels(name: str, wanted: tuple[int, ...], has: Mapping[int, Any]) -> None:
    missing = [level for level in wanted if level not in has]
    if missing:
        raise ConfigError(
            f"backbone {name!r} has no level {', '.join(map(str, missing))}; it has {', '.join(map(str, sorted(has)))}"
        )


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
