"""What workers start from, and how the GPUs of a cluster are shared out; no Ray here."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasneck.data import load_data
from nasneck.errors import ClusterError, ConfigError, DataError, NasneckError
from nasneck.experiment import Experiment, experiment_from_dict, with_workers
from nasneck.necks import fpn, panet
from nasneck.proxy import SupernetConfig
from nasneck.runner import measure
from nasneck.runner.cluster import Node, Share, room
from nasneck.workplace import LocalWorkplace
from nasneck.workplace.base import search_key
from nasneck.workplace.cluster import ClusterWorkplace
from nasneck.workplace.recipe import MakeEvaluator, Preparation, Recipe


def make(root: Path, **tables: Any) -> Experiment:
    train = {"steps": 2, "batch_size": 2}
    table: dict[str, Any] = {
        "schema": "nasneck.experiment/1",
        "seed": 3,
        "data": {"root": str(root), "shapes": {"images": 10, "size": 80}},
        "neck": {"channels": 8},
        "proxy": {
            "canvas": 64,
            "amp": "off",
            "backbone": {"width": 8},
            "augment": {"views": 1},
            "train": train,
            "backbone_train": train,
        },
    }
    return experiment_from_dict({**table, **tables}, where="here")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    load_data(make(folder).data)
    return folder


@pytest.fixture(params=["cached", "shared"])
def experiment(root: Path, request: pytest.FixtureRequest) -> Experiment:
    made = make(root)
    if request.param == "cached":
        return made
    supernet = SupernetConfig(warm=1, path_steps=2, paths=1)
    return replace(made, proxy=replace(made.proxy, fidelity="shared", reward="loss", supernet=supernet))


@pytest.fixture
def recipe(experiment: Experiment) -> Recipe:
    return Recipe(experiment, load_data(experiment.data).digest, device="cpu")


def told(*what: Any) -> None:
    pass


def test_a_worker_measures_what_the_process_would(recipe: Recipe, experiment: Experiment, tmp_path: Path) -> None:
    place = LocalWorkplace(experiment, load_data(experiment.data), store=tmp_path / "store")
    place.prepare(told)
    preparation = Preparation(pickle.loads(pickle.dumps(recipe)), None)
    assert preparation.computed() == place.computed == {"device": "cpu", "bfloat16": False}
    prepared = preparation.prepare(told)
    assert prepared.weights is not None
    evaluate = pickle.loads(pickle.dumps(MakeEvaluator(recipe, prepared)))()
    task = place._task
    for graph in (fpn(), panet()):
        assert search_key(prepared.context, graph) == place.cache_key(graph)
        assert search_key({**prepared.context, "device": "cpu: another"}, graph) == place.cache_key(graph)
        here, there = task.evaluate(graph, seed=3), measure(evaluate, graph)
        varying = {"seconds": None, "latency_ms": None, "peak_memory_mb": None}
        assert replace(here, **varying) == replace(there, **varying)


def test_given_weights_are_not_trained_again(recipe: Recipe) -> None:
    said: list[str] = []
    first = Preparation(recipe, None).prepare(lambda what, done, total: said.append(what))
    assert "backbone training" in said
    assert ("supernet training" in said) == (recipe.experiment.proxy.fidelity == "shared")
    said.clear()
    second = Preparation(recipe, first.weights).prepare(lambda what, done, total: said.append(what))
    assert not said and second.context == first.context
    assert first.weights is not None
    # A training on a GPU would come out a little different; every worker takes the one that is given.
    changed = {name: value * 1.01 if value.is_floating_point() else value for name, value in first.weights.items()}
    third = Preparation(recipe, changed).prepare(told)
    assert third.context["features"] != first.context["features"]
    MakeEvaluator(recipe, third)()


def test_other_machines_are_found_out(recipe: Recipe, root: Path, tmp_path: Path) -> None:
    recipe.check()
    with pytest.raises(DataError, match=r"holds other images or annotations here than at the driver \(digest"):
        replace(recipe, data_digest="0" * 64).check()
    with pytest.raises(ClusterError, match=r"nasneck is \S+ here and 0\.0\.1 at the driver; install the same"):
        replace(recipe, version="0.0.1").check()
    gone = make(tmp_path / "gone", data={"root": str(tmp_path / "gone")})
    with pytest.raises(NasneckError, match="gone"):
        replace(recipe, experiment=gone).check()
    prepared = Preparation(recipe, None).prepare(told)
    other = replace(prepared, context={**prepared.context, "device": "another", "amp": True})
    with pytest.raises(ClusterError, match=r"would measure differently \(amp\); .* set proxy\.amp to on or off"):
        MakeEvaluator(recipe, other)()


def node(cpus: float, gpus: float = 0) -> Node:
    return Node("id", "10.0.0.7", {"CPU": cpus, **({"GPU": gpus} if gpus else {})})


@pytest.mark.parametrize(
    ("workers", "given", "device", "gpus", "share"),
    [
        (2, None, "auto", [0], 0.0),
        (2, None, "auto", [2], 1.0),
        (4, None, "auto", [1], 0.25),
        (3, None, "cuda", [1, 1], 0.5),
        (8, None, "cuda", [8], 1.0),
        (0, None, "auto", [4, 4], 1.0),
        (4, 0.5, "auto", [1], 0.5),
        (4, 0.0, "auto", [1], 0.0),
        (4, None, "cpu", [1], 0.0),
    ],
)
def test_gpus_of_a_trial(
    root: Path, workers: int, given: float | None, device: str, gpus: list[float], share: float
) -> None:
    place = cluster_place(root, device=device, workers=workers, gpus_per_trial=given)
    assert place._gpus(tuple(node(16, count) for count in gpus)) == share


@pytest.mark.parametrize(
    ("given", "device", "gpus", "match"),
    [
        (1.0, "cpu", 1, "gpus_per_trial 1 with device 'cpu'"),
        (0.0, "cuda", 1, "gpus_per_trial 0 with device 'cuda'"),
        (None, "cuda", 0, "no node has a GPU"),
    ],
)
def test_gpus_that_contradict(root: Path, given: float | None, device: str, gpus: float, match: str) -> None:
    place = cluster_place(root, device=device, workers=2, gpus_per_trial=given)
    with pytest.raises(NasneckError, match=match):
        place._gpus((node(16, gpus),))


def cluster_place(root: Path, *, device: str, **resources: Any) -> ClusterWorkplace:
    experiment = make(root, device=device, resources={"address": "10.0.0.1:6379", **resources})
    return ClusterWorkplace(experiment, load_data(experiment.data), store=root / "store", on_warning=told)


def test_room_of_a_cluster() -> None:
    machines = (node(4, 1), node(16, 2), node(2))
    assert room(Share(1, 0), machines) == 22
    assert room(Share(1, 1), machines) == 3
    assert room(Share(2, 1 / 3), machines) == 2 + 6
    assert room(Share(1, 0.4), machines) == 2 + 4  # a share does not lie on two GPUs
    assert room(Share(1, 2), machines) == 1
    assert room(Share(0.5, 0), machines) == 44
    with pytest.raises(ClusterError, match=r"takes 1 CPUs and 4 GPUs, but no node has them: 10\.0\.0\.7 has 4 CPUs"):
        room(Share(1, 4), machines)


def test_shares() -> None:
    assert [Share(cpus).threads for cpus in (0.25, 1, 2.5, 4)] == [1, 1, 2, 4]
    for cpus, gpus, match in ((0, 0, "cpus_per_trial 0"), (1, -1, "gpus_per_trial -1"), (1, 1.5, "a part of one GPU")):
        with pytest.raises(ConfigError, match=match):
            Share(cpus, gpus)


def test_workers_and_address_of_a_command(root: Path) -> None:
    experiment = make(root)
    assert not experiment.resources.distributed
    assert with_workers(experiment, workers=2, address=None).resources.distributed
    everywhere = with_workers(experiment, workers=None, address="auto").resources
    assert (everywhere.workers, everywhere.address, everywhere.distributed) == (0, "auto", True)
    assert with_workers(experiment, workers=1, address="auto").resources.distributed
    with pytest.raises(ConfigError, match="--workers 0 must be at least 1"):
        with_workers(experiment, workers=0, address="auto")
