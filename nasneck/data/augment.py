"""Images and boxes onto canvases of one size: letterbox for evaluation, augmented views for training.

Everything random is drawn from a generator seeded by an argument, never from torch's global one, so equal
seeds give equal views in any process. Geometry and colour are done by ``torchvision.transforms.v2``, which
moves boxes with their pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from nasneck.errors import ConfigError

Target = dict[str, Any]

FILL = (124.0, 116.0, 104.0)  # ImageNet's mean colour: padding is 0 after the usual normalisation
_SMALLEST = 2.0  # pixels; what a crop leaves of a box below this is no target


def letterbox_size(height: int, width: int, canvas: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image after it was fitted into ``canvas`` (H, W) with its aspect ratio kept."""
    scale = min(canvas[0] / height, canvas[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def letterbox(
    image: tv_tensors.Image, target: Target, canvas: tuple[int, int]
) -> tuple[tv_tensors.Image, Target, tuple[float, float]]:
    """Fit an image into ``canvas`` (H, W), padded at the bottom and on the right.

    Every box stays, however small it becomes.

    Returns:
        The image (3, H, W), the target in pixels of the canvas, and the scale (x, y), for
        :func:`to_original`. The two differ by rounding to whole pixels.
    """
    canvas = _checked_canvas(canvas)
    height, width = image.shape[-2:]
    size = letterbox_size(height, width, canvas)
    pixels, boxes = _resize_and_pad(image, target["boxes"], size, canvas)
    return (
        tv_tensors.Image(pixels),
        {**target, "boxes": xyxy(boxes, canvas)},
        (size[1] / width, size[0] / height),
    )


def xyxy(corners: Tensor, size: tuple[int, int]) -> tv_tensors.BoundingBoxes:
    """Corners (N, 4) as boxes of an image of ``size`` (H, W)."""
    # torchvision makes boxes in __new__, while torch's stubs know only Tensor.__init__.
    return tv_tensors.BoundingBoxes(corners, format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=size)  # type: ignore[call-overload]


def to_original(boxes: Tensor, scale: tuple[float, float]) -> Tensor:
    """Boxes (N, 4) XYXY in pixels of the canvas as boxes in pixels of the original image."""
    return boxes / boxes.new_tensor([*scale, *scale])


@dataclass(frozen=True, slots=True)
class Augment:
    """A random view of an image on a canvas.

    The image is fitted into the canvas, scaled by a factor drawn log-uniformly from ``jitter``, cropped at
    random where it is larger than the canvas and padded (bottom, right) where it is smaller, flipped and
    recoloured. Boxes follow; those of which less than two pixels are left are dropped with their labels.

    Args:
        canvas: (H, W) of the view.
        jitter: Smallest and largest scale, relative to the letterbox. A wide one, such as (0.3, 1.2),
            spreads a set whose boxes are all of one size over the levels of a pyramid.
        flip: Probability of a horizontal flip.
        colour: Brightness, contrast and saturation are scaled by factors in 1 ± colour.
    """

    canvas: tuple[int, int]
    jitter: tuple[float, float] = (0.8, 1.2)
    flip: float = 0.5
    colour: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "canvas", _checked_canvas(self.canvas))
        low, high = self.jitter
        if not 0 < low <= high < math.inf:
            raise ConfigError(f"jitter {self.jitter!r} is no range of scales; say for example (0.8, 1.2)")
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"flip {self.flip!r} is no probability; it must lie in 0..1")
        if not 0 <= self.colour < 1:
            raise ConfigError(f"colour {self.colour!r} must lie in 0..1, 1 left out")

    def __call__(
        self, image: tv_tensors.Image, target: Target, *, seed: int | None = None
    ) -> tuple[tv_tensors.Image, Target]:
        """One view of (3, h, w) uint8, as (3, H, W) uint8 and its target.

        Args:
            image: (3, h, w) uint8.
            target: With ``boxes`` and ``labels``.
            seed: Of this view. Without it one is drawn from torch's global generator, which a DataLoader
                seeds in each of its workers.
        """
        if seed is None:
            seed = int(torch.randint(2**62, ()))
        draw = torch.Generator().manual_seed(seed)
        # All numbers are drawn, needed or not, so that one setting does not shift the draws of another.
        zoom, top, left, flip, brightness, contrast, saturation = torch.rand(7, generator=draw).tolist()
        height, width = image.shape[-2:]
        low, high = self.jitter
        factor = low * (high / low) ** zoom
        fitted = min(self.canvas[0] / height, self.canvas[1] / width) * factor
        size = max(1, round(height * fitted)), max(1, round(width * fitted))
        offset = tuple(int(u * (max(0, s - c) + 1)) for u, s, c in zip((top, left), size, self.canvas, strict=True))
        pixels, boxes = _resize_and_pad(image, target["boxes"], size, self.canvas, offset=(offset[0], offset[1]))
        if flip < self.flip:
            pixels, boxes = F.horizontal_flip(pixels), F.horizontal_flip(boxes)
        if self.colour:
            pixels = F.adjust_brightness(pixels, self._factor(brightness))
            pixels = F.adjust_contrast(pixels, self._factor(contrast))
            pixels = F.adjust_saturation(pixels, self._factor(saturation))
        boxes, valid = F.sanitize_bounding_boxes(boxes, min_size=_SMALLEST)
        view = {**target, "boxes": xyxy(boxes, self.canvas), "labels": target["labels"][valid]}
        return tv_tensors.Image(pixels), view

    def _factor(self, uniform: float) -> float:
        return 1 + self.colour * (2 * uniform - 1)


