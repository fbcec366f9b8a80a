"""How long AP takes with pycocotools and with faster-coco-eval.

    python experiments/ap_speed.py

Both sides take turns in one run and are timed in seconds of the processor, so that a busy machine does not count. They
start from what a detector gives, and what is done once for many evaluations is left out. One row a round; the CSV goes
to ``experiments/results/ap_speed.csv``. Set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Iterator
from dataclasses import astuple
from statistics import median
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from strategies import RESULTS

from nasneck.device import describe_device
from nasneck.evaluate import Backend, Detection, GroundTruth, coco_ap
from nasneck.rows import write_csv

SIDE = 640  # px
CASES = tuple((images, classes) for images in (200, 1000) for classes in (6, 80))
SIDES: dict[str, Backend] = {"pycocotools_s": "pycocotools", "faster_s": "faster_coco_eval"}


def scene(images: int, classes: int, *, seed: int) -> tuple[COCO, dict[int, Detection]]:
    """Images with 1 to 13 objects, one in twenty a crowd, and 20 to 100 detections of them, some of the wrong class."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    detections: dict[int, Detection] = {}
    for image in range(1, images + 1):
        count = rng.integers(1, 14)
        sides = np.exp(rng.uniform(np.log(12), np.log(300), (count, 2)))  # all three size bins
        corners = rng.uniform(0, 1, (count, 2)) * (SIDE - sides)
        labels = rng.integers(0, classes, count)
        for corner, side, label in zip(corners.tolist(), sides.tolist(), labels.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": label + 1,
                    "bbox": [*corner, *side],
                    "area": side[0] * side[1],
                    "iscrowd": int(rng.random() < 0.05),
                }
            )
        found = rng.integers(20, 101)
        of = rng.integers(0, count, found)
        boxes = np.concatenate([corners[of], corners[of] + sides[of]], axis=1)
        boxes += rng.normal(0, 0.08, boxes.shape) * np.tile(sides[of], 2)
        guessed = np.where(rng.random(found) < 0.8, labels[of], rng.integers(0, classes, found))
        detections[image] = {
            "boxes": torch.tensor(boxes, dtype=torch.float32),
            "scores": torch.tensor(rng.random(found), dtype=torch.float32),
            "labels": torch.tensor(guessed),
        }
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image, "height": SIDE, "width": SIDE} for image in range(1, images + 1)],
        "categories": [{"id": label + 1, "name": str(label)} for label in range(classes)],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports on itself
        coco.createIndex()
    return coco, detections


def measure(images: int, classes: int, *, seed: int, rounds: int = 5) -> Iterator[dict[str, Any]]:
    """A row for each round, after one that warms up."""
    coco, detections = scene(images, classes, seed=seed)
    truths = {name: GroundTruth(coco, backend=backend) for name, backend in SIDES.items()}
    categories = tuple(range(1, classes + 1))
    size = {"images": images, "classes": classes, "boxes": len(coco.anns)}
    size["detections"] = sum(len(found["scores"]) for found in detections.values())
    for turn in range(-1, rounds):
        took: dict[str, float] = {}
        values = {}
        for name in list(SIDES)[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            values[name] = coco_ap(truths[name], detections, label_to_category=categories)
            took[name] = time.process_time() - start
        if turn >= 0:
            slow, fast = (np.array(astuple(values[name])) for name in SIDES)
            yield {
                **size,
                "round": turn,
                **{name: float(f"{took[name]:.4g}") for name in SIDES},
                "ratio": float(f"{took['pycocotools_s'] / took['faster_s']:.4g}"),
                "largest_difference": float(np.abs(slow - fast).max()),
            }


def main() -> int:
    """Measure, print and write."""
    torch.set_num_threads(1)
    device = describe_device(torch.device("cpu"))
    rows: list[dict[str, Any]] = []
    for images, classes in CASES:
        found = list(measure(images, classes, seed=0))
        ratios = [row["ratio"] for row in found]
        worst = max(row["largest_difference"] for row in found)
        print(
            f"{images} images, {classes} classes: {median(ratios):.1f} times as fast ({min(ratios):.1f} to"
            f" {max(ratios):.1f}), largest difference {worst:.1g}",
            flush=True,
        )
        rows += [{**row, "seed": 0, "device": device} for row in found]
    print(write_csv(RESULTS / "ap_speed.csv", rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
