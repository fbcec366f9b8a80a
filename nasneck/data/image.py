"""Image files to RGB uint8 arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors

from nasneck.errors import DataError

_SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # PIL's modes for 16-bit grey files


def read_rgb(path: str | Path) -> tv_tensors.Image:
    """Decode an image file as (3, H, W) uint8 RGB.

    Grey and palette files are expanded, alpha is dropped, 16-bit grey keeps its high byte (as PIL does for
    16-bit RGB), of several frames the first is taken. An EXIF orientation is **not** applied: COCO boxes
    are in the pixels as stored.

    Raises:
        DataError: the file is missing, broken or of a kind that has no RGB form.
    """
    try:
        with Image.open(path) as image:
            array = _rgb(image)
    except FileNotFoundError:
        raise DataError(f"image {path} does not exist") from None
    except Exception as error:  # PIL's decoders raise whatever a broken file makes them stumble over
        raise DataError(f"image {path} cannot be decoded: {error}") from error
    return tv_tensors.Image(torch.from_numpy(array).permute(2, 0, 1).contiguous())  # (H, W, 3) -> (3, H, W)


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode in _SIXTEEN_BITS:
        grey = np.asarray(image).astype(np.int64)
        if grey.size and (grey.min() < 0 or grey.max() > 65535):
            raise ValueError(f"grey values {grey.min()}..{grey.max()}, expected 0..65535")
        return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("pixels are floating point; save the image with 8 or 16 bits a channel")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))
