"""Batches whose features are made when they are asked for."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from nasneck.backbone import Backbone
from nasneck.proxy.bank import Maps
from nasneck.proxy.candidate import Candidate
from nasneck.proxy.features import normalised
from nasneck.proxy.views import Batch, Target, Views, loaded_batches


class Passes:
    """Batches by number, each made of images by a pass of a frozen backbone.

    The last one is remembered, so that trainings which take turns step by step need one pass a step for all of them.
    Any other order gives the same features, and takes longer.

    Args:
        views: Of the images.
        order: Their addresses, by batch.
        backbone: In eval mode, on ``device``.
        device: Of computation.
        amp: Whether the backbone computes in bfloat16.
        workers: Processes that read and augment images; 0 reads in the process itself.

    Attributes:
        users: Trainings that look at these batches.
        batch: The one that is remembered; -1 if there is none.
    """

    def __init__(
        self,
        views: Views,
        order: Sequence[list[tuple[int, int]]],
        backbone: Backbone,
        *,
        device: torch.device,
        amp: bool,
        workers: int,
    ) -> None:
        self.users = 0
        self.batch = -1
        self._views = views
        self._order = order
        self._backbone = backbone
        self._device = device
        self._amp = amp
        self._workers = workers
        self._source: Generator[Batch, None, None] | None = None
        self._features: list[Tensor] = []
        self._targets: list[Target] = []
        self._matches: dict[Maps, list[Tensor]] = {}

    def features(self, batch: int) -> list[Tensor]:
        """Maps (B, C, H, W) float32 of a batch, finest first; not to be written to."""
        self._go_to(batch)
        return self._features

    def losses(self, candidate: Candidate, batch: int, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of what a candidate gave for the features of a batch."""
        self._go_to(batch)
        if candidate.maps not in self._matches:  # the same for all candidates with the same maps
            self._matches[candidate.maps] = candidate.canvas.matches(self._targets)
        return candidate.canvas.losses(outputs, self._targets, self._matches[candidate.maps])

    def close(self) -> None:
        """End the processes that read images; nothing is remembered any more."""
        self.batch = -1
        if self._source is not None:
            self._source.close()
            self._source = None

    def _go_to(self, batch: int) -> None:
        if batch == self.batch:
            return
        try:
            self._make(batch)
        except BaseException:  # half a batch is none: whoever asks next begins with the reading anew
            self.close()
            raise

    def _make(self, batch: int) -> None:
        if self._source is None or batch != self.batch + 1:
            self.close()
            self._source = loaded_batches(self._views, self._order[batch:], workers=self._workers)
        images, targets = next(self._source)
        self._targets = [{name: value.to(self._device) for name, value in target.items()} for target in targets]
        self._features = self._pass(images)
        self._matches = {}
        self.batch = batch

    @torch.no_grad()
    def _pass(self, images: Tensor) -> list[Tensor]:
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._amp):
            maps = self._backbone(normalised(images, self._backbone, self._device))
        return [m.float() for m in maps.values()]
