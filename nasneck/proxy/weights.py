"""Backbone weights of the project's own making: a short detector training, stored once per setting."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasneck.backbone import Backbone, build_backbone
from nasneck.errors import ConfigError
from nasneck.necks import fpn
from nasneck.proxy.candidate import build_candidate, seeded
from nasneck.proxy.config import BackboneConfig, NeckConfig, ProxyConfig
from nasneck.proxy.fit import NotFinite, fit
from nasneck.proxy.views import Progress, StoredViews, batch_order, no_progress

VERSION = 1  # of this training; raise it when the same settings would give other weights


def make_backbone(config: BackboneConfig, *, levels: tuple[int, int], seed: int) -> Backbone:
    """The backbone as configured; random weights are drawn from ``seed``."""
    file = None if config.weights in ("random", "pretrained") else config.weights
    width = {"width": config.width} if not config.name.startswith("timm:") else {}
    with seeded(seed):
        return build_backbone(
            config.name,
            levels=levels,
            norm=config.norm,
            pretrained=config.weights == "pretrained",
            weights=file,
            **width,
        )


def training_digest(config: ProxyConfig, neck: NeckConfig, *, train_digest: str, classes: int) -> str:
    """sha256 of all that the stored weights depend on."""
    settings = {
        "version": VERSION,
        "canvas": config.canvas,
        "backbone": asdict(config.backbone),
        "detector": asdict(config.detector),
        "augment": asdict(config.augment),
        "train": asdict(config.backbone_train),
        "neck": asdict(neck),
        "data": train_digest,
        "classes": classes,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def state_digest(state: dict[str, Tensor]) -> str:
    """sha256 of names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def train_backbone(
    backbone: Backbone,
    views: StoredViews,
    *,
    images: int,
    config: ProxyConfig,
    neck: NeckConfig,
    num_classes: int,
    device: torch.device,
    amp: bool,
    progress: Progress = no_progress,
) -> None:
    """Train ``backbone`` in place, as part of a detector with FPN, on the stored views of ``images`` images.

    The views that it has seen are kept by ``views``.

    Raises:
        ConfigError: the training diverged.
    """
    graph = fpn(inputs=neck.inputs, levels=neck.levels)
    backbone.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    candidate = build_candidate(
        graph,
        config=config,
        neck=neck,
        in_channels=backbone.channels,
        num_classes=num_classes,
        seed=0,
        device=device,
        amp=amp,
        backbone=backbone,
    )
    options = config.backbone_train
    order = batch_order(images, batch_size=options.batch_size, steps=options.steps, seed=0)
    batches = views.places(order)
    seen = sorted({place for batch in batches for place in batch})
    views.keep(seen, progress)

    def losses_at(step: int) -> dict[str, Tensor]:
        shown = views.at(batches[step])
        return candidate.losses_of_images(shown.images, shown.targets)

    try:
        fit(
            [candidate.detector],
            losses_at,
            options,
            steps=options.steps,
            progress=lambda done, total: progress("backbone training", done, total),
        )
    except NotFinite as error:
        raise ConfigError(
            f"the backbone's training diverged ({error}); lower backbone_train.learning_rate {options.learning_rate:g}"
        ) from None


def check_memory(config: ProxyConfig, *, views: int) -> None:
    """Find out whether the views that a backbone is trained on fit into memory.

    Raises:
        ConfigError: they take more than ``memory_limit_mb``.
    """
    options = config.backbone_train
    seen = min(views, options.steps * options.batch_size)
    needed = seen * 3 * config.canvas**2 / 2**20
    if needed > config.memory_limit_mb:
        raise ConfigError(
            f"the {seen} views of {config.canvas} px that the backbone is trained on need {needed:.0f} MiB, more than "
            f"memory_limit_mb {config.memory_limit_mb}; take fewer images (train_limit), views or "
            "backbone_train.steps, a smaller canvas, or weights of your own"
        )


class WeightStore:
    """The one place in a folder for the weights of a setting.

    Args:
        folder: Of the store; None keeps nothing.
        config, neck, train_digest, classes: What the weights depend on.
    """

    def __init__(
        self, folder: Path | None, config: ProxyConfig, neck: NeckConfig, *, train_digest: str, classes: int
    ) -> None:
        self._settings = training_digest(config, neck, train_digest=train_digest, classes=classes)
        self._path = None if folder is None else folder / f"backbone-{self._settings[:16]}.pt"

    def load(self) -> dict[str, Tensor] | None:
        """What :meth:`save` kept; None if there is nothing.

        Raises:
            ConfigError: the file is there and is not what was written.
        """
        return None if self._path is None else load_state(self._path, settings_digest=self._settings)

    def save(self, state: dict[str, Tensor]) -> None:
        """Keep weights, unless they are there."""
        if self._path is not None and not self._path.exists():
            save_state(self._path, state, settings_digest=self._settings)


def save_state(path: Path, state: dict[str, Tensor], *, settings_digest: str) -> None:
    """Write weights so that the file is either whole or absent, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "settings": settings_digest,
        "digest": state_digest(state),
        "state": {name: value.detach().cpu().contiguous() for name, value in state.items()},
    }
    # Beside its place, so that renaming is atomic; by a name of its own, since workers may train at once.
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with draft.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def load_state(path: Path, *, settings_digest: str) -> dict[str, Tensor] | None:
    """Weights that :func:`save_state` wrote for these settings; None if there are none.

    Raises:
        ConfigError: the file is there and is not what was written.
    """
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        whole = content["settings"] == settings_digest and content["digest"] == state_digest(content["state"])
    except Exception as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}); delete it to train anew") from None
    if not whole:
        raise ConfigError(f"{path} was changed after it was written; delete it to train the backbone anew")
    return content["state"]
