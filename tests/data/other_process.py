"""What must be the same in every process, as JSON; run as a script with an empty folder to write to."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors

from nasneck.data import augmented_view, generate_shapes
from nasneck.data.augment import xyxy
from nasneck.data.coco import shuffled


def digests(folder: Path) -> dict[str, str]:
    """Digest of every file by name, of images by their pixels."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".png":
            with Image.open(path) as image:
                content = np.asarray(image).tobytes()
        else:
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def views() -> list[Any]:
    """Digests of the pixels and the boxes of three views."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 50, 70), dtype=np.uint8)
    image = tv_tensors.Image(torch.from_numpy(pixels))
    boxes = xyxy(torch.tensor([[5.0, 5.0, 30.0, 45.0], [0.0, 0.0, 70.0, 50.0]]), (50, 70))
    target = {"boxes": boxes, "labels": torch.tensor([0, 1])}
    found = []
    for seed in (0, 1, 2**40):
        moved, view = augmented_view(image, target, canvas=64, seed=seed, jitter=(0.3, 1.2), colour=0.2)
        found.append([hashlib.sha256(moved.numpy().tobytes()).hexdigest(), view["boxes"].tolist()])
    return found


def everything(folder: Path) -> dict[str, Any]:
    """All that is compared, JSON-ready."""
    generate_shapes(folder, images=20, seed=3)
    return {"order": shuffled(range(30), seed=5), "views": views(), "shapes": digests(folder)}


if __name__ == "__main__":
    print(json.dumps(everything(Path(sys.argv[1]))))
