"""The ``cached`` fidelity: a frozen backbone, its features in memory, and only neck and head in training."""

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
from nasneck.proxy.features import FeatureStore, check_memory, compute_features
from nasneck.proxy.fit import Fit
from nasneck.proxy.views import (
    Canvases,
    Progress,
    Target,
    batch_order,
    letterboxed,
    no_progress,
    stored_views,
)
from nasneck.proxy.weights import (
    WeightStore,
    make_backbone,
    state_digest,
    train_backbone,
)
from nasneck.slot import SLOT

_EVAL_BATCH = 64


class CachedTraining:
    """Trains and runs candidates on stored features. See :class:`nasneck.proxy.task.ProxyTask`."""

    def __init__(
        self,
        config: ProxyConfig,
        neck: NeckConfig,
        train: CocoSplit,
        *,
        store: Path | None,
        device: torch.device,
        amp: bool,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        self._config = config
        self._neck = neck
        self._split = train
        self._store = WeightStore(store, config, neck, train_digest=train.digest, classes=len(train.classes))
        self._given = weights
        self._device = device
        self._amp = amp
        self._dtype: torch.dtype = getattr(torch, config.store_dtype)
        self._backbone = make_backbone(config.backbone, levels=neck.inputs, seed=0)
        self.in_channels = self._backbone.channels
        self._images = len(train)
        self.memory_mb = check_memory(
            self._backbone,
            images=self._images,
            views=config.augment.views,
            canvas=config.canvas,
            dtype=self._dtype,
            limit_mb=config.memory_limit_mb,
        )
        self._train_features: FeatureStore | None = None
        self._targets: list[Target] = []
        self._matches: dict[tuple[tuple[int, int, int], ...], list[Tensor]] = {}
        self._split_features: dict[CocoSplit, FeatureStore] = {}
        self._backbone_digest = ""

    def backbone(self, seed: int) -> Backbone | None:
        """None: candidates get features, not images."""
        return None

    @property
    def frozen_backbone(self) -> Backbone:
        """The backbone behind the features; trained once :meth:`prepare` is done."""
        return self._backbone

    @property
    def digest(self) -> str:
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
            self._freeze(None, progress)

    def prepare(self, progress: Progress = no_progress) -> None:
        """Also compute the features of the training views, once."""
        if self._train_features is not None:
            return
        views = self._views(progress)
        if not self._backbone_digest:
            self._freeze(views, progress)
        self._targets = [{k: v.to(self._device) for k, v in t.items()} for t in views.targets]
        self._train_features = compute_features(
            self._backbone,
            views.images,
            device=self._device,
            dtype=self._dtype,
            what="features of train",
            progress=progress,
        )

    def prepare_split(self, split: CocoSplit, progress: Progress = no_progress) -> None:
        """Compute the features of the letterboxed images of a split, once."""
        self._features_of(split, progress)

    def _features_of(self, split: CocoSplit, progress: Progress = no_progress) -> FeatureStore:
        """Features of the letterboxed images of a split, computed when first asked for."""
        if split not in self._split_features:
            config = self._config
            images = letterboxed(split, canvas=config.canvas, jitter=config.eval_jitter, progress=progress).images
            self._split_features[split] = compute_features(
                self._backbone,
                images,
                device=self._device,
                dtype=self._dtype,
                what=f"features of {split.name}",
                progress=progress,
            )
        return self._split_features[split]

    @contextlib.contextmanager
    def training(self, candidate: Candidate, *, seed: int, steps: int, batch_size: int) -> Iterator[Fit]:
        """The training of neck and head, which ends with the context."""
        features = self._train_features
        if features is None:
            raise RuntimeError("prepare() comes before training()")
        config = self._config
        matches = self._matches_of(candidate)
        order = batch_order(self._images, batch_size=batch_size, steps=steps, seed=seed)

        def losses_at(step: int) -> dict[str, Tensor]:
            places = [(epoch % config.augment.views) * self._images + index for epoch, index in order[step]]
            outputs = candidate.outputs(features.take(torch.tensor(places)))
            targets = [self._targets[i] for i in places]
            return candidate.canvas.losses(outputs, targets, [matches[i] for i in places])

        yield Fit([candidate.detector.train()], losses_at, config.train, steps=steps)

    @torch.inference_mode()
    def detect(self, candidate: Candidate, split: CocoSplit) -> dict[int, dict[str, Tensor]]:
        """Detections by image id, in pixels of the canvas."""
        features = self._features_of(split)
        candidate.detector.eval()
        found: list[dict[str, Tensor]] = []
        for start in range(0, len(features), _EVAL_BATCH):
            with SLOT.working():
                outputs = candidate.outputs(features.take(slice(start, start + _EVAL_BATCH)))
                found += candidate.canvas.detections(outputs)
        return dict(zip(split.image_ids, found, strict=True))

    def _matches_of(self, candidate: Candidate) -> list[Tensor]:
        """What is matched to each stored view: the same for all candidates with the same maps."""
        if candidate.maps not in self._matches:
            self._matches[candidate.maps] = candidate.canvas.matches(self._targets)
        return self._matches[candidate.maps]

    def _views(self, progress: Progress) -> Canvases:
        config = self._config
        return stored_views(self._split, canvas=config.canvas, augment=config.augment, progress=progress)

    def _freeze(self, views: Canvases | None, progress: Progress) -> None:
        """Give the backbone its weights for good; ``views`` are made if it has to be trained on them."""
        if self._config.backbone.weights == "random":
            self._own_weights(views, progress)
        self._backbone.to(device=self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._backbone.eval().requires_grad_(False)
        self._backbone_digest = state_digest(self._backbone.state_dict())

    def _own_weights(self, views: Canvases | None, progress: Progress) -> None:
        state = self._given or self._store.load()
        if state is not None:
            self._backbone.load_state_dict(state)
            return
        train_backbone(
            self._backbone,
            views or self._views(progress),
            images=self._images,
            config=self._config,
            neck=self._neck,
            num_classes=len(self._split.classes),
            device=self._device,
            amp=self._amp,
            progress=progress,
        )
        self._store.save(self._backbone.state_dict())
