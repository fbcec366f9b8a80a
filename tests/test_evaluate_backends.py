"""AP by faster-coco-eval is AP by pycocotools, to the bit."""

from __future__ import annotations

import gc
import importlib
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from test_evaluate import CATEGORIES, box, found, random_case, truth

from nasneck.errors import ConfigError
from nasneck.evaluate import AveragePrecision, Backend, Detection, GroundTruth, coco_ap, resolve_backend

BACKENDS: tuple[Backend, ...] = ("pycocotools", "faster_coco_eval")

# Few values each, so that scores and overlaps tie, and overlaps come to lie on the thresholds.
_CORNER = st.sampled_from((0, 10, 30, 60))
_SIDE = st.sampled_from((10, 20, 40, 100, 120))  # areas in all of the size bins
_BOX = st.tuples(st.integers(10, 12), st.integers(0, 2), _CORNER, _CORNER, _SIDE, _SIDE)
_SCORE = st.sampled_from((0.25, 0.5, 0.75))


def both(coco: COCO, detections: dict[int, Detection], *, most: int = 100) -> tuple[AveragePrecision, ...]:
    return tuple(
        coco_ap(GroundTruth(coco, backend=b), detections, label_to_category=CATEGORIES, max_detections=most)
        for b in BACKENDS
    )


@settings(max_examples=200)
@given(
    objects=st.lists(_BOX, min_size=1, max_size=8),
    crowds=st.lists(_BOX, max_size=2),
    guesses=st.lists(st.tuples(_BOX, _SCORE), max_size=16),
    hits=st.lists(st.tuples(st.integers(0, 7), st.integers(-5, 5), _SCORE), max_size=16),
    most=st.sampled_from((1, 2, 10, 100)),
)
def test_both_libraries_give_the_same(objects: list, crowds: list, guesses: list, hits: list, most: int) -> None:
    rows = [box(i, CATEGORIES[label], *xywh) for i, label, *xywh in objects]
    rows += [box(i, CATEGORIES[label], *xywh, iscrowd=1) for i, label, *xywh in crowds]
    near = [((i, label, x + d, y, w, h), s) for n, d, s in hits for i, label, x, y, w, h in [objects[n % len(objects)]]]
    detections: dict[int, Detection] = {}
    for image in (10, 11, 12):  # of four images, the last one without detections
        own = [(label, s, x, y, x + w, y + h) for (i, label, x, y, w, h), s in [*guesses, *near] if i == image]
        if own:
            detections[image] = found(*own)
    slow, fast = both(truth(rows), detections, most=most)
    assert fast == slow


@pytest.mark.parametrize("most", [1, 10, 100])
def test_random_boxes_of_all_sizes(most: int) -> None:
    for seed in range(6):
        slow, fast = both(*random_case(seed), most=most)
        assert fast == slow
        assert 0 < slow.ap < 1


def test_a_realistic_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smaller one of the benchmark, so that it measures two ways to the same numbers."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "experiments")
    speed = importlib.import_module("ap_speed")
    coco, detections = speed.scene(60, 80, seed=1)
    categories = tuple(range(1, 81))
    slow, fast = (coco_ap(GroundTruth(coco, backend=b), detections, label_to_category=categories) for b in BACKENDS)
    assert fast == slow
    assert 0.1 < slow.ap < 0.9 and -1 not in (slow.small, slow.medium, slow.large)


def test_a_single_hit_before_a_miss_is_precise() -> None:
    """pycocotools has 1 / (1 + 2e-16) for one of one, which is where the libraries differ."""
    coco = truth([box(10, 7, 0, 0, 50, 50), box(10, 7, 100, 100, 50, 50)])
    slow, fast = both(coco, {10: found((0, 0.9, 0, 0, 50, 50), (0, 0.8, 60, 0, 90, 50))})
    assert fast == slow and slow.ap == slow.ap50 == pytest.approx(51 / 101, abs=1e-15)


def test_ids_too_long_for_a_float() -> None:
    """2^60 and 2^60 + 1 are one number to faster-coco-eval."""
    first, second = 2**60, 2**60 + 1
    coco = truth([box(first, 7, 0, 0, 50, 50)])
    coco.dataset["images"] = [{"id": first}, {"id": second}]
    coco.createIndex()
    slow, fast = both(coco, {first: found((0, 0.9, 0, 0, 50, 50)), second: found((0, 0.95, 0, 0, 50, 50))})
    assert fast == slow and slow.ap == pytest.approx(0.5)


def test_a_prepared_ground_truth_can_be_used_again() -> None:
    coco, detections = random_case(3)
    for backend in BACKENDS:
        prepared = GroundTruth(coco, backend=backend)
        first = coco_ap(prepared, detections, label_to_category=CATEGORIES)
        assert coco_ap(prepared, {}, label_to_category=CATEGORIES).ap == 0
        assert coco_ap(prepared, detections, label_to_category=CATEGORIES) == first


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_backend("auto") == "faster_coco_eval"
    assert resolve_backend("pycocotools") == "pycocotools"
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    assert resolve_backend("auto") == "pycocotools"
    with pytest.raises(ConfigError, match="needs faster-coco-eval: pip install faster-coco-eval"):
        resolve_backend("faster_coco_eval")
    with pytest.raises(ConfigError, match="ap_backend 'coco' is not one of auto, pycocotools, faster_coco_eval"):
        resolve_backend("coco")  # type: ignore[arg-type]


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_as_before(enabled: bool) -> None:
    coco, detections = random_case(0)
    try:
        (gc.enable if enabled else gc.disable)()
        coco_ap(coco, detections, label_to_category=CATEGORIES)
        assert gc.isenabled() is enabled
        with pytest.raises(IndexError):
            coco_ap(coco, {10: found((9, 0.5, 0, 0, 9, 9))}, label_to_category=CATEGORIES)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_boxes_in_half_precision_and_with_gradients() -> None:
    coco = truth([box(10, 7, 0, 0, 50, 50)])
    given = found((0, 0.9, 0, 0, 50, 50))
    half = {**given, "boxes": given["boxes"].half(), "scores": torch.tensor([0.9], requires_grad=True)}
    assert coco_ap(coco, {10: half}, label_to_category=CATEGORIES).ap == pytest.approx(1)
