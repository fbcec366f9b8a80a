"""Boxes stay on their pixels, and a seed is a view."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors

from nasneck.data import (
    Augment,
    Target,
    augmented_view,
    letterbox,
    letterbox_size,
    to_original,
    train_transform,
)
from nasneck.data.augment import FILL, xyxy
from nasneck.errors import ConfigError

sides = st.integers(8, 70)


def sample(height: int = 40, width: int = 60) -> tuple[tv_tensors.Image, Target]:
    """A black image with a white block (label 3) in it, and a box (label 1) at the right edge."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    top, left, bottom, right = height // 4, width // 4, height // 2, width // 2
    image[:, top:bottom, left:right] = 255
    boxes = torch.tensor([[left, top, right, bottom], [width - 3, 0, width, height]], dtype=torch.float32)
    target = {"boxes": xyxy(boxes, (height, width)), "labels": torch.tensor([3, 1]), "image_id": 9}
    return tv_tensors.Image(image), target


def empty(height: int = 40, width: int = 60) -> tuple[tv_tensors.Image, Target]:
    image, target = sample(height, width)
    return image, {
        **target,
        "boxes": xyxy(torch.zeros(0, 4), (height, width)),
        "labels": target["labels"][:0],
    }


def bright_box(image: torch.Tensor) -> list[int]:
    """The box around the white pixels."""
    rows, columns = torch.where((image > 200).all(dim=0))
    return [int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


@given(height=sides, width=sides, canvas=st.tuples(sides, sides))
@settings(max_examples=80, deadline=None)
def test_letterbox(height: int, width: int, canvas: tuple[int, int]) -> None:
    image, target = sample(height, width)
    moved, view, scale = letterbox(image, target, canvas)
    new_height, new_width = letterbox_size(height, width, canvas)
    assert moved.shape == (3, *canvas)
    assert moved.dtype == torch.uint8
    assert (new_height == canvas[0] and new_width <= canvas[1]) or (new_width == canvas[1] and new_height <= canvas[0])
    assert abs(new_height / height - new_width / width) <= 1 / min(height, width)
    padding = torch.tensor(FILL, dtype=torch.uint8)[:, None, None]
    assert (moved[:, new_height:] == padding).all()
    assert (moved[:, :, new_width:] == padding).all()
    boxes = view["boxes"]
    assert isinstance(boxes, tv_tensors.BoundingBoxes)
    assert boxes.canvas_size == canvas
    assert view["labels"].tolist() == [3, 1]
    assert view["image_id"] == 9
    torch.testing.assert_close(to_original(boxes.as_subclass(torch.Tensor), scale), target["boxes"].data)


def test_letterbox_moves_pixels_with_boxes() -> None:
    image, target = sample(40, 60)
    moved, view, scale = letterbox(image, target, (80, 120))
    assert scale == (2.0, 2.0)
    assert view["boxes"][0].tolist() == [30, 20, 60, 40]
    assert bright_box(moved) == pytest.approx([30, 20, 60, 40], abs=1)


def test_letterbox_changes_nothing_that_fits() -> None:
    image, target = sample(40, 60)
    moved, view, scale = letterbox(image, target, (40, 60))
    assert torch.equal(moved, image)
    assert torch.equal(view["boxes"], target["boxes"])
    assert scale == (1.0, 1.0)


def test_what_was_given_is_left_alone() -> None:
    image, target = sample()
    before = image.clone(), target["boxes"].clone()
    letterbox(image, target, (20, 20))
    augmented_view(image, target, canvas=20, seed=1, colour=0.4)
    assert torch.equal(image, before[0])
    assert torch.equal(target["boxes"], before[1])
    assert target["boxes"].canvas_size == (40, 60)


@given(height=sides, width=sides, canvas=st.tuples(sides, sides), seed=st.integers(0, 2**62))
@settings(max_examples=80, deadline=None)
def test_a_view_lies_on_its_canvas(height: int, width: int, canvas: tuple[int, int], seed: int) -> None:
    image, target = sample(height, width)
    moved, view = Augment(canvas, jitter=(0.3, 2.0), flip=0.5, colour=0.3)(image, target, seed=seed)
    boxes = view["boxes"]
    assert isinstance(moved, tv_tensors.Image)
    assert moved.shape == (3, *canvas)
    assert moved.dtype == torch.uint8
    assert isinstance(boxes, tv_tensors.BoundingBoxes)
    assert boxes.canvas_size == canvas
    assert boxes.dtype == torch.float32
    assert len(boxes) == len(view["labels"])
    corners = boxes.as_subclass(torch.Tensor)
    assert (corners >= 0).all()
    assert (corners[:, 0::2] <= canvas[1]).all()
    assert (corners[:, 1::2] <= canvas[0]).all()
    assert (corners[:, 2:] - corners[:, :2] >= 2).all()
    assert set(view["labels"].tolist()) <= {1, 3}


@pytest.mark.parametrize("seed", range(12))
def test_boxes_stay_on_their_pixels(seed: int) -> None:
    image, target = sample(120, 160)
    moved, view = augmented_view(image, target, canvas=(120, 160), seed=seed, jitter=(0.5, 1.6))
    boxes = view["boxes"][view["labels"] == 3].tolist()
    assert len(boxes) == 1
    assert bright_box(moved) == pytest.approx(boxes[0], abs=1.5)


def test_flip_and_jitter_do_what_they_say() -> None:
    image, target = sample(40, 60)
    still, _ = augmented_view(image, target, canvas=(40, 60), seed=5, jitter=(1, 1), flip=0)
    assert torch.equal(still, image)
    turned, view = augmented_view(image, target, canvas=(40, 60), seed=5, jitter=(1, 1), flip=1)
    assert torch.equal(turned, image.flip(-1))
    assert view["boxes"].tolist() == [[30, 10, 45, 20], [0, 0, 3, 40]]
    half, view = augmented_view(image, target, canvas=(40, 60), seed=5, jitter=(0.5, 0.5), flip=0)
    assert view["boxes"][0].tolist() == [7.5, 5, 15, 10]
    assert bright_box(half) == pytest.approx([7.5, 5, 15, 10], abs=1)


def test_jitter_is_spread_over_its_range() -> None:
    image, target = sample(64, 64)
    side = []
    for seed in range(300):
        _, view = augmented_view(image, target, canvas=64, seed=seed, jitter=(0.25, 1), flip=0)
        box = view["boxes"][view["labels"] == 3][0]
        side.append(float(box[2] - box[0]) / 16)
    octave = -torch.tensor(side).log2()
    assert 0 <= octave.min() < 0.05
    assert 1.95 < octave.max() <= 2.01
    assert octave.mean() == pytest.approx(1.0, abs=0.12)  # log-uniform; 3.5 standard errors


def test_flip_is_as_frequent_as_asked() -> None:
    image, target = sample(40, 60)
    views = [augmented_view(image, target, canvas=(40, 60), seed=s, jitter=(1, 1), flip=0.25) for s in range(300)]
    flips = sum(not torch.equal(view[0], image) for view in views)
    assert 50 <= flips <= 100  # 75 +- 3.3 standard deviations


def test_colour_changes_pixels_and_no_boxes() -> None:
    image, target = sample()
    image = tv_tensors.Image(image // 3 + 60)
    plain, plain_view = augmented_view(image, target, canvas=48, seed=3)
    coloured, view = augmented_view(image, target, canvas=48, seed=3, colour=0.4)
    assert torch.equal(view["boxes"], plain_view["boxes"])
    assert not torch.equal(coloured, plain)


def test_a_sliver_left_by_a_crop_is_dropped_with_its_label() -> None:
    image, target = sample(64, 64)
    dropped = 0
    for seed in range(60):
        _, view = augmented_view(image, target, canvas=64, seed=seed, jitter=(1.5, 1.5), flip=0)
        assert len(view["boxes"]) == len(view["labels"])
        dropped += 1 not in view["labels"].tolist()
    assert 0 < dropped < 60


def test_images_without_boxes() -> None:
    image, target = empty()
    for _, view in (augmented_view(image, target, canvas=32, seed=1), letterbox(image, target, (32, 32))[:2]):
        assert view["boxes"].shape == (0, 4)
        assert view["labels"].shape == (0,)
        assert view["labels"].dtype == torch.int64


def test_a_seed_neither_reads_nor_changes_the_global_generator() -> None:
    image, target = sample()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, _ = augmented_view(image, target, canvas=32, seed=7, colour=0.2)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second, _ = augmented_view(image, target, canvas=32, seed=7, colour=0.2)
    third, _ = augmented_view(image, target, canvas=32, seed=8, colour=0.2)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_without_a_seed_the_global_generator_decides() -> None:
    image, target = sample()
    transform = train_transform(48)
    assert transform.canvas == (48, 48)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first, second = transform(image, target)[0], transform(image, target)[0]
        torch.manual_seed(3)
        again = transform(image, target)[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"jitter": (1.2, 0.8)}, r"jitter \(1\.2, 0\.8\) is no range of scales"),
        ({"jitter": (0, 1)}, "is no range of scales"),
        ({"flip": 1.5}, r"flip 1\.5 is no probability"),
        ({"colour": 1.0}, r"colour 1\.0 must lie in 0\.\.1"),
    ],
)
def test_wrong_settings(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_transform(64, **setting)


@pytest.mark.parametrize("canvas", [(0, 5), (5,), (5, 5.5)])
def test_wrong_canvases(canvas: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"is no \(height, width\) in pixels"):
        train_transform(canvas)
    with pytest.raises(ConfigError, match=r"is no \(height, width\) in pixels"):
        letterbox(*sample(), canvas)
