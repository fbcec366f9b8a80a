"""A generated detection set: textured shapes over four octaves of size, in COCO format.

The same settings give byte-identical annotations and pixel-identical images, so a first search needs no
download and everybody's numbers are taken on the same data.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nasneck.data.drawing import CLASSES, draw_scene
from nasneck.errors import ConfigError, DataError

VERSION = 1  # of the drawings; another one makes other images from the same seed
_MARK = "shapes.json"
_ANNOTATIONS = "annotations/instances_{}.json"


@dataclass(frozen=True, slots=True)
class ShapesConfig:
    """What to generate.

    Args:
        images: Number of images, training and validation together.
        seed: The same seed gives the same data.
        size: Height and width in pixels.
        val_fraction: The last images, this share of them, are the validation set.
        sizes: Smallest and largest longer side of a box, as a share of ``size``; log-uniform between.
        objects: Most objects in an image; at least 1 is drawn.
        distractors: Most shapes without a box in an image.
    """

    images: int = 2000
    seed: int = 0
    size: int = 128
    val_fraction: float = 0.2
    sizes: tuple[float, float] = (0.055, 0.9)
    objects: int = 6
    distractors: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.val_images < self.images:
            raise ConfigError(
                f"{self.images} images with val_fraction {self.val_fraction:g} leave no training or no validation image"
            )
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed} must be 0 or more")
        low, high = self.sizes
        if not 0 < low <= high < 1:
            raise ConfigError(f"sizes {list(self.sizes)} is no range of shares of the image, such as [0.055, 0.9]")
        if low * self.size < 4:
            raise ConfigError(
                f"the smallest shapes would have {low * self.size:.1f} px ({low:g} of {self.size}); least: 4"
            )
        if self.objects < 1 or self.distractors < 0:
            raise ConfigError(
                f"objects {self.objects} must be at least 1 and distractors {self.distractors} at least 0"
            )

    @property
    def val_images(self) -> int:
        """Number of validation images."""
        return round(self.images * self.val_fraction)


def generate_shapes(
    folder: str | Path,
    *,
    images: int = 2000,
    seed: int = 0,
    size: int = 128,
    val_fraction: float = 0.2,
    sizes: tuple[float, float] = (0.055, 0.9),
    objects: int = 6,
    distractors: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Generate a set in ``folder``; see :class:`ShapesConfig` and :func:`write_shapes`."""
    config = ShapesConfig(
        images=images,
        seed=seed,
        size=size,
        val_fraction=val_fraction,
        sizes=sizes,
        objects=objects,
        distractors=distractors,
    )
    return write_shapes(folder, config, progress=progress)


def write_shapes(
    folder: str | Path, config: ShapesConfig, *, progress: Callable[[int, int], None] | None = None
) -> bool:
    """Write ``images/*.png``, ``annotations/instances_{train,val}.json`` and ``shapes.json`` to ``folder``.

    All is drawn beside ``folder`` and renamed into place at the end, so ``folder`` is whole or absent.

    Args:
        folder: Made if need be; must be empty or hold the same set, which is then left alone.
        config: What to generate.
        progress: Called with images done and images in all.

    Returns:
        Whether anything was written.

    Raises:
        DataError: ``folder`` holds something else, or cannot be written.
    """
    folder = Path(folder)
    if _holds(folder, config):
        return False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
            # A folder of its own inside: the temporary one is private to its owner, the data need not be.
            work = Path(beside) / "data"
            _draw_all(work, config, progress)
            _move(work, folder, config)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}") from error
    return True


def _holds(folder: Path, config: ShapesConfig) -> bool:
    """Whether ``folder`` holds exactly this set; False if it is absent or empty.

    Raises:
        DataError: it holds something else.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder for the generated data")
    if not any(folder.iterdir()):
        return False
    try:
        found = json.loads((folder / _MARK).read_text())
    except (OSError, ValueError):
        raise DataError(f"{folder} is not empty and holds no generated shapes; name an empty folder for them") from None
    wanted = _mark(config)
    if found == wanted:
        whole = all((folder / _ANNOTATIONS.format(name)).is_file() for name in ("train", "val"))
        count = sum(1 for _ in (folder / "images").glob("*.png"))
        if not whole or count != config.images:
            raise DataError(
                f"{folder} is incomplete ({count} of {config.images} images); remove it to have it made anew"
            )
        return True
    found = found if isinstance(found, dict) else {}
    differing = next((key for key in wanted if found.get(key) != wanted[key]), "settings")
    raise DataError(
        f"{folder} holds shapes with {differing} = {found.get(differing)!r}, not {wanted.get(differing)!r}; "
        "name another folder or remove this one"
    )


def _move(work: Path, folder: Path, config: ShapesConfig) -> None:
    try:
        if folder.exists():
            folder.rmdir()  # empty, or the rename below would not be the whole set
        work.rename(folder)
    except OSError:
        # Another process may have finished the same set meanwhile.
        if not _holds(folder, config):
            raise


def _mark(config: ShapesConfig) -> dict[str, Any]:
    return json.loads(json.dumps({"generator": "nasneck shapes", "version": VERSION, **asdict(config)}))


def _draw_all(work: Path, config: ShapesConfig, progress: Callable[[int, int], None] | None = None) -> None:
    (work / "images").mkdir(parents=True)
    (work / "annotations").mkdir()
    pixels = (config.sizes[0] * config.size, config.sizes[1] * config.size)
    train: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    val: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    boxes = 0
    digits = max(6, math.ceil(math.log10(config.images + 1)))
    for number in range(1, config.images + 1):
        scene = draw_scene(
            np.random.default_rng([config.seed, number]),  # of its own: images do not depend on their number
            size=config.size,
            sizes=pixels,
            objects=config.objects,
            distractors=config.distractors,
        )
        name = f"{number:0{digits}d}.png"
        Image.fromarray(scene.pixels).save(work / "images" / name, compress_level=4)
        part = train if number <= config.images - config.val_images else val
        part["images"].append({"id": number, "file_name": name, "width": config.size, "height": config.size})
        for box, label in zip(scene.boxes, scene.labels, strict=True):
            boxes += 1
            part["annotations"].append(
                {
                    "id": boxes,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": list(box),
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        if progress is not None:
            progress(number, config.images)
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    for name, part in (("train", train), ("val", val)):
        content = json.dumps({"categories": categories, **part}, separators=(",", ":"))
        (work / _ANNOTATIONS.format(name)).write_text(content)
    (work / _MARK).write_text(json.dumps(_mark(config), indent=1) + "\n")
