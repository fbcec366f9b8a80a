"""The weights that all candidates of a task start from, in files: one of each kind per setting."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasneck.data.coco import CocoSplit
from nasneck.errors import ConfigError
from nasneck.proxy.config import NeckConfig, ProxyConfig
from nasneck.proxy.holdings import sketch
from nasneck.space import SearchSpace

VERSION = 1  # of these trainings; raise it when the same settings would give other weights
SUPERNET = "supernet/"  # before the names of weights of a supernet, where they are together with a backbone's
Weights = dict[str, Tensor]


class StateFile:
    """The one place in a folder for the weights of a setting.

    Args:
        folder: Of the file; None keeps nothing.
        name: What it is called by, besides the setting.
        settings: All that the weights depend on, ready for JSON.
    """

    def __init__(self, folder: Path | None, name: str, settings: Mapping[str, Any]) -> None:
        self._settings = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self._path = None if folder is None else folder / f"{name}-{self._settings[:16]}.pt"

    def load(self) -> Weights | None:
        """What :meth:`save` kept; None if there is nothing.

        Raises:
            ConfigError: the file is there and is not what was written.
        """
        return None if self._path is None else load_state(self._path, settings_digest=self._settings)

    def save(self, state: Mapping[str, Tensor], *, replace: bool = False) -> None:
        """Keep weights, unless there are some that are not to be replaced: others may have begun with those."""
        if self._path is not None and (replace or not self._path.exists()):
            save_state(self._path, state, settings_digest=self._settings)


def backbone_file(folder: Path | None, config: ProxyConfig, neck: NeckConfig, train: CocoSplit) -> StateFile:
    """Of a backbone's own training."""
    return StateFile(folder, "backbone", _backbone_settings(config, neck, train))


def supernet_file(
    folder: Path | None, config: ProxyConfig, neck: NeckConfig, train: CocoSplit, space: SearchSpace
) -> StateFile:
    """Of the weights that the candidates of a space share."""
    options = {name: value for name, value in asdict(config.train).items() if name != "steps"}
    settings = {
        "version": VERSION,
        "backbone": _backbone_settings(config, neck, train),
        "supernet": asdict(config.supernet),
        "numbers": [config.store_dtype, config.amp],
        "train": options,
        "space": sketch(space),
    }
    return StateFile(folder, "supernet", settings)


class TaskStore:
    """All files of a task at once: its :attr:`nasneck.proxy.ProxyTask.weights`.

    Args:
        folder: Of the files.
        config, neck, train, space: As for the task.
    """

    def __init__(
        self, folder: Path, config: ProxyConfig, neck: NeckConfig, train: CocoSplit, space: SearchSpace | None
    ) -> None:
        self._backbone = backbone_file(folder, config, neck, train)
        self._supernet = None if space is None else supernet_file(folder, config, neck, train, space)

    def load(self) -> Weights | None:
        """What is there; None if nothing is.

        Raises:
            ConfigError: a file that is not what was written.
        """
        found = dict(self._backbone.load() or {})
        if self._supernet is not None:
            found |= self._supernet.load() or {}
        return found or None

    def save(self, weights: Weights) -> None:
        """Keep weights for later."""
        backbone, supernet = parted(weights)
        if backbone:
            self._backbone.save(backbone)
        if supernet and self._supernet is not None:
            self._supernet.save(supernet, replace=True)


def parted(weights: Weights) -> tuple[Weights, Weights]:
    """Those of the backbone, and those of the supernet."""
    supernet = {name: value for name, value in weights.items() if name.startswith(SUPERNET)}
    return {name: value for name, value in weights.items() if name not in supernet}, supernet


def _backbone_settings(config: ProxyConfig, neck: NeckConfig, train: CocoSplit) -> dict[str, Any]:
    return {
        "version": VERSION,
        "canvas": config.canvas,
        "backbone": asdict(config.backbone),
        "detector": asdict(config.detector),
        "augment": asdict(config.augment),
        "train": asdict(config.backbone_train),
        "neck": asdict(neck),
        "data": train.digest,
        "classes": len(train.classes),
    }


def state_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 of names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_state(path: Path, state: Mapping[str, Tensor], *, settings_digest: str) -> None:
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


def load_state(path: Path, *, settings_digest: str) -> Weights | None:
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
        raise ConfigError(f"{path} was changed after it was written; delete it to train anew")
    return content["state"]
