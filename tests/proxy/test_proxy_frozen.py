"""The ``frozen`` fidelity: new views in every epoch, nothing stored, one pass of the backbone for all in a step."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nasneck.data.split import DetectionData
from nasneck.errors import ConfigError
from nasneck.graph import NeckGraph
from nasneck.necks import bifpn, fpn, nas_fpn
from nasneck.proxy import AugmentConfig, BackboneConfig, ProxyTask
from nasneck.proxy import passes as passes_module
from nasneck.proxy.frozen import FrozenTraining
from nasneck.proxy.passes import Passes
from nasneck.proxy.views import Views, batch_order
from nasneck.runner.limit import Overdue
from nasneck.runner.measuring import stepwise
from nasneck.trial import Measurement, State

from .conftest import NECK, TINY, MakeTask
from .test_proxy_stages import timeless

GRAPHS = [fpn(), bifpn(repeats=1), nas_fpn(repeats=1)]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batches that were passed through the backbone for trainings."""
    made: list[int] = []
    original = Passes._pass

    def counted(self: Passes, images: Tensor) -> list[Tensor]:
        made.append(len(images))
        return original(self, images)

    monkeypatch.setattr(Passes, "_pass", counted)
    return made


def in_turns(task: ProxyTask, graphs: list[NeckGraph], *, seed: int = 0) -> list[Measurement]:
    """All evaluated step by step side by side."""
    under_way: dict[int, Iterator[Measurement | None]] = {
        number: task.stepwise(graph, seed=seed) for number, graph in enumerate(graphs)
    }
    ended: dict[int, Measurement] = {}
    while under_way:
        for number, found in list(under_way.items()):
            measurement = next(found)
            if measurement is not None:
                ended[number] = measurement
                del under_way[number]
    return [ended[number] for number in range(len(graphs))]


def test_one_pass_a_step_for_all_in_turns(make_task: MakeTask, passes: list[int]) -> None:
    task = make_task(fidelity="frozen")
    steps, size = task.config.train.steps, task.config.train.batch_size
    alone = [task.evaluate(graph, seed=1) for graph in GRAPHS]
    assert passes == [size] * steps * len(GRAPHS)
    passes.clear()
    together = in_turns(task, GRAPHS, seed=1)
    assert passes == [size] * steps
    assert [timeless(m) for m in together] == [timeless(m) for m in alone], "bit for bit"
    assert {m.state for m in together} == {State.OK} and len({m.loss for m in together}) == len(GRAPHS)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("out of memory"), Overdue("late"), ValueError("odd")])
