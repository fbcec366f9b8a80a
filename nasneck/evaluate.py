"""COCO AP of detections, by pycocotools or, several times faster, by faster-coco-eval.

Both give the same numbers, to the bit: of what differs between them, see :func:`_summary`.
"""

from __future__ import annotations

import contextlib
import gc
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from nasneck.errors import ConfigError, DataError

Backend = Literal["auto", "pycocotools", "faster_coco_eval"]
Detection = Mapping[str, Tensor]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """COCO's box metrics, each in 0..1, or -1 where the ground truth has no object of that size.

    Args:
        ap: Mean over IoU thresholds .50, .55, ..., .95.
        ap50, ap75: At one IoU threshold.
        small, medium, large: ``ap`` of objects below 32², between, and above 96² pixels, as counted by the
            ``area`` of the ground truth that was given.
    """

    ap: float
    ap50: float
    ap75: float
    small: float
    medium: float
    large: float


class GroundTruth:
    """Boxes to be found, indexed once for any number of evaluations.

    Args:
        coco: Images, categories, and annotations with ``bbox`` (x, y, width, height), ``area`` and ``iscrowd``. It
            is copied, not kept.
        backend: The library that computes AP; ``auto`` takes faster-coco-eval where it is installed.

    Raises:
        DataError: there is no box to be found.
        ConfigError: a library that is not installed, or not known.
    """

    def __init__(self, coco: COCO, *, backend: Backend = "auto") -> None:
        self.backend = resolve_backend(backend)
        self.image_ids: tuple[int, ...] = tuple(sorted(coco.getImgIds()))
        self.categories: tuple[int, ...] = tuple(sorted(coco.getCatIds()))
        # Images and categories go by their places from here on: faster-coco-eval takes ids for floating-point numbers,
        # so that two ids of 17 digits could be one to it.
        self.place_of = {image: place for place, image in enumerate(self.image_ids)}
        self.label_of = {category: label for label, category in enumerate(self.categories)}
        annotations = [a for a in coco.dataset.get("annotations", []) if a["image_id"] in self.place_of]
        if all(annotation.get("iscrowd", 0) for annotation in annotations):
            raise DataError(f"AP needs ground truth: none of the {len(self.image_ids)} images has a box")
        self.rows = [self._row(n, annotation) for n, annotation in enumerate(annotations, start=1)]
        self._indexed = self._index(self.rows)

    def precision(self, rows: list[Row], *, max_detections: int) -> np.ndarray:
        """Precision of detections, as the library gives it: -1 where there is no object.

        Args:
            rows: Detections as annotations with ``score``; images and categories by their places here.
            max_detections: Of each image and category, that many of the highest scores count.

        Returns:
            (IoU thresholds, recalls, categories, sizes), sizes being all, small, medium and large.
        """
        found = self._index(rows)
        if self.backend == "pycocotools":
            evaluator: Any = COCOeval(self._indexed, found, iouType="bbox")
        else:
            from faster_coco_eval import COCOeval_faster

            evaluator = COCOeval_faster(self._indexed, found, iouType="bbox")
        evaluator.params.maxDets = [max_detections]
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports on itself
            evaluator.evaluate()
            evaluator.accumulate()
        return evaluator.eval["precision"][..., -1]

    def _index(self, rows: list[Row]) -> Any:
        """The library's own object around annotations; ``COCO.loadRes`` would refuse an empty list."""
        if self.backend == "pycocotools":
            coco: Any = COCO()
        else:
            from faster_coco_eval import COCO as FasterCOCO

            coco = FasterCOCO()
        coco.dataset = {
            "images": [{"id": place} for place in range(len(self.image_ids))],
            "categories": [{"id": label} for label in range(len(self.categories))],
            "annotations": rows,
        }
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return coco

    def _row(self, number: int, annotation: Mapping[str, Any]) -> Row:
        return {
            "id": number,  # from 1 on: 0 means "no match"
            "image_id": self.place_of[annotation["image_id"]],
            "category_id": self.label_of.get(annotation["category_id"], -1),
            "bbox": list(annotation["bbox"]),
            "area": annotation["area"],
            "iscrowd": annotation.get("iscrowd", 0),
        }


