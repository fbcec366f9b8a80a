"""What a frozen backbone makes of images, computed once: in memory, or in files that the workers of a machine share.

A file is mapped into memory, not read: it lies in the system's page cache once, for however many processes, and what
does not fit there stays on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasneck.errors import ConfigError
from nasneck.proxy.features import FeatureStore
from nasneck.proxy.views import Target

Maps = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """Features of some images and what is to be found in them.

    Args:
        features: One row an image.
        targets: Of each row, on the device of computation.
        row: Of an image by its place.
        matches: By the maps of a neck, see :meth:`nasneck.proxy.canvas.CanvasDetector.matches`.
    """

    features: FeatureStore
    targets: list[Target]
    row: dict[int, int]
    matches: dict[Maps, list[Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class FeatureBank:
    """Keeps what was computed.

    Args:
        folder: Of the files; None keeps everything in this process. What lies there may be deleted at any time.
        device: Where it is used. On a GPU it is held there as well, if there is room.
        memory_limit_mb: Without a folder: more MiB than this are refused.
        disk_limit_mb: With one: likewise.
    """

    folder: Path | None
    device: torch.device
    memory_limit_mb: int
    disk_limit_mb: int

    def check(self, bytes_each: int, images: int, *, instead: str) -> None:
        """Find out whether there is room.

        Args:
            bytes_each: Of an image.
            images: How many, each in one view.
            instead: What to do if there is none.

        Raises:
            ConfigError: there is none by the limits.
        """
        needed = bytes_each * images / 2**20
        name, limit = ("memory_limit_mb", self.memory_limit_mb)
        if self.folder is not None:
            name, limit = ("disk_limit_mb", self.disk_limit_mb)
        if needed > limit:
            raise ConfigError(
                f"the features of {images} views need {needed:.0f} MiB, more than {name} {limit}; take {instead}"
            )

    def get(
        self, what: Any, places: Sequence[int], compute: Callable[[], tuple[FeatureStore, Sequence[Target]]]
    ) -> Kept:
        """What ``compute`` gives for the images at ``places``: from a file if it was computed before.

        Args:
            what: All that it depends on but the places, ready for JSON.
            places: Of the images, in order.
            compute: Called if it is not there; by one process at a time.
        """
        if self.folder is None:
            features, targets = compute()
            return self._kept(features, targets, places)
        text = json.dumps([what, list(places)])
        path = self.folder / f"features-{hashlib.sha256(text.encode()).hexdigest()[:32]}.pt"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with _one_at_a_time(path.with_suffix(".lock")):
                if not path.exists():
                    _write(path, *compute())
        return self._kept(*_read(path, self.device), places)

    def _kept(self, features: FeatureStore, targets: Sequence[Target], places: Sequence[int]) -> Kept:
        moved = [{name: value.to(self.device) for name, value in target.items()} for target in targets]
        return Kept(features.near(), moved, {place: row for row, place in enumerate(places)})


def _write(path: Path, features: FeatureStore, targets: Sequence[Target]) -> None:
    """The file is whole or absent; it need not survive a loss of power, so nothing waits for the disk."""
    boxes = [target["boxes"] for target in targets]
    content = {
        "maps": features.maps,
        "boxes": torch.cat(boxes) if boxes else torch.empty(0, 4),
        "labels": torch.cat([target["labels"] for target in targets]) if boxes else torch.empty(0, dtype=torch.int64),
        "counts": torch.tensor([len(found) for found in boxes], dtype=torch.int64),
    }
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        torch.save(content, draft)
        draft.replace(path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError | RuntimeError):  # torch's writer says the latter of a full disk
            raise ConfigError(f"{path}: features cannot be written ({error}); make room, or set train_limit") from None
        raise


def _read(path: Path, device: torch.device) -> tuple[FeatureStore, list[Target]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        counts = content["counts"].tolist()
        parts = zip(content["boxes"].clone().split(counts), content["labels"].clone().split(counts), strict=True)
        return FeatureStore(content["maps"], device), [{"boxes": boxes, "labels": labels} for boxes, labels in parts]
    except Exception as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}); delete it to compute it anew") from None


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Held by one process; where files cannot be locked, all of them compute."""
    with path.open("a") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)  # given back as the file is closed, also by a process that is killed
        yield
