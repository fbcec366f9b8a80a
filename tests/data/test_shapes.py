"""Generated shapes: the same everywhere, four octaves of size, whole or absent."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasneck.data import ShapesConfig, generate_shapes, read_coco, shapes
from nasneck.data.drawing import CLASSES, draw_scene
from nasneck.errors import ConfigError, DataError

from .other_process import digests


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "data"
    assert generate_shapes(folder, images=250, seed=3)
    return folder


def test_layout(generated: Path) -> None:
    assert sorted(path.name for path in generated.iterdir()) == ["annotations", "images", "shapes.json"]
    train = read_coco(generated / "annotations" / "instances_train.json", generated / "images")
    val = read_coco(generated / "annotations" / "instances_val.json", generated / "images")
    assert train.image_ids == tuple(range(1, 201))
    assert val.image_ids == tuple(range(201, 251))
    assert train.classes == val.classes == CLASSES
    image, target = val[0]
    assert image.shape == (3, 128, 128)
    assert len(target["boxes"]) >= 1
    mark = json.loads((generated / "shapes.json").read_text())
    assert mark["generator"] == "nasneck shapes"
    assert (mark["version"], mark["images"], mark["seed"], mark["size"]) == (shapes.VERSION, 250, 3, 128)


def test_sizes_span_four_octaves_evenly(generated: Path) -> None:
    train = read_coco(generated / "annotations" / "instances_train.json", generated / "images")
    boxes = np.concatenate([record.boxes for record in train.annotations.records.values()])
    side = boxes[:, 2:].max(axis=1)
    assert math.log2(side.max() / side.min()) >= 4
    octaves = np.bincount(np.clip(np.log2(side / (128 * 0.055)), 0, 3.99).astype(int), minlength=4)
    assert octaves.min() > 0.15 * octaves.sum()
    labels = np.concatenate([record.labels for record in train.annotations.records.values()])
    assert np.bincount(labels, minlength=len(CLASSES)).min() > 0.1 * len(labels)
    counts = [len(record.labels) for record in train.annotations.records.values()]
    assert min(counts) == 1
    assert max(counts) == 6


def test_seed_and_size_matter_and_the_number_of_images_does_not(generated: Path, tmp_path: Path) -> None:
    generate_shapes(tmp_path / "few", images=10, seed=3)
    generate_shapes(tmp_path / "other", images=10, seed=4)
    first = digests(generated)["images/000001.png"]
    assert digests(tmp_path / "few")["images/000001.png"] == first
    assert digests(tmp_path / "other")["images/000001.png"] != first
    generate_shapes(tmp_path / "large", images=10, seed=3, size=200)
    with Image.open(tmp_path / "large" / "images" / "000001.png") as image:
        assert image.size == (200, 200)


def test_the_same_set_is_left_alone(tmp_path: Path) -> None:
    assert generate_shapes(tmp_path / "a", images=10)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    assert not generate_shapes(tmp_path / "a", images=10)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")} == before


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert generate_shapes(tmp_path / "a", images=10)
    assert len(list((tmp_path / "a" / "images").iterdir())) == 10


def test_other_content_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match=r"a is not empty and holds no generated shapes; name an empty folder"):
        generate_shapes(tmp_path / "a", images=10)
    assert (tmp_path / "a" / "mine.txt").read_text() == "precious"
    with pytest.raises(DataError, match=r"mine\.txt is a file; name a folder"):
        generate_shapes(tmp_path / "a" / "mine.txt", images=10)
    generate_shapes(tmp_path / "b", images=10, seed=1)
    with pytest.raises(DataError, match="holds shapes with seed = 1, not 2; name another folder or remove"):
        generate_shapes(tmp_path / "b", images=10, seed=2)
    (tmp_path / "b" / "shapes.json").write_text("[]")
    with pytest.raises(DataError, match="holds shapes with generator = None"):
        generate_shapes(tmp_path / "b", images=10, seed=1)


def test_a_set_with_missing_parts_is_refused(tmp_path: Path) -> None:
    generate_shapes(tmp_path / "a", images=10)
    (tmp_path / "a" / "images" / "000003.png").unlink()
    with pytest.raises(DataError, match=r"a is incomplete \(9 of 10 images\); remove it"):
        generate_shapes(tmp_path / "a", images=10)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def stop(done: int, images: int) -> None:
        assert images == 10
        if done == 5:
            raise error

    with pytest.raises(error):
        generate_shapes(tmp_path / "a", images=10, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate_shapes(tmp_path / "a", images=5, progress=lambda done, images: seen.append((done, images)))
    assert seen == [(n, 5) for n in range(1, 6)]


def test_two_writers_of_one_set_agree(tmp_path: Path) -> None:
    def other(done: int, images: int) -> None:
        if done == images:
            generate_shapes(tmp_path / "a", images=images)

    generate_shapes(tmp_path / "a", images=5, progress=other)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert not generate_shapes(tmp_path / "a", images=5)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*file/a: "):
        generate_shapes(tmp_path / "file" / "a", images=5)


@pytest.mark.parametrize("index", range(12))
def test_scenes(index: int) -> None:
    rng = np.random.default_rng(index)
    scene = draw_scene(rng, size=96, sizes=(6, 86), objects=6, distractors=3)
    assert scene.pixels.shape == (96, 96, 3)
    assert scene.pixels.dtype == np.uint8
    assert 1 <= len(scene.boxes) == len(scene.labels) <= 6
    for x, y, width, height in scene.boxes:
        assert min(x, y) >= 0
        assert width >= 3
        assert height >= 3
        assert max(x + width, y + height) <= 96
    assert scene.pixels.std() > 5


def test_boxes_are_tight_around_what_is_seen() -> None:
    # The same draws with and without the object differ in the object's pixels alone.
    for index in range(30):
        scene = draw_scene(np.random.default_rng(index), size=96, sizes=(20, 60), objects=1, distractors=0)
        blank = draw_scene(np.random.default_rng(index), size=96, sizes=(20, 60), objects=0, distractors=0)
        changed = np.abs(scene.pixels.astype(int) - blank.pixels.astype(int)).max(axis=2) > 0
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        x, y, width, height = scene.boxes[0]
        seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose([x, y, x + width, y + height], seen, atol=2)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"images": 2}, "2 images with val_fraction 0.2 leave no training or no validation image"),
        ({"val_fraction": 1.0}, "leave no training or no validation image"),
        ({"seed": -1}, "seed -1 must be 0 or more"),
        ({"sizes": (0.5, 0.1)}, r"sizes \[0\.5, 0\.1\] is no range"),
        ({"sizes": (0.1, 1.0)}, "is no range of shares of the image"),
        ({"size": 64}, r"the smallest shapes would have 3\.5 px"),
        ({"objects": 0}, "objects 0 must be at least 1"),
        ({"distractors": -1}, "distractors -1 at least 0"),
    ],
)
def test_wrong_settings(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShapesConfig(**setting)