@pytest.mark.parametrize("where", ["_pass", "_make"])
def test_what_befalls_one_of_them_is_its_own(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    task = make_task(fidelity="frozen")
    alone = [task.evaluate(graph, seed=1) for graph in GRAPHS]
    calls = []
    original = getattr(Passes, where)

    def once(self: Passes, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:  # for the first of them
            raise error
        return original(self, *args)

    monkeypatch.setattr(Passes, where, once)

    def evaluate(graph: NeckGraph, *_: Any) -> Iterator[Measurement | None]:
        return task.stepwise(graph, seed=1)

    under_way = [stepwise(evaluate, graph, {}) for graph in GRAPHS]
    ended: list[Measurement | None] = [None] * len(GRAPHS)
    while None in ended:
        for number, found in enumerate(under_way):
            if ended[number] is None:
                ended[number] = next(found)
    first, *others = ended
    assert [timeless(m) for m in others if m] == [timeless(m) for m in alone[1:]]
    assert first is not None
    if isinstance(error, torch.OutOfMemoryError):
        assert first.state is State.OK and first.batch_size == task.config.train.batch_size // 2
    else:
        assert first.state is (State.TIMEOUT if isinstance(error, Overdue) else State.ERROR)


def test_who_comes_later_has_passes_of_its_own(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    original = passes_module.loaded_batches
    monkeypatch.setattr(passes_module, "loaded_batches", lambda *a, **o: begun.append(1) or original(*a, **o))
    task = make_task(fidelity="frozen")
    early, late = task.stepwise(fpn(), seed=0), task.stepwise(bifpn(repeats=1), seed=0)
    for _ in range(3):
        next(early)
    under_way, ended = [late, early], []
    while under_way:
        for training in list(under_way):
            measurement = next(training)
            if measurement is not None:
                under_way.remove(training)
                ended.append(measurement.state)
    assert len(begun) == 2 and ended == [State.OK, State.OK]


def test_all_are_looked_at_before_the_first_step(make_task: MakeTask, passes: list[int]) -> None:
    task = make_task(fidelity="frozen")
    for found in (task.stepwise(graph, seed=0) for graph in GRAPHS):
        assert next(found) is None
    assert not passes


def test_the_order_of_evaluations_makes_no_difference(make_task: MakeTask) -> None:
    task = make_task(fidelity="frozen")
    first = task.evaluate(fpn(), seed=0)
    task.evaluate(nas_fpn(repeats=1), seed=5)
    assert timeless(task.evaluate(fpn(), seed=0)) == timeless(first)
    assert timeless(make_task(fidelity="frozen").evaluate(fpn(), seed=0)) == timeless(first)
    assert task.evaluate(fpn(), seed=1).loss != first.loss


def test_each_epoch_has_views_of_its_own(make_task: MakeTask, shapes: DetectionData) -> None:
    task = make_task(fidelity="frozen", augment=AugmentConfig(views=1))
    task.prepare()
    fidelity: Any = task.fidelity
    images = len(shapes.train)
    steps = 2 * images // 4
    order = batch_order(images, batch_size=4, steps=steps, seed=3)
    views = Views(shapes.train, canvas=64, augment=task.config.augment, seed=3)
    backbone = fidelity.frozen_backbone
    with fidelity._batches(seed=3, steps=steps, batch_size=4) as batches:
        places: dict[int, list[Tensor]] = {}
        for number, batch in enumerate(order):
            found = batches.features(number)[0]
            images = torch.stack([views[address][0] for address in batch])
            mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (backbone.mean, backbone.std))
            expected = next(iter(backbone(((images / 255) - mean) / std).values()))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
            for (_, index), row in zip(batch, found, strict=True):
                places.setdefault(index, []).append(row)
        late = batches.features(steps - 2)[0]
        assert not torch.equal(late, found), "a step back, and nothing of the last one is left"
        assert torch.equal(batches.features(steps - 1)[0], found)
    assert all(len(rows) == 2 and not torch.equal(*rows) for rows in places.values())


def test_as_many_stored_views_as_epochs_are_as_good(make_task: MakeTask, passes: list[int]) -> None:
    """Of the cached fidelity: then each epoch has its own view, and only what is looked at is computed."""
    task = make_task(augment=AugmentConfig(views=1000))
    fidelity: Any = task.fidelity
    task.prepare(seed=0, steps=15)
    size, images = task.config.train.batch_size, len(task.data.train)
    assert len(fidelity._kept[0]) == 15 * size == 3 * images
    assert {place // images for place in fidelity._kept[0]} == {0, 1, 2}
    assert not passes


def test_nothing_is_stored_and_nothing_has_to_fit(make_task: MakeTask, tmp_path: Any, shapes: DetectionData) -> None:
    options: Any = {
        "where": tmp_path,
        "disk_limit_mb": 1,
        "reward": "loss",
        "canvas": 256,
        "backbone": BackboneConfig(width=16),
    }
    with pytest.raises(ConfigError, match=r"disk_limit_mb 1; .* or fidelity 'scratch' or 'frozen', which stores none"):
        make_task(**options)
    task = make_task(**options, fidelity="frozen")
    task.prepare()
    assert task.evaluate(fpn(), seed=0, steps=2).state is State.OK
    assert not list(tmp_path.rglob("features-*"))
    assert list(tmp_path.glob("backbone-*.pt"))


def test_the_backbone_is_that_of_cached(make_task: MakeTask) -> None:
    frozen, cached = make_task(fidelity="frozen"), make_task()
    for task in (frozen, cached):
        task.prepare()
    assert frozen.fidelity.digest == cached.fidelity.digest  # of its weights, too
    assert frozen.cache_key(fpn(), seed=0) != cached.cache_key(fpn(), seed=0)
    assert frozen.fidelity.frozen_backbone.training is False  # type: ignore[attr-defined]
    before = {name: value.clone() for name, value in frozen.fidelity.frozen_backbone.state_dict().items()}  # type: ignore[attr-defined]
    frozen.evaluate(fpn(), seed=0)
    after = frozen.fidelity.frozen_backbone.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_readers_of_images_make_no_difference_and_end(make_task: MakeTask) -> None:
    plain, helped = (make_task(fidelity="frozen", workers=workers) for workers in (0, 1))
    graph = fpn()
    found = helped.stepwise(graph, seed=0)
    before = set(multiprocessing.active_children())
    for _ in range(3):
        assert next(found) is None
    readers = set(multiprocessing.active_children()) - before
    fidelity: Any = helped.fidelity
    assert isinstance(fidelity, FrozenTraining) and len(fidelity._passes) == len(readers) == 1
    found.close()  # type: ignore[attr-defined]
    assert not fidelity._passes and not any(reader.is_alive() for reader in readers)
    assert timeless(plain.evaluate(graph, seed=0)) == timeless(helped.evaluate(graph, seed=0))


def test_the_turns_of_others_are_not_on_the_clock(shapes: DetectionData, store: Any) -> None:
    task = ProxyTask(replace(TINY, fidelity="frozen", timeout_s=2.0), NECK, shapes, store=store, device="cpu")
    task.prepare()
    found = task.stepwise(fpn(), seed=0)
    assert next(found) is None
    time.sleep(2.2)
    *_, last = found
    assert last is not None and last.state is State.OK
    assert last.seconds is not None and last.seconds < 2.0
