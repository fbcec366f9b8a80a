"""The split as a dataset and as ground truth for AP."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.cocoeval import COCOeval
from torchvision import tv_tensors

from nasneck.data import CocoSplit, letterbox, read_coco
from nasneck.errors import DataError


@pytest.fixture
def split(coco_set: Path) -> CocoSplit:
    return read_coco(coco_set, coco_set.parent.parent / "images")


def test_items(split: CocoSplit) -> None:
    assert len(split) == 3
    assert split.image_ids == (10, 20, 30)
    assert split.classes == ("cat", "dog", "zebra")
    assert split.label_to_category == (3, 7, 90)
    assert split.boxes == 3
    image, target = split[0]
    assert isinstance(image, tv_tensors.Image)
    assert image.shape == (3, 30, 40)
    assert image.dtype == torch.uint8
    with Image.open(split.path(0)) as stored:
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), np.asarray(stored))
    boxes = target["boxes"]
    assert isinstance(boxes, tv_tensors.BoundingBoxes)
    assert boxes.canvas_size == (30, 40)
    assert boxes.format is tv_tensors.BoundingBoxFormat.XYXY
    assert boxes.dtype == torch.float32
    assert boxes.tolist() == [[1, 2, 11, 22], [20.5, 5, 30, 9.25]]
    assert target["labels"].dtype == torch.int64
    assert target["labels"].tolist() == [1, 2]
    assert target["image_id"] == 10


def test_crowd_regions_are_no_targets(split: CocoSplit) -> None:
    assert split.crowd_regions(0).tolist() == [[0, 0, 40, 30]]
    assert split.crowd_regions(1).shape == (0, 4)


def test_an_image_without_boxes_is_kept(split: CocoSplit) -> None:
    image, target = split[2]
    assert image.shape == (3, 50, 20)
    assert split.image_size(2) == (50, 20)
    assert target["boxes"].shape == (0, 4)
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].dtype == torch.int64


def test_iteration_ends(split: CocoSplit) -> None:
    assert [split[i][1]["image_id"] for i in range(-1, 2)] == [30, 10, 20]
    with pytest.raises(IndexError):
        split[3]


def test_missing_images_are_named_when_the_set_is_read(coco_set: Path) -> None:
    images = coco_set.parent.parent / "images"
    (images / "sub" / "b.png").unlink()
    with pytest.raises(DataError, match=r"image .*sub/b\.png of .*instances_train\.json does not exist"):
        read_coco(coco_set, images)


def test_broken_and_resized_images_are_refused_when_read(split: CocoSplit) -> None:
    split.path(0).write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.png cannot be decoded"):
        split[0]
    Image.new("RGB", (63, 64)).save(split.path(1))
    with pytest.raises(DataError, match=r"b\.png has 63 x 64 px, but .*train\.json says 64 x 64$"):
        split[1]
    Image.new("RGB", (50, 20)).save(split.path(2))
    with pytest.raises(DataError, match=r"has 50 x 20 px, but .* says 20 x 50 \(annotated after an EXIF"):
        split[2]


def test_subset_and_limit(split: CocoSplit) -> None:
    part = split.subset([30, 10], name="part")
    assert part.image_ids == (10, 30)
    assert part.name == "part"
    assert part[1][1]["image_id"] == 30
    with pytest.raises(DataError, match="split 'part' has no image 20"):
        part.subset([20])
    assert len(split.limit(9)) == 3
    assert split.limit(2).image_ids == split.limit(2).image_ids
    assert set(split.limit(1).image_ids) < set(split.limit(2).image_ids)
    assert len({split.limit(1, seed=seed).image_ids for seed in range(20)}) == 3
    with pytest.raises(DataError, match="a limit of 0 images"):
        split.limit(0)


def test_the_digest_follows_images_and_annotations_not_the_place(
    split: CocoSplit, coco_set: Path, tmp_path: Path, rewrite: Any
) -> None:
    root = coco_set.parent.parent
    moved = tmp_path / "moved"
    shutil.copytree(root / "images", moved / "images")
    shutil.copy(coco_set, moved / "other.json")
    assert read_coco(moved / "other.json", moved / "images").digest == split.digest
    assert split.subset([10]).digest != split.subset([20]).digest
    with Image.open(moved / "images" / "a.png") as image:
        pixels = np.array(image)
    Image.fromarray(255 - pixels).save(moved / "images" / "a.png")
    assert read_coco(moved / "other.json", moved / "images").digest != split.digest
    rewrite(coco_set, lambda table: table["annotations"][0].update(bbox=[1, 2, 10, 19]))
    assert read_coco(coco_set, root / "images").digest != split.digest


def _perfect(split: CocoSplit) -> list[dict[str, Any]]:
    found = []
    for i in range(len(split)):
        target = split.target(i)
        for (x1, y1, x2, y2), label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
            found.append(
                {
                    "image_id": target["image_id"],
                    "category_id": split.label_to_category[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": 0.9,
                }
            )
    return found


def _stats(split: CocoSplit, found: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> np.ndarray:
    truth = split.ground_truth()
    assert capsys.readouterr().out == ""  # pycocotools is silenced
    result = COCOeval(truth, truth.loadRes(found), "bbox")
    result.evaluate()
    result.accumulate()
    result.summarize()
    capsys.readouterr()
    return np.asarray(result.stats)


def test_perfect_detections_have_ap_one(split: CocoSplit, capsys: pytest.CaptureFixture[str]) -> None:
    # One annotation has id 0, which COCOeval would never match had it not been renumbered.
    assert _stats(split, _perfect(split), capsys)[0] == pytest.approx(1.0)


def test_detections_in_a_crowd_region_cost_nothing(split: CocoSplit, capsys: pytest.CaptureFixture[str]) -> None:
    extra = {"image_id": 10, "category_id": 3, "bbox": [5, 5, 9, 9], "score": 0.99}
    assert _stats(split, [*_perfect(split), extra], capsys)[0] == pytest.approx(1.0)
    outside = {**extra, "image_id": 30}
    assert _stats(split, [*_perfect(split), outside], capsys)[0] < 0.9


def test_ground_truth_holds_this_split_alone(split: CocoSplit) -> None:
    truth = split.subset([20, 30]).ground_truth()
    assert sorted(truth.getImgIds()) == [20, 30]
    assert [a["bbox"] for a in truth.loadAnns(truth.getAnnIds())] == [[0, 0, 64, 64]]
    assert sorted(truth.getCatIds()) == [3, 7, 90]


def test_ground_truth_on_a_canvas_agrees_with_the_letterbox(split: CocoSplit) -> None:
    truth = split.ground_truth(canvas=(45, 80))
    for i in range(len(split)):
        image, target = split[i]
        _, moved, _ = letterbox(image, target, (45, 80))
        ours = truth.loadAnns(truth.getAnnIds(imgIds=[target["image_id"]], iscrowd=False))
        corners = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in ours)]
        torch.testing.assert_close(moved["boxes"].as_subclass(torch.Tensor), torch.tensor(corners).reshape(-1, 4))
    areas = [a["area"] for a in truth.loadAnns(truth.getAnnIds(imgIds=[10], iscrowd=False))]
    assert areas == pytest.approx([150 * 1.5**2, 9.5 * 4.25 * 1.5**2])  # 40 x 30 becomes 60 x 45


def test_unknown_images_are_refused(split: CocoSplit) -> None:
    with pytest.raises(DataError, match="there is no image 11"):
        CocoSplit(split.annotations, split.folder, image_ids=[11])