def resolve_backend(backend: Backend) -> Literal["pycocotools", "faster_coco_eval"]:
    """The library that ``backend`` stands for in this process.

    Raises:
        ConfigError: one that is not installed, or not known.
    """
    if backend not in ("auto", "pycocotools", "faster_coco_eval"):
        raise ConfigError(f"ap_backend {backend!r} is not one of auto, pycocotools, faster_coco_eval")
    if backend == "pycocotools":
        return backend
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError:
        if backend == "faster_coco_eval":
            raise ConfigError(
                "ap_backend 'faster_coco_eval' needs faster-coco-eval: pip install faster-coco-eval"
            ) from None
        return "pycocotools"
    return "faster_coco_eval"


def coco_ap(
    ground_truth: GroundTruth | COCO,
    detections: Mapping[int, Detection],
    *,
    label_to_category: Sequence[int],
    max_detections: int = 100,
) -> AveragePrecision:
    """AP of ``detections`` on all images of ``ground_truth``.

    Boxes and ground truth are to be in the same pixels. With ``CocoSplit.ground_truth(canvas=...)`` these
    are pixels of the evaluated canvas, and so are the size bins. Detections inside crowd regions count
    neither way. Images without an entry in ``detections`` count as images with no detection.

    Args:
        ground_truth: Prepared, which spares the next evaluations some time, or as pycocotools has it.
        detections: Image id -> ``boxes`` (N, 4) XYXY, ``scores`` (N,), ``labels`` (N,) in 0..K-1, as
            torchvision's detectors give them.
        label_to_category: Category id of each label.
        max_detections: Of each image and category, that many of the highest scores count.

    Raises:
        DataError: there is no box to be found, or a detection is of an image that is not in the ground truth.
    """
    with _uncollected():
        truth = ground_truth if isinstance(ground_truth, GroundTruth) else GroundTruth(ground_truth)
        foreign = set(detections).difference(truth.place_of)
        if foreign:
            images = len(truth.image_ids)
            raise DataError(f"detections of image {min(foreign)}, which is not among the {images} of the split")
        places = np.array([truth.label_of.get(category, -1) for category in label_to_category])
        rows = _rows(truth, detections, places)
        return _summary(truth.precision(rows, max_detections=max_detections))


def _rows(truth: GroundTruth, detections: Mapping[int, Detection], places: np.ndarray) -> list[Row]:
    """Detections as annotations. Boxes become float64 before any arithmetic, so both libraries see the same ones."""
    filled = {image: found for image, found in detections.items() if len(found["scores"])}
    if not filled:
        return []
    boxes, scores, labels = (
        torch.cat([found[key].detach() for found in filled.values()]).cpu().numpy()
        for key in ("boxes", "scores", "labels")
    )
    boxes = boxes.astype(np.float64)  # (N, 4), a copy
    boxes[:, 2:] -= boxes[:, :2]
    images = np.repeat([truth.place_of[i] for i in filled], [len(found["scores"]) for found in filled.values()])
    columns = (images, places[labels], boxes, boxes[:, 2] * boxes[:, 3], scores)
    return [
        {"id": n, "image_id": image, "category_id": label, "bbox": box, "area": area, "score": score, "iscrowd": 0}
        for n, (image, label, box, area, score) in enumerate(zip(*(c.tolist() for c in columns), strict=True), start=1)
    ]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection inside.

    Tens of thousands of rows are made here that all live to the end. Each few thousand of them would have Python go
    through everything that torch has loaded, for a third of the time and nothing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _summary(precision: np.ndarray) -> AveragePrecision:
    # (IoU threshold, recall, category, area range). COCOeval.summarize would print, and knows only 100 detections.
    # So as not to divide by zero, pycocotools adds 2.2e-16 to a number of detections: which makes a difference where
    # it is 1, and one of one is not quite 1. faster-coco-eval has 1 there; so have we.
    precision = np.where(precision == 1 / (1 + np.spacing(1)), 1.0, precision)

    def mean(values: np.ndarray) -> float:
        present = values[values > -1]
        return float(present.mean()) if present.size else -1.0

    return AveragePrecision(
        ap=mean(precision[..., 0]),
        ap50=mean(precision[0, ..., 0]),
        ap75=mean(precision[5, ..., 0]),
        small=mean(precision[..., 1]),
        medium=mean(precision[..., 2]),
        large=mean(precision[..., 3]),
    )