def train_transform(
    canvas: tuple[int, int] | int,
    *,
    jitter: tuple[float, float] = (0.8, 1.2),
    flip: float = 0.5,
    colour: float = 0.0,
) -> Augment:
    """The augmentation of on-the-fly training; an int is a square canvas. See :class:`Augment`."""
    return Augment(_square(canvas), jitter=jitter, flip=flip, colour=colour)


def augmented_view(
    image: tv_tensors.Image,
    target: Target,
    *,
    canvas: tuple[int, int] | int,
    seed: int,
    jitter: tuple[float, float] = (0.8, 1.2),
    flip: float = 0.5,
    colour: float = 0.0,
) -> tuple[tv_tensors.Image, Target]:
    """The view number ``seed`` of an image, the same in every process. See :class:`Augment`."""
    return Augment(_square(canvas), jitter=jitter, flip=flip, colour=colour)(image, target, seed=seed)


def _resize_and_pad(
    image: tv_tensors.Image,
    boxes: tv_tensors.BoundingBoxes,
    size: tuple[int, int],
    canvas: tuple[int, int],
    *,
    offset: tuple[int, int] = (0, 0),
) -> tuple[Tensor, Tensor]:
    """Resize to ``size``, cut at ``offset`` (top, left), pad at the bottom and on the right to ``canvas``."""
    size_list = list(size)
    resized = F.resize(image, size_list, antialias=True)
    moved = F.resize(boxes, size_list)
    crop = [*offset, min(size[0], canvas[0]), min(size[1], canvas[1])]
    padding = [0, 0, canvas[1] - crop[3], canvas[0] - crop[2]]  # left, top, right, bottom
    resized = F.pad(F.crop(resized, *crop), padding, fill=list(FILL))
    moved = F.pad(F.crop(moved, *crop), padding)
    return resized, moved


def _square(canvas: tuple[int, int] | int) -> tuple[int, int]:
    return (canvas, canvas) if isinstance(canvas, int) else canvas


def _checked_canvas(canvas: tuple[int, int]) -> tuple[int, int]:
    if len(canvas) != 2 or not all(isinstance(side, int) and side >= 1 for side in canvas):
        raise ConfigError(f"canvas {canvas!r} is no (height, width) in pixels")
    return canvas[0], canvas[1]
