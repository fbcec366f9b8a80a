"""Batches of stored features: each has its own images, targets and matches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from nasneck.proxy.bank import Kept
from nasneck.proxy.batches import Batches
from nasneck.proxy.features import FeatureStore

PLACES = ((7, 3), (3, 5), (5, 5))
ROW = {3: 0, 5: 1, 7: 2}


def kept() -> Kept:
    maps = [torch.arange(3 * n * n * 2, dtype=torch.float16).view(3, n, n, 2) for n in (4, 2)]
    targets = [{"boxes": torch.full((1, 4), float(row)), "labels": torch.tensor([row])} for row in range(3)]
    return Kept(FeatureStore(maps, torch.device("cpu")), targets, ROW)


def test_each_has_its_own_images() -> None:
    found = Batches(kept(), PLACES)
    for number, places in enumerate(PLACES):
        for level, whole in zip(found.features(number), kept().features.maps, strict=True):
            assert level.dtype == torch.float32
            assert torch.equal(level, torch.stack([whole[ROW[p]].float().permute(2, 0, 1) for p in places]))


def test_each_has_its_own_targets_and_matches() -> None:
    matched: list[int] = []

    def matches(targets: list[Any]) -> list[str]:
        matched.append(len(targets))
        return [f"match {int(target['labels'])}" for target in targets]

    canvas = SimpleNamespace(matches=matches, losses=lambda *given: given)
    candidate: Any = SimpleNamespace(canvas=canvas, maps=((3, 4, 4), (4, 2, 2)))
    found = Batches(kept(), PLACES)
    outputs = {"cls_logits": torch.zeros(1)}
    for number, places in enumerate(PLACES):
        given: Any = found.losses(candidate, number, outputs)
        assert given[0] is outputs
        assert [int(target["labels"]) for target in given[1]] == [ROW[place] for place in places]
        assert given[2] == [f"match {ROW[place]}" for place in places]
    assert matched == [3], "once, of all that is kept"
    found.losses(SimpleNamespace(canvas=canvas, maps=((3, 8, 8),)), 0, outputs)  # type: ignore[arg-type]
    assert matched == [3, 3], "and again for other maps"
