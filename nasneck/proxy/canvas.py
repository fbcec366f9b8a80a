"""A torchvision detector on canvases of one size: its matching, losses and post-processing, called directly.

Since the canvas is fixed, so are the anchors; and what is matched to a stored view does not change from step
to step, so it is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet

from nasneck.proxy.views import Target


class CanvasDetector:
    """What a detector does after its features, for canvases of ``canvas`` px.

    Args:
        detector: From :func:`nasneck.detector.build_detector`.
        grids: Height and width of the map of each level, finest first.
        canvas: Side of the images, px.
        device: Of features and targets.
    """

    def __init__(
        self,
        detector: RetinaNet | FCOS,
        *,
        grids: Sequence[tuple[int, int]],
        canvas: int,
        device: torch.device,
    ) -> None:
        self.detector = detector
        self.canvas = canvas
        generator: Any = detector.anchor_generator
        self._anchors_by_level: list[Tensor] = generator.on_grids(grids, device)
        self._anchors = torch.cat(self._anchors_by_level)
        self._counts = [len(anchors) for anchors in self._anchors_by_level]

    def outputs(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """What the head gives for the neck's maps, float32."""
        # Losses and boxes in bfloat16 would be coarse; under autocast only the convolutions are to be.
        return {name: value.float() for name, value in self.detector.head(list(maps)).items()}

    def matches(self, targets: Sequence[Target]) -> list[Tensor]:
        """Index of the box matched to each anchor (A,) int64, negative for none, of each image."""
        head = self.detector.head
        self.detector.head = _KeepMatches()
        try:
            anchors = [self._anchors] * len(targets)
            if isinstance(self.detector, FCOS):
                found: Any = self.detector.compute_loss(list(targets), {}, anchors, self._counts)
            else:
                found = self.detector.compute_loss(list(targets), {}, anchors)
        finally:
            self.detector.head = head
        return found

    def losses(
        self, outputs: dict[str, Tensor], targets: Sequence[Target], matches: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The detector's losses, given what :meth:`outputs` and :meth:`matches` gave."""
        head: Any = self.detector.head
        if isinstance(self.detector, FCOS):
            # Its losses are sums over all points of the batch by the number of all that are matched, so a batch is as
            # good as one image with as many points; torchvision goes through images one by one, a tenth of a step.
            return head.compute_loss(*self._as_one(outputs, targets, matches))
        return head.compute_loss(list(targets), outputs, [self._anchors] * len(targets), list(matches))

    def _as_one(self, outputs: dict[str, Tensor], targets: Sequence[Target], matches: Sequence[Tensor]) -> Any:
        counts = [len(target["labels"]) for target in targets]
        offsets = torch.tensor([0, *accumulate(counts)][:-1], device=self._anchors.device)
        found = torch.stack(list(matches))
        matched = torch.where(found < 0, found, found + offsets[:, None]).flatten()
        target = {name: torch.cat([target[name] for target in targets]) for name in ("boxes", "labels")}
        flat = {name: value.flatten(0, 1)[None] for name, value in outputs.items()}
        return [target], flat, [self._anchors.repeat(len(targets), 1)], [matched]

    def detections(self, outputs: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Boxes (px of the canvas), scores and labels of each image."""
        images = len(next(iter(outputs.values())))
        by_level = {name: list(value.split(self._counts, dim=1)) for name, value in outputs.items()}
        return self.detector.postprocess_detections(
            by_level, [self._anchors_by_level] * images, [(self.canvas, self.canvas)] * images
        )


class _KeepMatches(nn.Module):
    """Stands in for a head while torchvision matches, and hands the result out."""

    def compute_loss(self, targets: Any, head_outputs: Any, anchors: Any, matched_idxs: list[Tensor]) -> list[Tensor]:
        return matched_idxs
