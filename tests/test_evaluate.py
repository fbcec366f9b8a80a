import contextlib
import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nasneck.errors import DataError
from nasneck.evaluate import coco_ap

CATEGORIES = (7, 3, 90)  # with gaps, and not in order


def truth(boxes: list[dict[str, Any]], images: int = 4) -> COCO:
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": i, "width": 200, "height": 200, "file_name": f"{i}"} for i in range(10, 10 + images)],
        "categories": [{"id": c, "name": str(c)} for c in CATEGORIES],
        "annotations": [{"id": n + 1, "iscrowd": 0, **box} for n, box in enumerate(boxes)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def box(image: int, category: int, x: float, y: float, w: float, h: float, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [x, y, w, h], "area": w * h, **more}


def found(*rows: tuple[int, float, float, float, float, float]) -> dict[str, torch.Tensor]:
    """Rows of label, score, x1, y1, x2, y2."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return {"labels": table[:, 0].long(), "scores": table[:, 1], "boxes": table[:, 2:]}


def nothing() -> dict[str, torch.Tensor]:
    return found()


def random_case(seed: int) -> tuple[COCO, dict[int, dict[str, torch.Tensor]]]:
    """Boxes of all sizes with crowd regions, and detections scattered around some of them."""
    rng = np.random.default_rng(seed)
    boxes, detections = [], {}
    for image in range(10, 22):
        rows = []
        for _ in range(rng.integers(0, 8)):
            label, w, h = int(rng.integers(3)), rng.uniform(5, 150), rng.uniform(5, 150)
            x, y = rng.uniform(0, 190 - w if w < 190 else 1), rng.uniform(0, 190 - h if h < 190 else 1)
            crowd = int(rng.random() < 0.1)
            boxes.append(box(image, CATEGORIES[label], x, y, w, h, iscrowd=crowd))
            for _ in range(rng.integers(0, 4)):
                shift = rng.normal(0, 0.06, 4) * [w, h, w, h]
                label = label if rng.random() < 0.8 else int(rng.integers(3))
                rows.append((label, rng.random(), *(np.array([x, y, x + w, y + h]) + shift)))
        if rows:
            detections[image] = found(*rows)
    return truth(boxes, images=12), detections


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_pycocotools_used_directly(seed: int) -> None:
    coco, detections = random_case(seed)
    rows = []
    for image, d in detections.items():
        for (x1, y1, x2, y2), score, label in zip(
            d["boxes"].tolist(), d["scores"].tolist(), d["labels"].tolist(), strict=True
        ):
            rows.append(
                {
                    "image_id": image,
                    "category_id": CATEGORIES[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        direct = COCOeval(coco, coco.loadRes(rows), "bbox")
        direct.evaluate()
        direct.accumulate()
        direct.summarize()
    ours = coco_ap(coco, detections, label_to_category=CATEGORIES)
    mine = [ours.ap, ours.ap50, ours.ap75, ours.small, ours.medium, ours.large]
    assert mine == pytest.approx(list(direct.stats[:6]), abs=1e-12)
    assert 0.1 < ours.ap < 0.9


def test_perfect_detections_have_ap_1_and_empty_bins_minus_1() -> None:
    coco = truth([box(10, 7, 10, 10, 20, 20), box(11, 90, 0, 0, 100, 120)])
    detections = {10: found((0, 0.9, 10, 10, 30, 30)), 11: found((2, 0.8, 0, 0, 100, 120))}
    ap = coco_ap(coco, detections, label_to_category=CATEGORIES)
    assert (ap.ap, ap.ap50, ap.ap75, ap.small, ap.large) == pytest.approx((1, 1, 1, 1, 1))
    assert ap.medium == -1


def test_a_box_of_iou_062_counts_at_three_of_ten_thresholds() -> None:
    # 100 x 62 of 100 x 100: IoU 0.62, which passes .50, .55 and .60.
    coco = truth([box(10, 7, 0, 0, 100, 100)])
    ap = coco_ap(coco, {10: found((0, 1.0, 0, 0, 100, 62))}, label_to_category=CATEGORIES)
    assert ap.ap == pytest.approx(0.3)
    assert (ap.ap50, ap.ap75) == pytest.approx((1, 0))


@pytest.mark.parametrize("detections", [{}, {10: nothing()}, {10: nothing(), 12: nothing()}])
def test_no_detections_are_ap_0(detections: dict[int, dict[str, torch.Tensor]]) -> None:
    coco = truth([box(10, 7, 10, 10, 20, 20)])
    ap = coco_ap(coco, detections, label_to_category=CATEGORIES)
    assert (ap.ap, ap.ap50, ap.small, ap.medium, ap.large) == (0, 0, 0, -1, -1)


def test_detections_in_crowd_regions_count_neither_way() -> None:
    boxes = [box(10, 7, 10, 10, 50, 50), box(10, 7, 100, 100, 80, 80, iscrowd=1)]
    hit = (0, 0.5, 10, 10, 60, 60)
    in_crowd = (0, 0.9, 110, 110, 150, 150)  # ranked above the hit: a false positive would halve AP
    ap = coco_ap(truth(boxes), {10: found(hit, in_crowd)}, label_to_category=CATEGORIES)
    assert ap.ap == pytest.approx(1)
    without = coco_ap(truth(boxes[:1]), {10: found(hit, in_crowd)}, label_to_category=CATEGORIES)
    assert without.ap == pytest.approx(0.5)


def test_only_the_best_detections_of_an_image_count() -> None:
    coco = truth([box(10, 7, 0, 0, 50, 50)])
    wrong = [(0, 0.9, 100 + i, 100, 150 + i, 150) for i in range(5)]
    rows = [*wrong, (0, 0.5, 0, 0, 50, 50)]
    assert coco_ap(coco, {10: found(*rows)}, label_to_category=CATEGORIES, max_detections=5).ap == 0
    assert coco_ap(coco, {10: found(*rows)}, label_to_category=CATEGORIES, max_detections=6).ap > 0


def test_it_prints_nothing_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    coco, detections = random_case(5)
    before = copy.deepcopy(coco.dataset["annotations"])
    first = coco_ap(coco, detections, label_to_category=CATEGORIES)
    assert coco_ap(coco, detections, label_to_category=CATEGORIES) == first
    assert capsys.readouterr().out == ""
    marks = ("ignore", "_ignore")  # COCOeval notes on each box whether it counts; nothing else may differ
    assert [{k: v for k, v in a.items() if k not in marks} for a in coco.dataset["annotations"]] == before


def test_ground_truth_without_boxes_is_refused() -> None:
    with pytest.raises(DataError, match="AP needs ground truth: none of the 4 images has a box"):
        coco_ap(truth([box(10, 7, 0, 0, 9, 9, iscrowd=1)]), {}, label_to_category=CATEGORIES)


def test_detections_of_another_split_are_refused() -> None:
    coco = truth([box(10, 7, 0, 0, 9, 9)])
    with pytest.raises(DataError, match="detections of image 99, which is not among the 4"):
        coco_ap(coco, {99: nothing()}, label_to_category=CATEGORIES)
