"""The ``shared`` fidelity: who trains on what, what is kept where, and what depends on what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import nasneck.proxy.shared as shared_module
from nasneck.data.split import DetectionData
from nasneck.errors import ConfigError
from nasneck.necks import fpn, nas_fpn
from nasneck.proxy import PRESETS, ProxyConfig, ProxyTask, SupernetConfig, TaskStore, TrainConfig, for_ap
from nasneck.proxy.shared import SharedTraining
from nasneck.proxy.store import SUPERNET, parted, state_digest
from nasneck.space import MergingCellSpace, SearchSpace
from nasneck.trial import Measurement, State

from .conftest import NECK, TINY

SPACE = MergingCellSpace(repeats=1)
SHARED = replace(
    TINY,
    fidelity="shared",
    reward="loss",
    train=TrainConfig(steps=2, batch_size=4, learning_rate=0.002, schedule="constant"),
    supernet=SupernetConfig(warm=4, path_steps=4, paths=2),
)
GRAPHS = (nas_fpn(repeats=1), SPACE.decode([0] * len(SPACE.decisions)))

Make = Callable[..., ProxyTask]


@pytest.fixture
def make(shapes: DetectionData, tmp_path: Path) -> Make:
    def task(config: ProxyConfig = SHARED, *, store: Path | None = tmp_path, **options: Any) -> ProxyTask:
        return ProxyTask(config, NECK, shapes, store=store, device="cpu", **{"space": SPACE, **options})

    return task


def training(task: ProxyTask) -> SharedTraining:
    assert isinstance(task.fidelity, SharedTraining)
    return task.fidelity


def score(task: ProxyTask, seed: int = 0) -> list[float | None]:
    found = [task.evaluate(graph, seed=seed) for graph in GRAPHS]
    assert all(one.state is State.OK for one in found), [one.text for one in found]
    return [one.reward for one in found]


def never(*args: Any, **options: Any) -> Any:
    raise AssertionError("trained again")


def test_candidates_start_ahead(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make(replace(SHARED, supernet=SupernetConfig(warm=40, path_steps=40, paths=2)))
    ahead = score(task)
    monkeypatch.setattr(shared_module, "inherit", lambda candidate, weights: None)
    behind = score(task)  # on the same images
    assert all(one is not None and other is not None and one > other for one, other in zip(ahead, behind, strict=True))


def test_own_images_are_new_to_the_shared_weights(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def watch(*args: Any, **options: Any) -> Any:
        graphs, batches = args
        seen["first"] = graphs[0].key()
        seen["supernet"] = {place for batch in batches.places for place in batch}
        return train(*args, **options)

    train = shared_module.train_supernet
    monkeypatch.setattr(shared_module, "train_supernet", watch)
    task = make(replace(SHARED, supernet=SupernetConfig(warm=20, path_steps=4, paths=2)))
    task.prepare_weights()
    fidelity, count = training(task), len(task.data.train)
    own = {
        place % count
        for seed in range(5)
        for batch in fidelity._places(seed=seed, steps=20, batch_size=4)
        for place in batch
    }
    assert seen["first"] == nas_fpn(repeats=1).key(), "the published network, as it is in the space"
    assert own == set(fidelity._images) and len(own) == count // 4
    assert {place % count for place in seen["supernet"]} == set(range(count)) - own


def test_no_evaluation_changes_another(make: Make) -> None:
    task = make()
    once = score(task)
    weights = state_digest(task.weights or {})
    assert score(task) == once == list(reversed([task.evaluate(g, seed=0).reward for g in reversed(GRAPHS)]))
    assert state_digest(task.weights or {}) == weights
    assert score(task, seed=1) != once


def test_weights_are_trained_once_and_kept(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = make()
    expected, context = score(first), first.context(seed=0)
    assert sorted(path.name.partition("-")[0] for path in tmp_path.glob("*.pt")) == ["backbone", "supernet"]
    monkeypatch.setattr(shared_module, "train_supernet", never)
    monkeypatch.setattr("nasneck.proxy.cached.train_backbone", never)
    again = make()
    assert score(again) == expected and again.context(seed=0) == context
    given = make(store=None, weights=first.weights)
    assert score(given) == expected and given.context(seed=0) == context
    assert make(replace(SHARED, train=replace(SHARED.train, steps=1))).evaluate(GRAPHS[0], seed=0).state is State.OK


def test_trained_twice_it_is_the_same(make: Make) -> None:
    one, other = make(store=None), make(store=None)
    assert score(one) == score(other)
    assert one.context(seed=0) == other.context(seed=0)


CHANGES: dict[str, dict[str, Any]] = {
    "longer": {"config": replace(SHARED, supernet=replace(SHARED.supernet, path_steps=6))},
    "seed": {"config": replace(SHARED, supernet=replace(SHARED.supernet, seed=1))},
    "storage": {"config": replace(SHARED, store_dtype="bfloat16")},
    "numbers": {"config": replace(SHARED, amp="on")},
    "rate": {"config": replace(SHARED, train=replace(SHARED.train, learning_rate=0.001))},
    "space": {"space": MergingCellSpace(repeats=2)},
    "backbone": {"config": replace(SHARED, backbone_train=replace(SHARED.backbone_train, steps=5))},
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_settings_have_other_weights(make: Make, name: str, tmp_path: Path) -> None:
    def digest(options: dict[str, Any]) -> str:
        task = make(options.get("config", SHARED), space=options.get("space", SPACE))
        return task.context(seed=0)["features"]

    digests = [digest({}), digest(CHANGES[name]), digest({})]
    assert digests[0] == digests[2] != digests[1]
    assert len(list(tmp_path.glob("supernet-*.pt"))) == 2


def test_weights_for_another_backbone_are_trained_anew(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make()
    first.prepare_weights()
    assert first.weights is not None
    moved = {name: value + 1e-3 if name.endswith("conv1.weight") else value for name, value in first.weights.items()}
    backbone, supernet = parted(moved)
    assert supernet and state_digest(backbone) != state_digest(parted(first.weights)[0])
    trained = []
    train = shared_module.train_supernet
    monkeypatch.setattr(
        shared_module, "train_supernet", lambda *args, **given: trained.append(1) or train(*args, **given)
    )
    other = make(weights=moved)
    other.prepare_weights()
    assert len(trained) == 1
    found = parted(other.weights or {})[1]
    assert len({name.split("/")[1] for name in (*supernet, *found)}) == 2
    assert [name.split("/", 2)[2] for name in found] == [name.split("/", 2)[2] for name in supernet]


def test_a_store_has_all_weights(make: Make, shapes: DetectionData, tmp_path: Path) -> None:
    task = make(store=tmp_path / "one")
    task.prepare_weights()
    there = TaskStore(tmp_path / "one", SHARED, NECK, shapes.train, SPACE).load()
    assert there is not None and state_digest(there) == state_digest(task.weights or {})
    copied = TaskStore(tmp_path / "two", SHARED, NECK, shapes.train, SPACE)
    assert copied.load() is None
    copied.save(there)
    assert state_digest(copied.load() or {}) == state_digest(there)
    alone = TaskStore(tmp_path / "two", SHARED, NECK, shapes.train, None).load()
    assert alone is not None and not any(name.startswith(SUPERNET) for name in alone)


def test_a_damaged_file_is_refused(make: Make, tmp_path: Path) -> None:
    make().prepare_weights()
    (path,) = tmp_path.glob("supernet-*.pt")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"supernet-.*\.pt cannot be read .*; delete it to train anew"):
        make().prepare_weights()


def test_weights_of_a_file_have_a_supernet_as_well(make: Make, tmp_path: Path) -> None:
    task = make(replace(SHARED, fidelity="cached"))
    task.prepare_weights()
    file = tmp_path / "backbone.pt"
    torch.save(task.weights, file)
    config = replace(SHARED, backbone=replace(SHARED.backbone, weights=str(file)))
    first = make(config)
    expected = score(first)
    assert first.weights is not None and all(name.startswith(SUPERNET) for name in first.weights)
    assert score(make(config, store=None, weights=first.weights)) == expected


def test_a_space_without_published_necks(make: Make) -> None:
    from search_spaces.skip_fpn import skip_fpn

    space: SearchSpace = skip_fpn()
    found = make(space=space).evaluate(space.decode([0] * len(space.decisions)), seed=0)
    assert found.state is State.OK, found.text


def test_graphs_from_elsewhere_take_what_fits(make: Make) -> None:
    found = make().evaluate(fpn(), seed=0)
    assert found.state is State.OK, found.text


def test_stops_on_the_way(make: Make) -> None:
    task = make()
    stages: list[Measurement] = list(task.stages(GRAPHS[0], seed=0, rungs=(1,)))
    assert [stage.state for stage in stages] == [State.PRUNED, State.OK]
    assert stages[-1].reward == task.evaluate(GRAPHS[0], seed=0).reward


def test_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"'shared' ranks candidates by their loss; set reward = \"loss\""):
        replace(SHARED, reward="ap")
    with pytest.raises(ConfigError, match="fidelity 'shared' needs the search space"):
        make(space=None)
    with pytest.raises(ConfigError, match=r"two batches of 16 at least, and there are 20; lower train.batch_size"):
        make(replace(SHARED, train=replace(SHARED.train, batch_size=16)))


def test_ap_is_taken_from_weights_of_their_own() -> None:
    config = for_ap(PRESETS["shared"])
    assert (config.fidelity, config.reward, config.detector.kind) == ("cached", "ap", "fcos_light")
    assert config.train == PRESETS["quick"].train
    light = replace(SHARED, detector=replace(SHARED.detector, kind="retinanet"))
    assert for_ap(light).train.steps == PRESETS["quick"].train.steps and for_ap(light).detector.kind == "retinanet"
    assert for_ap(light).train.batch_size == 4
    longer = replace(light, train=replace(light.train, steps=500))
    assert for_ap(longer).train.steps == 500 and for_ap(longer).fidelity == "cached"
