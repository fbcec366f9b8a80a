"""The ``scratch`` fidelity: backbone, neck and head train together on images, as in the NAS-FPN paper."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from nasneck.backbone import Backbone
from nasneck.data.coco import CocoSplit
from nasneck.proxy.candidate import Candidate
from nasneck.proxy.config import NeckConfig, ProxyConfig
from nasneck.proxy.fit import Fit
from nasneck.proxy.views import (
    Progress,
    Views,
    batch_order,
    letterboxed_batches,
    loaded_batches,
    no_progress,
)
from nasneck.proxy.weights import make_backbone
from nasneck.slot import SLOT

_EVAL_BATCH = 16


class ScratchTraining:
    """Trains and runs whole detectors on images. See :class:`nasneck.proxy.task.ProxyTask`."""

    def __init__(
        self, config: ProxyConfig, neck: NeckConfig, train: CocoSplit, *, device: torch.device, amp: bool
    ) -> None:
        self._config = config
        self._neck = neck
        self._split = train
        self._device = device
        self._amp = amp
        self.in_channels = self.backbone(0).channels  # fails now rather than in every candidate

    @property
    def digest(self) -> str:
        """Of the weights that training starts from, where they are a file."""
        weights = self._config.backbone.weights
        if weights in ("random", "pretrained"):
            return weights
        with Path(weights).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def backbone(self, seed: int) -> Backbone:
        """A new backbone for one candidate; its random weights follow ``seed``."""
        return make_backbone(self._config.backbone, levels=self._neck.inputs, seed=seed)

    @property
    def weights(self) -> dict[str, Tensor] | None:
        """None: every candidate has a backbone of its own."""
        return None

    def prepare_weights(self, progress: Progress = no_progress) -> None:
        """Nothing is shared between candidates."""

    def prepare(self, *, seed: int, steps: int, batch_size: int, progress: Progress = no_progress) -> None:
        """Nothing is shared between candidates."""

    def prepare_split(self, split: CocoSplit, progress: Progress = no_progress) -> None:
        """Images are read when they are needed."""

    @contextlib.contextmanager
    def training(self, candidate: Candidate, *, seed: int, steps: int, batch_size: int) -> Iterator[Fit]:
        """The training of the whole detector; the processes that read images end with the context."""
        config = self._config
        views = Views(self._split, canvas=config.canvas, augment=config.augment, seed=seed)
        order = batch_order(len(views), batch_size=batch_size, steps=steps, seed=seed)
        batches = loaded_batches(views, order, workers=config.workers)

        def losses_at(step: int) -> dict[str, Tensor]:
            images, targets = next(batches)
            return candidate.losses_of_images(images, targets)

        try:
            yield Fit([candidate.detector.train()], losses_at, config.train, steps=steps)
        finally:
            batches.close()

    @torch.inference_mode()
    def detect(self, candidate: Candidate, split: CocoSplit) -> dict[int, dict[str, Tensor]]:
        """Detections by image id, in pixels of the canvas."""
        candidate.detector.eval()
        found: list[dict[str, Tensor]] = []
        config = self._config
        batches = letterboxed_batches(split, canvas=config.canvas, jitter=config.eval_jitter, batch_size=_EVAL_BATCH)
        for images, _ in batches:
            with SLOT.working():
                found += candidate.canvas.detections(candidate.outputs(candidate.features(images)))
        return dict(zip(split.image_ids, found, strict=True))
