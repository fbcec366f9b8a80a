"""COCO AP of detections, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from nasneck.errors import DataError

Detection = Mapping[str, Tensor]


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


def coco_ap(
    ground_truth: COCO,
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
        ground_truth: With annotation ids from 1 on (COCOeval takes 0 for "no match").
        detections: Image id -> ``boxes`` (N, 4) XYXY, ``scores`` (N,), ``labels`` (N,) in 0..K-1, as
            torchvision's detectors give them.
        label_to_category: Category id of each label.
        max_detections: Of each image, that many of the highest scores count.

    Raises:
        DataError: there is no box to be found, or a detection is of an image that is not in the ground truth.
    """
    ids = sorted(ground_truth.getImgIds())
    annotations = ground_truth.dataset.get("annotations", [])
    if not any(not annotation.get("iscrowd", 0) for annotation in annotations):
        raise DataError(f"AP needs ground truth: none of the {len(ids)} images has a box")
    foreign = set(detections).difference(ids)
    if foreign:
        raise DataError(f"detections of image {min(foreign)}, which is not among the {len(ids)} of the split")
    dataset: Any = {**ground_truth.dataset, "annotations": _annotations(detections, label_to_category)}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports on itself
        results = COCO()
        results.dataset = dataset
        results.createIndex()
        evaluator = COCOeval(ground_truth, results, iouType="bbox")
        evaluator.params.imgIds = ids
        evaluator.params.maxDets = [max_detections]
        evaluator.evaluate()
        evaluator.accumulate()
    return _summary(evaluator)


def _annotations(detections: Mapping[int, Detection], label_to_category: Sequence[int]) -> list[dict[str, Any]]:
    """What ``COCO.loadRes`` makes of a file of results; it refuses an empty one, which is no error here."""
    annotations: list[dict[str, Any]] = []
    for image_id, found in detections.items():
        boxes, scores, labels = (found[key].detach().cpu().tolist() for key in ("boxes", "scores", "labels"))
        for (left, top, right, bottom), score, label in zip(boxes, scores, labels, strict=True):
            width, height = right - left, bottom - top
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label_to_category[label],
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "score": score,
                    "iscrowd": 0,
                }
            )
    return annotations


def _summary(evaluator: COCOeval) -> AveragePrecision:
    # precision: (IoU threshold, recall, category, area range, max detections), -1 where there is no object.
    # COCOeval.summarize would print, and knows only 100 detections.
    precision = evaluator.eval["precision"][..., -1]
    thresholds = list(np.round(evaluator.params.iouThrs, 2))

    def mean(values: np.ndarray) -> float:
        present = values[values > -1]
        return float(present.mean()) if present.size else -1.0

    return AveragePrecision(
        ap=mean(precision[..., 0]),
        ap50=mean(precision[thresholds.index(0.5), ..., 0]),
        ap75=mean(precision[thresholds.index(0.75), ..., 0]),
        small=mean(precision[..., 1]),
        medium=mean(precision[..., 2]),
        large=mean(precision[..., 3]),
    )
