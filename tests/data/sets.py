"""COCO sets on disk, built by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Content = dict[str, Any]


def content() -> Content:
    """Three images, one without boxes; category ids 3, 7, 90, not in order; one crowd region."""
    return {
        "images": [
            {"id": 30, "file_name": "c.png", "width": 20, "height": 50},
            {"id": 10, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 20, "file_name": "sub/b.png", "width": 64, "height": 64},
        ],
        "categories": [{"id": 90, "name": "zebra"}, {"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 0, "image_id": 10, "category_id": 7, "bbox": [1, 2, 10, 20], "area": 150.0, "iscrowd": 0},
            {"id": 5, "image_id": 10, "category_id": 90, "bbox": [20.5, 5, 9.5, 4.25], "iscrowd": 0},
            {"id": 6, "image_id": 10, "category_id": 3, "bbox": [0, 0, 40, 30], "area": 900, "iscrowd": 1},
            {"id": 9, "image_id": 20, "category_id": 3, "bbox": [0, 0, 64, 64], "area": 4096},
        ],
    }


def write_set(root: Path, name: str, coco: Content, *, images: str = "images", shade: int = 0) -> Path:
    """Write a set in the standard layout; every image has random pixels of its own."""
    path = root / "annotations" / f"instances_{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(coco))
    for entry in coco["images"]:
        rng = np.random.default_rng([shade, entry["id"]])
        pixels = rng.integers(0, 256, (entry["height"], entry["width"], 3), dtype=np.uint8)
        file = root / images / entry["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return path


def many(count: int, *, first: int = 1, prefix: str = "t") -> Content:
    """``count`` images of 16 x 16 pixels with one box each."""
    numbers = range(first, first + count)
    return {
        "images": [{"id": n, "file_name": f"{prefix}{n}.png", "width": 16, "height": 16} for n in numbers],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 8, 8], "area": 64, "iscrowd": 0} for n in numbers
        ],
    }
