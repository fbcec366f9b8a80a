from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasneck.data.split import DetectionData
from nasneck.evaluate import coco_ap
from nasneck.proxy import AugmentConfig
from nasneck.proxy.views import (
    Canvases,
    StoredViews,
    Views,
    batch_order,
    letterboxed,
    letterboxed_batches,
    loaded_batches,
    shown_truth,
)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 20), st.integers(0, 5))
def test_batches_are_full_and_epochs_whole(images: int, batch: int, steps: int, seed: int) -> None:
    order = batch_order(images, batch_size=batch, steps=steps, seed=seed)
    assert [len(b) for b in order] == [batch] * steps
    flat = [address for b in order for address in b]
    assert [epoch for epoch, _ in flat] == [i // images for i in range(len(flat))]
    for epoch in range(len(flat) // images):
        assert sorted(i for e, i in flat if e == epoch) == list(range(images))
    assert order == batch_order(images, batch_size=batch, steps=steps, seed=seed)
    assert order == batch_order(images, batch_size=batch, steps=steps + 7, seed=seed)[:steps]


def test_seeds_differ_and_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    assert batch_order(30, batch_size=8, steps=2, seed=0) != batch_order(30, batch_size=8, steps=2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_stored_views_lie_view_by_view(shapes: DetectionData) -> None:
    augment = AugmentConfig(views=2)
    stored = StoredViews(shapes.train, canvas=64, augment=augment)
    images = len(shapes.train)
    assert len(stored) == 2 * images
    assert stored.places([[(0, 3), (1, 3)], [(2, 3), (3, 0)]]) == [[3, images + 3], [3, images]]
    found = stored.at([images + 3, 3])
    assert found.images.shape == (2, 3, 64, 64) and found.images.dtype == torch.uint8
    views = Views(shapes.train, canvas=64, augment=augment, seed=augment.seed)
    for row, address in enumerate([(1, 3), (0, 3)]):
        image, target = views[address]
        assert torch.equal(found.images[row], image)
        assert torch.equal(found.targets[row]["boxes"], target["boxes"])
    assert not torch.equal(found.images[0], found.images[1])
    assert type(found.targets[0]["boxes"]) is torch.Tensor


def test_views_that_are_kept_are_not_made_again(shapes: DetectionData, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = StoredViews(shapes.train, canvas=64, augment=AugmentConfig(views=2))
    plain = stored.at([5, 2, 30])
    told: list[tuple[str, int, int]] = []
    stored.keep([2, 5], lambda *what: told.append(what))
    assert told[-1] == ("views of train", 2, 2)
    made: list[Any] = []
    make = Views.__getitem__
    monkeypatch.setattr(Views, "__getitem__", lambda self, address: made.append(address) or make(self, address))
    kept = stored.at([5, 2, 30])
    assert made == [(1, 30 - len(shapes.train))], "the one that was not kept"
    assert torch.equal(kept.images, plain.images)
    assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(kept.targets, plain.targets, strict=True))
    stored.forget()
    stored.at([5, 2])
    assert made[1:] == [(0, 5), (0, 2)]


def test_progress_reaches_the_end(shapes: DetectionData) -> None:
    seen: list[tuple[str, int, int]] = []
    letterboxed(shapes.reward, canvas=64, progress=lambda *what: seen.append(what))
    assert seen[0] == ("images of reward", 0, 10)
    assert seen[-1] == ("images of reward", 10, 10)


def test_letterboxed_batches_are_the_letterboxed_images(shapes: DetectionData) -> None:
    whole = letterboxed(shapes.reward, canvas=64)
    batches = list(letterboxed_batches(shapes.reward, canvas=64, batch_size=4))
    assert [len(images) for images, _ in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([images for images, _ in batches]), whole.images)
    boxes = [t["boxes"] for _, targets in batches for t in targets]
    assert all(torch.equal(a, b["boxes"]) for a, b in zip(boxes, whole.targets, strict=True))


def test_workers_do_not_change_the_batches(shapes: DetectionData) -> None:
    views = Views(shapes.train, canvas=64, augment=AugmentConfig(), seed=3)
    order = batch_order(len(views), batch_size=5, steps=3, seed=0)
    state = torch.get_rng_state()
    alone = list(loaded_batches(views, order, workers=0))
    helped = list(loaded_batches(views, order, workers=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(alone) == len(helped) == 3
    for (a, ta), (b, tb) in zip(alone, helped, strict=True):
        assert torch.equal(a, b)
        assert all(torch.equal(x["boxes"], y["boxes"]) for x, y in zip(ta, tb, strict=True))


def test_scaled_images_of_ap(shapes: DetectionData) -> None:
    plain = letterboxed(shapes.reward, canvas=64)
    scaled = letterboxed(shapes.reward, canvas=64, jitter=(0.25, 4.0))
    again = letterboxed(shapes.reward, canvas=64, jitter=(0.25, 4.0))
    assert torch.equal(scaled.images, again.images) and not torch.equal(scaled.images, plain.images)
    batches = letterboxed_batches(shapes.reward, canvas=64, batch_size=4, jitter=(0.25, 4.0))
    assert torch.equal(torch.cat([images for images, _ in batches]), scaled.images)

    def sides(canvases: Canvases) -> torch.Tensor:
        boxes = torch.cat([target["boxes"] for target in canvases.targets])
        return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt().log2()

    assert sides(scaled).std() > 1.3 * sides(plain).std()


def test_truth_of_scaled_images_is_what_is_shown(shapes: DetectionData) -> None:
    shown = letterboxed(shapes.reward, canvas=64, jitter=(0.5, 2.0))
    truth = shown_truth(shapes.reward, canvas=64, jitter=(0.5, 2.0))
    perfect = {
        image_id: {**target, "scores": torch.ones(len(target["labels"]))}
        for image_id, target in zip(shapes.reward.image_ids, shown.targets, strict=True)
    }
    found = coco_ap(truth, perfect, label_to_category=shapes.reward.label_to_category)
    assert found.ap == pytest.approx(1.0)
    plain = shown_truth(shapes.reward, canvas=64)
    found = coco_ap(plain, perfect, label_to_category=shapes.reward.label_to_category)
    assert found.ap < 0.5
