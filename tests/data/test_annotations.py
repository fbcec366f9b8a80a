"""What the reader of annotation files keeps, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasneck.data import read_annotations
from nasneck.errors import DataError

Edit = Callable[[dict[str, Any]], None]


def test_labels_are_contiguous_in_ascending_category_id(coco_set: Path) -> None:
    read = read_annotations(coco_set)
    assert read.categories == (3, 7, 90)
    assert read.classes == ("cat", "dog", "zebra")
    assert list(read.records) == [10, 20, 30]
    assert read.records[10].labels.tolist() == [1, 2, 0]
    assert read.records[10].crowd.tolist() == [False, False, True]
    assert (read.records[30].height, read.records[30].width) == (50, 20)
    assert read.records[30].boxes.shape == (0, 4)


def test_area_is_the_files_or_else_the_boxs(coco_set: Path) -> None:
    assert read_annotations(coco_set).records[10].areas.tolist() == [150.0, 9.5 * 4.25, 900.0]


def test_boxes_without_extent_are_counted_and_left_out(coco_set: Path, rewrite: Any) -> None:
    def flatten(table: dict[str, Any]) -> None:
        table["annotations"][0]["bbox"] = [1, 2, 0, 20]
        table["annotations"][1]["bbox"] = [1, 2, 5, -3]

    rewrite(coco_set, flatten)
    read = read_annotations(coco_set)
    assert read.dropped == 2
    assert read.records[10].labels.tolist() == [0]


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        ([-1.5, 2, 10, 20], [0, 2, 8.5, 20]),
        ([35, 2, 6.9, 20], [35, 2, 5, 20]),
        ([1, -2, 10, 34], [1, 0, 10, 30]),
    ],
)
def test_a_small_overhang_is_clipped(coco_set: Path, rewrite: Any, box: Any, clipped: Any) -> None:
    rewrite(coco_set, lambda table: table["annotations"][0].update(bbox=box))
    np.testing.assert_allclose(read_annotations(coco_set).records[10].boxes[0], clipped)


def test_a_box_that_only_overhangs_has_no_extent(coco_set: Path, rewrite: Any) -> None:
    rewrite(coco_set, lambda table: table["annotations"][0].update(bbox=[40.5, 2, 1, 3]))
    assert read_annotations(coco_set).dropped == 1


def _set(table: str, position: int, **values: Any) -> Edit:
    return lambda content: content[table][position].update(values)


def _drop(table: str, position: int, key: str) -> Edit:
    return lambda content: content[table][position].pop(key)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            _set("annotations", 0, bbox=[30, 2, 20, 20]),
            r"annotation 0: bbox \[30, 2, 20, 20\] reaches 10 px outside image 'a.png' of 40 x 30 px",
        ),
        (_set("annotations", 0, bbox=[-2.5, 2, 20, 20]), r"reaches 2\.5 px outside image 'a\.png'"),
        (_set("annotations", 0, bbox=[1, 2, 3]), r"annotation 0: bbox is \[1, 2, 3\]; it must be four"),
        (_set("annotations", 0, bbox=[1, 2, 3, "4"]), "must be four numbers"),
        (_set("annotations", 0, bbox=[1, 2, 3, float("nan")]), "must be four numbers"),
        (_set("annotations", 0, bbox=[1, 2, 3, float("inf")]), "must be four numbers"),
        (_drop("annotations", 0, "bbox"), "bbox is None"),
        (_set("annotations", 0, area=-1), "annotation 0: area is -1"),
        (_set("annotations", 0, area="big"), "annotation 0: area is 'big'"),
        (_set("annotations", 0, iscrowd=2), "annotation 0: iscrowd is 2; it must be 0 or 1"),
        (_set("annotations", 0, id=5), "annotation 5: this id is used twice"),
        (_drop("annotations", 0, "id"), r"annotations\[0\]: id is None; it must be a whole number"),
        (_set("annotations", 0, image_id=11), "annotation 0: image_id 11 is none of the file's 3 images"),
        (
            _set("annotations", 0, category_id=4),
            r"category_id 4 is none of the file's categories \(3, 7, 90\)",
        ),
        (_set("images", 0, id=10), "image 10: this id is used twice"),
        (_set("images", 0, id="10"), r"images\[0\]: id is '10'; it must be a whole number"),
        (_set("images", 0, width=0), "image 30: 0 x 50 pixels"),
        (_drop("images", 0, "height"), "image 30: height is None"),
        (_set("images", 0, file_name=""), "image 30: file_name is ''"),
        (_set("images", 0, file_name="../c.png"), r"file_name '\.\./c\.png' leaves the image folder"),
        (_set("images", 0, file_name="sub/../../c.png"), "leaves the image folder"),
        (_set("images", 0, file_name="..\\c.png"), "leaves the image folder"),
        (_set("images", 0, file_name="/c.png"), "leaves the image folder"),
        (_set("images", 0, file_name="C:\\c.png"), "leaves the image folder"),
        (_set("categories", 0, id=3), "category id 3 is used twice"),
        (_set("categories", 0, name=None), "category 90: name is None"),
        (lambda content: content.update(categories=[]), "'categories' is empty; a detector needs"),
        (lambda content: content.update(images=[], annotations=[]), "'images' is empty"),
        (
            lambda content: content.pop("annotations"),
            "'annotations' must be a list of objects and is missing",
        ),
        (lambda content: content.update(images={}), "'images' must be a list of objects$"),
        (lambda content: content.update(images=[1]), "'images' must be a list of objects$"),
    ],
)
def test_contradictions_are_refused(coco_set: Path, rewrite: Any, edit: Edit, message: str) -> None:
    rewrite(coco_set, edit)
    with pytest.raises(DataError, match=message) as caught:
        read_annotations(coco_set)
    assert str(coco_set) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON"),
        ('{"images": [', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "is no COCO file: expected an object, got a list"),
        ("{}", "is no COCO detection file: 'images'"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_annotations(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(DataError, match="is not valid JSON"):
        read_annotations(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"annotation file .*a\.json does not exist"):
        read_annotations(tmp_path / "a.json")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_annotations(tmp_path)


def test_the_digest_is_that_of_the_bytes(coco_set: Path) -> None:
    before = read_annotations(coco_set).sha256
    assert read_annotations(coco_set).sha256 == before
    coco_set.write_text(json.dumps(json.loads(coco_set.read_text()), indent=1))
    assert read_annotations(coco_set).sha256 != before
