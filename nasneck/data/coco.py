"""A split of a COCO-format set as a torch dataset, with its ground truth for AP."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from pycocotools.coco import COCO
from torch.utils.data import Dataset
from torchvision import tv_tensors

from nasneck.data.annotations import Annotations, ImageRecord, read_annotations
from nasneck.data.augment import Target, letterbox_size, xyxy
from nasneck.data.files import file_sizes, images_digest
from nasneck.data.image import read_rgb
from nasneck.errors import DataError


class CocoSplit(Dataset[tuple[tv_tensors.Image, Target]]):
    """Images and boxes, by image id, ascending.

    ``split[i]`` is ``(image, target)``: the image (3, H, W) uint8 RGB in its stored orientation, the target
    a dict of ``boxes`` (N, 4) float32 XYXY in pixels, ``labels`` (N,) int64 in 0..K-1 without a background
    class, and ``image_id``. Crowd regions are no targets; they are kept for :meth:`ground_truth`.

    Args:
        annotations: The checked annotation file.
        folder: The folder that its file names are relative to.
        name: What errors and reports call this split.
        image_ids: The images of this split; all of the file by default.

    Raises:
        DataError: an image file is missing, or an id is not in the file.
    """

    def __init__(
        self,
        annotations: Annotations,
        folder: str | Path,
        *,
        name: str = "train",
        image_ids: Iterable[int] | None = None,
    ) -> None:
        self.annotations = annotations
        self.folder = Path(folder).resolve()
        self.name = name
        ids = sorted(annotations.records if image_ids is None else set(image_ids))
        for image_id in ids:
            if image_id not in annotations.records:
                raise DataError(f"{annotations.path}: there is no image {image_id}")
        self.image_ids: tuple[int, ...] = tuple(ids)
        names = [annotations.records[image_id].file_name for image_id in ids]
        self._sizes = file_sizes(self.folder, names, source=annotations.path)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label."""
        return self.annotations.classes

    @property
    def label_to_category(self) -> tuple[int, ...]:
        """Category id by label, ascending."""
        return self.annotations.categories

    @property
    def boxes(self) -> int:
        """Number of boxes that are targets (crowd regions are not)."""
        return sum(int((~self._record(i).crowd).sum()) for i in range(len(self)))

    @functools.cached_property
    def digest(self) -> str:
        """sha256 over the annotation file, the image ids and the image files, wherever they lie.

        Sets above 256 MiB count the sizes of their files in place of the contents.
        """
        parts = (
            self.annotations.sha256,
            ",".join(map(str, self.image_ids)),
            images_digest(self.folder, self._sizes),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        record = self._record(index)
        image = read_rgb(self.folder / record.file_name)
        height, width = image.shape[-2:]
        if (height, width) != (record.height, record.width):
            turned = (height, width) == (record.width, record.height)
            hint = " (annotated after an EXIF rotation? boxes must be in the stored pixels)" if turned else ""
            raise DataError(
                f"image {self.folder / record.file_name} has {width} x {height} px, but "
                f"{self.annotations.path} says {record.width} x {record.height}{hint}"
            )
        return image, self.target(index)

    def target(self, index: int) -> Target:
        """The target of ``split[index]``, without reading the image."""
        record = self._record(index)
        keep = ~record.crowd
        return {
            "boxes": _xyxy(record, keep),
            "labels": torch.from_numpy(record.labels[keep]),
            "image_id": record.id,
        }

    def crowd_regions(self, index: int) -> tv_tensors.BoundingBoxes:
        """Crowd regions of an image, (M, 4) float32 XYXY: AP ignores detections in them."""
        record = self._record(index)
        return _xyxy(record, record.crowd)

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels, as stored."""
        record = self._record(index)
        return record.height, record.width

    def path(self, index: int) -> Path:
        """The image file."""
        return self.folder / self._record(index).file_name

    def files(self) -> dict[Path, int]:
        """Path -> size in bytes of every image file."""
        return {self.folder / name: size for name, size in self._sizes.items()}

    def subset(self, image_ids: Iterable[int], *, name: str | None = None) -> CocoSplit:
        """The split of these images of this split.

        Raises:
            DataError: an id is not in this split.
        """
        ids = set(image_ids)
        for image_id in sorted(ids.difference(self.image_ids)):
            raise DataError(f"split {self.name!r} has no image {image_id}")
        return CocoSplit(self.annotations, self.folder, name=name or self.name, image_ids=ids)

    def limit(self, images: int, *, seed: int = 0) -> CocoSplit:
        """At most ``images`` images, chosen by ``seed``; a smaller limit gives a subset of a larger one."""
        if images < 1:
            raise DataError(f"a limit of {images} images for split {self.name!r}; it must be at least 1")
        return self.subset(shuffled(self.image_ids, seed=seed)[:images])

    def ground_truth(self, *, canvas: tuple[int, int] | None = None) -> COCO:
        """The ground truth for ``COCOeval``: images, boxes and crowd regions, with the file's category ids.

        Annotations are numbered from 1: COCOeval takes a match with annotation 0 for no match.

        Args:
            canvas: (H, W) of a letterbox. Boxes and areas are then in pixels of that canvas, so that
                AP's size bins (32 and 96 px) are taken there.
        """
        images, boxes = [], []
        for index in range(len(self)):
            record = self._record(index)
            height, width = record.height, record.width
            scale_x = scale_y = 1.0
            if canvas is not None:
                new_height, new_width = letterbox_size(height, width, canvas)
                scale_y, scale_x = new_height / height, new_width / width
                height, width = canvas
            images.append({"id": record.id, "file_name": record.file_name, "height": height, "width": width})
            rows = zip(record.boxes, record.labels, record.areas, record.crowd, strict=True)
            for (x, y, w, h), label, area, crowd in rows:
                boxes.append(
                    {
                        "id": len(boxes) + 1,
                        "image_id": record.id,
                        "category_id": self.label_to_category[label],
                        "bbox": [float(v) for v in (x * scale_x, y * scale_y, w * scale_x, h * scale_y)],
                        "area": float(area * scale_x * scale_y),
                        "iscrowd": int(crowd),
                    }
                )
        return self._coco(images, boxes)

    def ground_truth_of(self, targets: Sequence[Target], *, canvas: tuple[int, int]) -> COCO:
        """The ground truth of views of the images instead of the images themselves.

        Args:
            targets: Of ``split[index]`` as each image is shown, in order: ``boxes`` (N, 4) XYXY in pixels of the
                view, ``labels`` (N,). Areas are those of the boxes, and there are no crowd regions.
            canvas: (H, W) of the views.
        """
        images, boxes = [], []
        for image_id, target in zip(self.image_ids, targets, strict=True):
            images.append({"id": image_id, "height": canvas[0], "width": canvas[1]})
            for (left, top, right, bottom), label in zip(
                target["boxes"].tolist(), target["labels"].tolist(), strict=True
            ):
                width, height = right - left, bottom - top
                boxes.append(
                    {
                        "id": len(boxes) + 1,
                        "image_id": image_id,
                        "category_id": self.label_to_category[label],
                        "bbox": [left, top, width, height],
                        "area": width * height,
                        "iscrowd": 0,
                    }
                )
        return self._coco(images, boxes)

    def _coco(self, images: list[dict[str, Any]], boxes: list[dict[str, Any]]) -> COCO:
        categories = [
            {"id": number, "name": name} for number, name in zip(self.label_to_category, self.classes, strict=True)
        ]
        dataset: Any = {"images": images, "annotations": boxes, "categories": categories}
        coco = COCO()
        coco.dataset = dataset
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports on itself
            coco.createIndex()
        return coco

    def __repr__(self) -> str:
        return f"CocoSplit({self.name!r}, {len(self)} images, {len(self.classes)} classes)"

    def _record(self, index: int) -> ImageRecord:
        return self.annotations.records[self.image_ids[index]]


def read_coco(annotations: str | Path, images: str | Path, *, name: str = "train") -> CocoSplit:
    """Read a COCO annotation file and check that every image of it exists.

    Raises:
        DataError: see :func:`nasneck.data.annotations.read_annotations` and :class:`CocoSplit`.
    """
    return CocoSplit(read_annotations(annotations), images, name=name)


def shuffled(image_ids: Iterable[int], *, seed: int) -> list[int]:
    """Image ids in an order given by ``seed``.

    By digest instead of by a random generator: stable over library versions, and adding images to a set
    leaves the order of the others alone.
    """
    return sorted(image_ids, key=lambda number: hashlib.sha256(f"{seed}:{number}".encode()).digest())


def _xyxy(record: ImageRecord, keep: Any) -> tv_tensors.BoundingBoxes:
    boxes = torch.from_numpy(record.boxes[keep])  # (N, 4) XYWH
    corners = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1).float()  # (N, 4) XYXY
    return xyxy(corners, (record.height, record.width))
