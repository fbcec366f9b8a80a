"""Textured shapes on textured backgrounds, drawn with numpy and PIL from a seeded generator.

Only uniform draws, polygons and plain arithmetic: no vectorised transcendental functions, whose last digit
differs between processors.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("disc", "ring", "square", "triangle", "star", "cross")

_OVERSAMPLING = 4
_TRIES = 40  # placements of a shape before it is given up
_SEEN = 0.3  # coverage from which a pixel belongs to an object
_COVERED = 0.3  # share of an object that later ones may cover
_COLOURS = 4  # drawn for an object; the one that stands out most is taken
_HUES = 0.7  # half the width of a class's hues, in distances between classes


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawn image and its objects.

    Args:
        pixels: (size, size, 3) uint8 RGB.
        boxes: Per object x, y, width, height of its visible part, whole pixels.
        labels: Per object the position in ``CLASSES``.
    """

    pixels: np.ndarray
    boxes: tuple[tuple[int, int, int, int], ...]
    labels: tuple[int, ...]


def draw_scene(
    rng: np.random.Generator, *, size: int, sizes: tuple[float, float], objects: int, distractors: int
) -> Scene:
    """Draw one image.

    Large objects are drawn first and small ones may lie on them; no object is covered by more than 30 %.

    Args:
        rng: Everything random comes from here.
        size: Height and width in pixels.
        sizes: Smallest and largest longer box side in pixels; drawn log-uniformly.
        objects: Most objects; at least one is drawn, unless this is 0.
        distractors: Most sticks and crescents, which belong to no class.
    """
    background = _rgb(rng.random(), _between(rng, 0, 0.3), _between(rng, 0.25, 0.85))
    pixels = _texture(rng, size, size, background, contrast=0.15, period=size * _between(rng, 0.1, 0.5))
    for _ in range(int(rng.random() * (distractors + 1))):
        side = _log_between(rng, sizes[0] * 1.5, sizes[1] * 0.5)
        mask = _mask(_stick(rng) if rng.random() < 0.5 else _crescent(rng), side)
        _paint(rng, pixels, mask, _place(rng, mask, size), None)
    count = min(objects, 1 + int(rng.random() * objects))
    sides = sorted((_log_between(rng, *sizes) for _ in range(count)), reverse=True)
    covers: list[np.ndarray] = []  # (size, size) bool, the visible part of each object
    totals: list[int] = []
    labels: list[int] = []
    for side in sides:
        label = int(rng.random() * len(CLASSES))
        mask = _mask(_outline(rng, CLASSES[label]), side)
        for _ in range(_TRIES):
            top, left = _place(rng, mask, size)
            cover = np.zeros((size, size), dtype=bool)
            cover[top : top + mask.shape[0], left : left + mask.shape[1]] = mask >= min(_SEEN, mask.max())
            if all((seen & ~cover).sum() >= (1 - _COVERED) * total for seen, total in zip(covers, totals, strict=True)):
                _paint(rng, pixels, mask, (top, left), label)
                covers = [seen & ~cover for seen in covers] + [cover]
                totals.append(int(cover.sum()))
                labels.append(label)
                break
    boxes = tuple(_extent(cover) for cover in covers)
    return Scene((pixels * 255 + 0.5).astype(np.uint8), boxes, tuple(labels))


def _outline(rng: np.random.Generator, name: str) -> list[np.ndarray]:
    """Polygons of a shape, (n, 2) each: the first is filled, those after it are cut out."""
    turn = _between(rng, -0.3, 0.3)
    stretch = _between(rng, 0.8, 1.25)
    if name == "disc":
        outline = [_circle(1.0)]
    elif name == "ring":
        outline = [_circle(1.0), _circle(_between(rng, 0.5, 0.65))]
    elif name == "square":
        outline = [np.array([(-1.0, -1.0), (1, -1), (1, 1), (-1, 1)])]
    elif name == "triangle":
        outline = [_regular(3, 1.0, 1.0)]
    elif name == "star":
        outline = [_regular(5, 1.0, 0.42)]
    else:  # cross
        a = _between(rng, 0.25, 0.35)
        arm = [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a)]
        outline = [np.array([*arm, (-1, -a), (-a, -a)], dtype=float)]
    return _turned(outline, turn, stretch)


def _stick(rng: np.random.Generator) -> list[np.ndarray]:
    thin = _between(rng, 0.06, 0.12)
    bar = np.array([(-1.0, -thin), (1, -thin), (1, thin), (-1, thin)])
    return _turned([bar], _between(rng, 0, math.pi), 1.0)


def _crescent(rng: np.random.Generator) -> list[np.ndarray]:
    return _turned([_circle(1.0), _circle(0.9) + np.array((0.45, 0))], _between(rng, 0, 2 * math.pi), 1.0)


