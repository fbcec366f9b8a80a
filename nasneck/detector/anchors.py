"""Anchors that follow pyramid levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList


class LevelAnchors(AnchorGenerator):
    """Anchors centred in the cells of each level: at ``(i + 0.5) * 2**level`` pixels.

    They differ from torchvision's in three ways, all as in the published RetinaNet and FCOS code:
    centres lie in the middle of a cell, where torchvision's lie in its corner (the single cell of a coarse
    level would then sit on the image's border, inside no object); the stride is the level's, where
    torchvision divides image by grid (which drifts for sides that the stride does not divide); sizes are
    not rounded to whole pixels (a small one would become 0). They are float32 under autocast, too.

    Args:
        levels: Finest first.
        scales: Square root of an anchor's area, in strides of its level.
        ratios: Height / width.
    """

    def __init__(self, levels: Sequence[int], *, scales: Sequence[float], ratios: Sequence[float] = (1.0,)) -> None:
        sizes = tuple(tuple(scale * 2**level for scale in scales) for level in levels)
        super().__init__(sizes, (tuple(ratios),) * len(sizes))
        self.strides = [2**level for level in levels]
        self.cell_anchors = [
            _centred(size, ratios) + stride / 2 for size, stride in zip(sizes, self.strides, strict=True)
        ]
        self._last: tuple[object, list[Tensor]] = (None, [])

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The anchors (A, 4) XYXY of each image: levels finest first, then rows, columns, anchors."""
        grids = [tuple(m.shape[-2:]) for m in feature_maps]
        per_level = self.on_grids(grids, feature_maps[0].device)
        return [torch.cat(per_level)] * len(image_list.image_sizes)

    def on_grids(self, grids: Sequence[tuple[int, ...]], device: torch.device) -> list[Tensor]:
        """The anchors (A_l, 4) of each level, for maps of these heights and widths."""
        key = (tuple(grids), device)
        if self._last[0] != key:  # the canvas of a training run does not change; its anchors do not either
            self.set_cell_anchors(torch.float32, device)
            strides = [[torch.tensor(s, device=device)] * 2 for s in self.strides]
            self._last = (key, self.grid_anchors([list(grid) for grid in grids], strides))
        return self._last[1]


def _centred(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Boxes around the origin, (len(ratios) * len(sizes), 4), in torchvision's order: ratio, then size."""
    rows = []
    for ratio in ratios:
        for size in sizes:
            width, height = size / ratio**0.5, size * ratio**0.5
            rows.append((-width / 2, -height / 2, width / 2, height / 2))
    return torch.tensor(rows)
