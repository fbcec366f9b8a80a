"""The ``cached`` fidelity: a frozen backbone, its features kept, and only neck and head in training.

Only the views that a training looks at have features: a short one needs a part of them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nasneck.backbone import Backbone
from nasneck.data.coco import CocoSplit
from nasneck.proxy.bank import FeatureBank, Kept
from nasneck.proxy.batches import Batches, BatchesByNumber
from nasneck.proxy.candidate import Candidate
from nasneck.proxy.captured import WORTH, captured
from nasneck.proxy.config import NeckConfig, ProxyConfig
from nasneck.proxy.features import BATCH, FeatureStore, compute_features, feature_bytes
from nasneck.proxy.fit import Fit
from nasneck.proxy.store import backbone_file, state_digest
from nasneck.proxy.views import Progress, StoredViews, Target, batch_order, letterboxed, no_progress
from nasneck.proxy.weights import make_backbone, train_backbone
from nasneck.slot import SLOT

_EVAL_BATCH = 64
_LESS = (
    "fewer images (train_limit), views or steps, a smaller canvas, or fidelity 'scratch' or 'frozen', which stores none"
)


class CachedTraining:
    """Trains and runs candidates on stored features. See :class:`nasneck.proxy.task.ProxyTask`.

    Args:
        config, neck, train, device: As for the task.
        store: Folder for the backbone's weights; None keeps them nowhere.
        features: Folder for features, shared with other processes; None keeps them in this one.
        amp: Whether candidates compute in bfloat16.
        weights: Of the backbone, in place of training it.
    """

    def __init__(
        self,
        config: ProxyConfig,
        neck: NeckConfig,
        train: CocoSplit,
        *,
        store: Path | None,
        features: Path | None,
        device: torch.device,
        amp: bool,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        self._config = config
        self._neck = neck
        self._split = train
        self._images: Sequence[int] = range(len(train))  # that candidates train on
        self._store = backbone_file(store, config, neck, train)
        self._given = weights
        self._device = device
        self._amp = amp
        self._dtype: torch.dtype = getattr(torch, config.store_dtype)
        self._backbone = make_backbone(config.backbone, levels=neck.inputs, seed=0)
        self.in_channels = self._backbone.channels
        self._views = StoredViews(train, canvas=config.canvas, augment=config.augment)
        self._bank = FeatureBank(features, device, config.memory_limit_mb, config.disk_limit_mb)
        self._bytes = feature_bytes(self._backbone, canvas=config.canvas, dtype=self._dtype)
        self._check_room()
        self._kept: tuple[tuple[int, ...], Kept] | None = None
        self._splits: dict[CocoSplit, Kept] = {}
        self._backbone_digest = ""

    def _check_room(self) -> None:
        """What can be known now is better said now than in the first trial."""
        train = self._config.train
        self._bank.check(self._bytes, min(len(self._views), train.steps * train.batch_size), instead=_LESS)

    def backbone(self, seed: int) -> Backbone | None:
        """None: candidates get features, not images."""
        return None

    @property
    def frozen_backbone(self) -> Backbone:
        """The backbone behind the features; trained once :meth:`prepare_weights` is done."""
        return self._backbone

    @property
    def digest(self) -> str:
        """Of what trainings depend on beside the setting: that of the features."""
        return self._features_digest

    @property
    def _features_digest(self) -> str:
        """Of what the features depend on: backbone weights, views, canvas, number format."""
        text = f"{self._backbone_digest}:{self._split.digest}:{self._config.augment}:{self._dtype}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def weights(self) -> dict[str, Tensor] | None:
        """Own weights of the backbone, on the CPU, for another task of the same setting; None if it has none."""
        if self._config.backbone.weights != "random" or not self._backbone_digest:
            return None
        return {name: value.detach().cpu().clone() for name, value in self._backbone.state_dict().items()}

    def prepare_weights(self, progress: Progress = no_progress) -> None:
        """Train or load the backbone, once."""
        if not self._backbone_digest:
            self._freeze(progress)

    def prepare(self, *, seed: int, steps: int, batch_size: int, progress: Progress = no_progress) -> None:
        """Also compute the features that trainings of this seed and length look at, once."""
        self.prepare_weights(progress)
        self._features_of(self._places(seed=seed, steps=steps, batch_size=batch_size), progress)
        self._views.forget()

    def prepare_split(self, split: CocoSplit, progress: Progress = no_progress) -> None:
        """Compute the features of the letterboxed images of a split, once."""
        self._of_split(split, progress)

    @contextlib.contextmanager
    def training(self, candidate: Candidate, *, seed: int, steps: int, batch_size: int) -> Iterator[Fit]:
        """The training of neck and head, which ends with the context."""
        self.prepare_weights()
        with self._batches(seed=seed, steps=steps, batch_size=batch_size) as batches:
            run = candidate.outputs
            if self._device.type == "cuda" and self._config.cuda_graphs and steps >= WORTH:
                with SLOT.working():
                    run = captured(candidate, batches.features(0))

            def losses_at(step: int) -> dict[str, Tensor]:
                return batches.losses(candidate, step, run(batches.features(step)))

            yield Fit([candidate.detector.train()], losses_at, self._config.train, steps=steps)

    @contextlib.contextmanager
    def _batches(self, *, seed: int, steps: int, batch_size: int) -> Iterator[BatchesByNumber]:
        """What a training looks at."""
        places = self._places(seed=seed, steps=steps, batch_size=batch_size)
        yield Batches(self._features_of(places), places)

    @torch.inference_mode()
    def detect(self, candidate: Candidate, split: CocoSplit) -> dict[int, dict[str, Tensor]]:
        """Detections by image id, in pixels of the canvas."""
        features = self._of_split(split).features
        candidate.detector.eval()
        found: list[dict[str, Tensor]] = []
        for start in range(0, len(features), _EVAL_BATCH):
            with SLOT.working():
                outputs = candidate.outputs(features.take(slice(start, start + _EVAL_BATCH)))
                found += candidate.canvas.detections(outputs)
        return dict(zip(split.image_ids, found, strict=True))

    def _places(self, *, seed: int, steps: int, batch_size: int) -> list[list[int]]:
        return self._places_of(self._images, seed=seed, steps=steps, batch_size=batch_size)

    def _places_of(self, images: Sequence[int], *, seed: int, steps: int, batch_size: int) -> list[list[int]]:
        """Batches of views of these images."""
        order = batch_order(len(images), batch_size=batch_size, steps=steps, seed=seed)
        return self._views.places([[(epoch, images[i]) for epoch, i in batch] for batch in order])

    def _features_of(self, batches: Sequence[Sequence[int]], progress: Progress = no_progress) -> Kept:
        """Features of the views in these batches, or of all if that is most of them; once the backbone is ready."""
        wanted = sorted({place for batch in batches for place in batch})
        if len(wanted) > len(self._views) // 2:
            wanted = list(range(len(self._views)))
        if self._kept is None or self._kept[0] != tuple(wanted):
            self._bank.check(self._bytes, len(wanted), instead=_LESS)
            self._kept = None  # the memory of one is enough
            kept = self._bank.get(self._features_digest, wanted, lambda: self._compute(wanted, progress))
            self._kept = tuple(wanted), kept
        return self._kept[1]

    def _compute(self, places: Sequence[int], progress: Progress) -> tuple[FeatureStore, list[Target]]:
        targets: list[Target] = []

        def batches() -> Iterator[Tensor]:
            for start in range(0, len(places), BATCH):
                views = self._views.at(places[start : start + BATCH])
                targets.extend(views.targets)
                yield views.images

        store = compute_features(
            self._backbone,
            batches(),
            total=len(places),
            device=self._device,
            dtype=self._dtype,
            what=f"features of {self._split.name}",
            progress=progress,
        )
        return store, targets

    def _of_split(self, split: CocoSplit, progress: Progress = no_progress) -> Kept:
        """Features of the letterboxed images of a split, computed when first asked for."""
        if split not in self._splits:
            self.prepare_weights(progress)
            self._bank.check(self._bytes, len(split), instead="fewer of these images, or a smaller canvas")
            config = self._config

            def compute() -> tuple[FeatureStore, list[Target]]:
                shown = letterboxed(split, canvas=config.canvas, jitter=config.eval_jitter, progress=progress)
                store = compute_features(
                    self._backbone,
                    shown.images.split(BATCH),
                    total=len(split),
                    device=self._device,
                    dtype=self._dtype,
                    what=f"features of {split.name}",
                    progress=progress,
                )
                return store, shown.targets

            what = [self._backbone_digest, split.digest, config.canvas, list(config.eval_jitter), config.store_dtype]
            self._splits[split] = self._bank.get(what, range(len(split)), compute)
        return self._splits[split]

    def _freeze(self, progress: Progress) -> None:
        """Give the backbone its weights for good."""
        if self._config.backbone.weights == "random":
            self._own_weights(progress)
        self._backbone.to(device=self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._backbone.eval().requires_grad_(False)
        self._backbone_digest = state_digest(self._backbone.state_dict())

    def _own_weights(self, progress: Progress) -> None:
        state = self._given or self._store.load()
        if state is not None:
            self._backbone.load_state_dict(state)
            return
        train_backbone(
            self._backbone,
            self._views,
            images=len(self._split),
            config=self._config,
            neck=self._neck,
            num_classes=len(self._split.classes),
            device=self._device,
            amp=self._amp,
            progress=progress,
        )
        self._store.save(self._backbone.state_dict())