def _turned(outline: list[np.ndarray], turn: float, stretch: float) -> list[np.ndarray]:
    """Stretched horizontally, then turned (radians)."""
    c, s = math.cos(turn), math.sin(turn)
    matrix = np.array([(c, s), (-s, c)])
    return [points * (stretch, 1.0) @ matrix for points in outline]


def _circle(radius: float) -> np.ndarray:
    return _regular(32, radius, radius)


def _regular(points: int, outer: float, inner: float) -> np.ndarray:
    """A star polygon of ``points`` tips, (2 * points, 2), the first one up."""
    radii = (outer, inner if inner != outer else outer * math.cos(math.pi / points))
    corners = [(k, radii[k % 2]) for k in range(2 * points)]
    return np.array([(r * math.sin(math.pi * k / points), -r * math.cos(math.pi * k / points)) for k, r in corners])


def _mask(outline: list[np.ndarray], side: float) -> np.ndarray:
    """Coverage (h, w) in 0..1 of a shape whose longer box side is ``side`` pixels."""
    low, high = outline[0].min(axis=0), outline[0].max(axis=0)
    scale = side * _OVERSAMPLING / float((high - low).max())
    width, height = (max(1, math.ceil(v / _OVERSAMPLING)) for v in (high - low) * scale)
    canvas = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for position, points in enumerate(outline):
        corners = [(float(x), float(y)) for x, y in (points - low) * scale]
        draw.polygon(corners, fill=255 if position == 0 else 0)
    return np.asarray(canvas.reduce(_OVERSAMPLING), dtype=np.float64) / 255


def _place(rng: np.random.Generator, mask: np.ndarray, size: int) -> tuple[int, int]:
    """Top and left of a mask that lies inside the image."""
    top, left = (int(rng.random() * (max(0, size - side) + 1)) for side in mask.shape)
    return top, left


def _paint(
    rng: np.random.Generator,
    pixels: np.ndarray,
    mask: np.ndarray,
    corner: tuple[int, int],
    label: int | None,
) -> None:
    """Blend a textured shape into ``pixels``, in a colour that stands out from what it covers."""
    top, left = corner
    height, width = mask.shape
    period = max(3.0, max(height, width) * _between(rng, 0.15, 0.45))
    region = pixels[top : top + height, left : left + width]
    covered = (mask[..., None] * region).sum(axis=(0, 1)) / mask.sum()
    colour = _colour(rng, label, covered)
    fill = _texture(rng, height, width, colour, contrast=0.3, period=period)
    region += mask[..., None] * (fill - region)


def _colour(rng: np.random.Generator, label: int | None, covered: np.ndarray) -> np.ndarray:
    """The colour, of a few drawn for a class, that differs most from what it will cover.

    A class has a tendency in hue that overlaps with its neighbours', so that colour helps and shape decides;
    None is any hue.
    """
    drawn = []
    for _ in range(_COLOURS):
        hue = rng.random() if label is None else (label + _between(rng, -_HUES, _HUES)) / len(CLASSES) % 1
        drawn.append(_rgb(hue, _between(rng, 0.5, 1), _between(rng, 0.4, 1)))
    return max(drawn, key=lambda colour: float(np.abs(colour - covered).sum()))


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def _texture(
    rng: np.random.Generator, height: int, width: int, colour: np.ndarray, *, contrast: float, period: float
) -> np.ndarray:
    """Stripes, checks, a gradient or smooth noise, (height, width, 3) in 0..1: ``colour`` lit and shaded."""
    kind = int(rng.random() * 4)
    turn = _between(rng, 0, math.pi)
    c, s = math.cos(turn) / period, math.sin(turn) / period
    y, x = np.arange(height)[:, None] + rng.random(), np.arange(width)[None, :] + rng.random()
    along, across = x * c + y * s, y * c - x * s  # periods
    if kind == 0:
        weight = _wave(along, period)
    elif kind == 1:
        weight = _wave(along, period) * _wave(across, period)
    elif kind == 2:
        weight = along - along.min()
        weight = weight / max(float(weight.max()), 1e-9) * 2 - 1
    else:
        grid = tuple(2 + math.ceil(side / period) for side in (width, height))
        coarse = Image.fromarray((rng.random((grid[1], grid[0])) * 255).astype(np.uint8))
        weight = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 127.5 - 1
    return np.clip(colour + weight[..., None] * (0.5 + 0.5 * rng.random(3)) * contrast, 0, 1)


def _wave(phase: np.ndarray, period: float) -> np.ndarray:
    """A square wave in -1..1 of period 1 whose flanks are a pixel wide."""
    triangle = 1 - 4 * np.abs(phase - np.floor(phase) - 0.5)
    return np.clip(triangle * period / 4, -1, 1)


def _extent(cover: np.ndarray) -> tuple[int, int, int, int]:
    """x, y, width, height of the True cells."""
    rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _log_between(rng: np.random.Generator, low: float, high: float) -> float:
    return low * (high / low) ** float(rng.random())
