"""A COCO annotation file, read and checked once: what exists here is consistent.

Boxes stay ``[x, y, width, height]`` in pixels of the stored image, as in the file. No image is opened here.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from nasneck.errors import DataError

ROUNDING = 2.0  # pixels a box may stick out of its image before it is an error instead of a rounding


@dataclass(frozen=True, slots=True, eq=False)
class ImageRecord:
    """One image and its boxes.

    Args:
        id: The file's image id.
        file_name: Path relative to the image folder.
        height: Pixels.
        width: Pixels.
        boxes: (N, 4) float64, x, y, width, height in pixels, inside the image.
        labels: (N,) int64, contiguous, 0 for the lowest category id.
        areas: (N,) float64, the file's areas (of the mask, where there is one), else width x height.
        crowd: (N,) bool, regions that hold many objects: no training targets, ignored by AP.
    """

    id: int
    file_name: str
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """The content of one annotation file.

    Args:
        path: The file.
        sha256: Digest of its bytes.
        categories: Category ids, ascending; the position of an id is its label.
        classes: Their names, in the same order.
        records: One per image, by image id, ascending.
        dropped: Degenerate boxes (width or height not above 0) that were left out.
    """

    path: Path
    sha256: str
    categories: tuple[int, ...]
    classes: tuple[str, ...]
    records: dict[int, ImageRecord]
    dropped: int


def read_annotations(path: str | Path) -> Annotations:
    """Read and check a COCO detection file.

    Boxes that stick out of their image by at most two pixels are clipped; boxes without extent are left out
    of everything, the ground truth of AP included, and counted in ``dropped``.

    Raises:
        DataError: the file is missing, is no COCO detection file, or contradicts itself.
    """
    path = Path(path)
    raw, content = _load(path)
    categories = _categories(path, raw["categories"])
    labels = {category: label for label, category in enumerate(categories)}
    images = _images(path, raw["images"])
    rows: dict[int, list[tuple[list[float], int, float, bool]]] = {image: [] for image in images}
    seen: set[int] = set()
    dropped = 0
    for position, entry in enumerate(raw["annotations"]):
        number = _whole(entry, "id", f"{path}: annotations[{position}]")
        where = f"{path}: annotation {number}"
        if number in seen:
            raise DataError(f"{where}: this id is used twice; annotation ids must be unique")
        seen.add(number)
        image_id = _whole(entry, "image_id", where)
        if image_id not in images:
            raise DataError(f"{where}: image_id {image_id} is none of the file's {len(images)} images")
        category = _whole(entry, "category_id", where)
        if category not in labels:
            known = ", ".join(map(str, list(categories)[:20])) + (", ..." if len(categories) > 20 else "")
            raise DataError(f"{where}: category_id {category} is none of the file's categories ({known})")
        crowd = entry.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise DataError(f"{where}: iscrowd is {crowd!r}; it must be 0 or 1")
        box = _box(entry, images[image_id], where)
        if box is None:
            dropped += 1
            continue
        area = entry.get("area")
        if area is None:
            area = box[2] * box[3]
        elif isinstance(area, bool) or not isinstance(area, int | float) or not 0 <= area < math.inf:
            raise DataError(f"{where}: area is {area!r}; it must be a number of square pixels, 0 or more")
        rows[image_id].append((box, labels[category], float(area), bool(crowd)))
    return Annotations(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        categories=tuple(categories),
        classes=tuple(categories.values()),
        records={image: _record(image, images[image], rows[image]) for image in sorted(images)},
        dropped=dropped,
    )


def _load(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"annotation file {path} does not exist") from None
    except OSError as error:
        raise DataError(f"annotation file {path} cannot be read: {error.strerror}") from None
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"annotation file {path} is not valid JSON: {error}") from None
    if not isinstance(raw, dict):
        raise DataError(f"{path} is no COCO file: expected an object, got a {type(raw).__name__}")
    for key in ("images", "annotations", "categories"):
        rows = raw.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(
                f"{path} is no COCO detection file: {key!r} must be a list of objects"
                f"{'' if key in raw else ' and is missing'}"
            )
    return raw, content


def _categories(path: Path, rows: list[dict[str, Any]]) -> dict[int, str]:
    """Category id -> name, ascending."""
    names: dict[int, str] = {}
    for position, row in enumerate(rows):
        number = _whole(row, "id", f"{path}: categories[{position}]")
        if number in names:
            raise DataError(f"{path}: category id {number} is used twice; category ids must be unique")
        name = row.get("name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{path}: category {number}: name is {name!r}; it must be a non-empty string")
        names[number] = name
    if not names:
        raise DataError(f"{path}: 'categories' is empty; a detector needs at least one class")
    return dict(sorted(names.items()))


def _images(path: Path, rows: list[dict[str, Any]]) -> dict[int, tuple[str, int, int]]:
    """Image id -> file name, height, width."""
    images: dict[int, tuple[str, int, int]] = {}
    for position, row in enumerate(rows):
        number = _whole(row, "id", f"{path}: images[{position}]")
        where = f"{path}: image {number}"
        if number in images:
            raise DataError(f"{where}: this id is used twice; image ids must be unique")
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{where}: file_name is {name!r}; it must be a path inside the image folder")
        # Lexical on purpose: symbolic links inside the folder may point where the user keeps the images.
        posix, windows = PurePosixPath(name), PureWindowsPath(name)
        if posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in name:
            raise DataError(f"{where}: file_name {name!r} leaves the image folder; it must be a path inside it")
        height, width = (_whole(row, key, where) for key in ("height", "width"))
        if height < 1 or width < 1:
            raise DataError(f"{where}: {width} x {height} pixels; width and height must be at least 1")
        images[number] = (name, height, width)
    if not images:
        raise DataError(f"{path}: 'images' is empty")
    return images


def _box(entry: dict[str, Any], image: tuple[str, int, int], where: str) -> list[float] | None:
    """The box clipped to its image; None if it has no extent."""
    box = entry.get("bbox")
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in box)
    ):
        raise DataError(f"{where}: bbox is {box!r}; it must be four numbers [x, y, width, height] in pixels")
    name, image_height, image_width = image
    x, y, width, height = map(float, box)
    if width <= 0 or height <= 0:
        return None
    outside = max(-x, -y, x + width - image_width, y + height - image_height)
    if outside > ROUNDING:
        raise DataError(
            f"{where}: bbox {box} reaches {outside:g} px outside image {name!r} of {image_width} x "
            f"{image_height} px; boxes are [x, y, width, height] in pixels of the stored image"
        )
    if outside > 0:
        left, top = max(x, 0.0), max(y, 0.0)
        width = min(x + width, float(image_width)) - left
        height = min(y + height, float(image_height)) - top
        x, y = left, top
        if width <= 0 or height <= 0:
            return None
    return [x, y, width, height]


def _record(number: int, image: tuple[str, int, int], rows: list[tuple[list[float], int, float, bool]]) -> ImageRecord:
    name, height, width = image
    return ImageRecord(
        id=number,
        file_name=name,
        height=height,
        width=width,
        boxes=np.array([row[0] for row in rows], dtype=np.float64).reshape(-1, 4),
        labels=np.array([row[1] for row in rows], dtype=np.int64),
        areas=np.array([row[2] for row in rows], dtype=np.float64),
        crowd=np.array([row[3] for row in rows], dtype=bool),
    )


def _whole(row: dict[str, Any], key: str, where: str) -> int:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"{where}: {key} is {value!r}; it must be a whole number")
    return value
