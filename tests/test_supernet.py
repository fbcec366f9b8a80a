"""``experiments/supernet*.py``: what is shared, how fair paths are, what scoring leaves alone, what the table says."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nasneck import necks
from nasneck.data.config import DataConfig, load_data
from nasneck.data.shapes import ShapesConfig
from nasneck.proxy import BackboneConfig, NeckConfig, ProxyTask, TrainConfig, proxy_config
from nasneck.space import MergingCellSpace

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SPACE = MergingCellSpace(repeats=1)
PUBLISHED = necks.nas_fpn(repeats=1)
OTHER = SPACE.decode([0] * len(SPACE.decisions))  # all on P3 first, sums: other levels, places and fusions


@pytest.fixture(autouse=True)
def experiments(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> ProxyTask:
    root = tmp_path_factory.mktemp("supernet")
    fast = proxy_config({"preset": "fast", "augment": {"views": 1}}, where="test")
    config = replace(
        fast,
        canvas=64,
        backbone=BackboneConfig(width=8),
        train=TrainConfig(steps=3, batch_size=4, schedule="constant"),
        backbone_train=TrainConfig(steps=2, batch_size=4),
        amp="off",
    )
    shapes = ShapesConfig(images=48, size=64, val_fraction=0.2, sizes=(0.1, 0.9))
    data = load_data(DataConfig(root=str(root / "data"), shapes=shapes, reward_images=4))
    return ProxyTask(config, NeckConfig(channels=8), data, store=root / "store", device="cpu")


def make(task: ProxyTask, sharing: str) -> Any:
    weights = importlib.import_module("supernet_weights")
    return weights.SharedWeights(task, weights.own_candidate(task, PUBLISHED, 0), sharing)


def state(shared: Any) -> list[torch.Tensor]:
    return [value.clone() for module in shared.modules for value in module.state_dict().values()]


def test_a_step_on_one_candidate_changes_another(task: ProxyTask) -> None:
    training = importlib.import_module("supernet_training")
    shared = make(task, "cell")
    one, other = shared.path(PUBLISHED), shared.path(OTHER)
    assert not any(parameter.is_meta for parameter in [*one.neck.parameters(), *other.neck.parameters()])
    convs = [name for name, _ in other.neck.named_parameters() if name.endswith("conv.weight")]
    before = {name: other.neck.get_parameter(name).detach().clone() for name in convs}
    images = training.Images(task, seed=0, steps=3, batches=1)
    images.loss(one, 0, images.features(0)).backward()
    torch.optim.SGD(one.neck.parameters(), lr=1e6).step()  # gradients of the coarsest levels are tiny
    assert len(convs) == 7 + 3, "cells and laterals"
    for name in convs:
        assert not torch.equal(before[name], other.neck.get_parameter(name)), name
    assert one.canvas.detector.head is other.canvas.detector.head


@pytest.mark.parametrize(("sharing", "number"), [("cell", 7), ("node", 7), ("cell_level", 11), ("cell_level_op", 12)])
def test_what_tells_cells_apart(task: ProxyTask, sharing: str, number: int) -> None:
    # They agree in the levels of the third to fifth cell (P3, P4, P5) and in the fusions of the first two of these.
    shared = make(task, sharing)
    cells = [*shared.of(PUBLISHED).values(), *shared.of(OTHER).values()]
    assert len({id(cell) for cell in cells}) == number
    fusions = [cell[3] for cell in importlib.import_module("supernet_weights").cells(PUBLISHED)]
    assert fusions == ["Attention", "Sum", "Sum", "Sum", "Attention", "Attention", "Attention"]


def test_scoring_leaves_the_shared_weights_alone(task: ProxyTask, monkeypatch: pytest.MonkeyPatch) -> None:
    supernet, training = (importlib.import_module(name) for name in ("supernet", "supernet_training"))
    shared = make(task, "cell")
    shared.of(PUBLISHED)
    with torch.no_grad():
        for module in shared.modules:
            for parameter in module.parameters():
                parameter.add_(0.01)
    before = state(shared)
    copied = shared.copy_of(OTHER, 5)
    cells = {value.data_ptr() for module in shared.modules for value in module.state_dict().values()}
    assert not cells & {value.data_ptr() for value in copied.neck.state_dict().values()}
    for name, cell in shared.of(OTHER).items():
        for key, value in cell.state_dict().items():
            assert torch.equal(copied.neck.body.get_submodule(name).state_dict()[key], value), "it starts from them"
    images = training.Images(task, seed=0, steps=3, batches=10)
    rows = list(supernet.tuned(task, lambda: copied, 0, (1, 3)))
    monkeypatch.setattr(supernet, "BATCHES", 2)
    rows += list(supernet.untuned(task, shared, OTHER, images, 0))
    assert all(np.isfinite(row["score"]) and row["cpu_seconds"] > 0 for row in rows)
    assert len({row["score"] for row in rows}) == 5, "all of them are different scores"
    assert all(torch.equal(a, b) for a, b in zip(before, state(shared), strict=True))


def test_images_of_scores_are_new_to_the_supernet(task: ProxyTask) -> None:
    training = importlib.import_module("supernet_training")
    views = importlib.import_module("nasneck.proxy.views")
    images = training.Images(task, seed=0, steps=3, batches=20)
    total = len(task.data.train)
    taken = {i for batch in views.batch_order(total, batch_size=4, steps=3, seed=0) for _, i in batch}
    seen = {row for batch in images._rows for row in batch}
    assert len(taken) == 12 and images.count == total - 12
    assert seen == set(range(total)) - {images._kept.row[i] for i in taken}


def test_training_stops_at_each_budget_and_goes_on(task: ProxyTask) -> None:
    training = importlib.import_module("supernet_training")
    plan = training.Plan(warm=1, paths=2, budgets=(2, 6))
    shared = make(task, "cell_level")
    images = training.Images(task, seed=0, steps=3, batches=4)
    stops, states = [], []
    for budget in training.train(task, SPACE, shared, images, plan, 0):
        stops.append(budget)
        states.append(state(shared))
    assert stops == [2, 6]
    assert any(not torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_the_bootstrap_is_that_of_the_drawn_values() -> None:
    agreement = importlib.import_module("agreement")
    rng = np.random.default_rng(1)
    truth, scores = rng.normal(size=9), rng.integers(4, size=(2, 9)).astype(float)  # with ties
    again = np.random.default_rng(0)
    drawn = [again.integers(9, size=9) for _ in range(20)]
    wanted = [np.mean([agreement.tau_b(row[d], truth[d]) for row in scores]) for d in drawn]
    assert agreement.drawn_taus(scores, truth, np.random.default_rng(0), 20) == pytest.approx(wanted)
    assert np.isnan(agreement.drawn_taus(np.ones((1, 9)), truth, rng, 2)).all()


def made_up(sign: int) -> Iterator[dict[str, Any]]:
    """Independent scores with two neighbours in the wrong order, shared ones in the right or the reverse order."""
    made = {"device": "cpu: test", "command": "supernet.py run", "commit": "0123"}
    wrong = [1, 0, 3, 2, 5, 4, 7, 6]
    for i in range(8):
        known = {"seed": 0, "neck": f"n{i}", **made}
        for steps, seconds in ((2, 0.1), (4, 0.2), (6, 0.3)):
            own = {"way": "independent", "sharing": "", "budget": 0, "steps": steps, "score": wrong[i]}
            yield {**own, "supernet_cpu_seconds": 0.0, "cpu_seconds": seconds, **known}
        for way, steps in (("inherited", 0), ("fine-tuned", 5)):
            shared = {"way": way, "sharing": "cell", "budget": 200, "steps": steps, "score": sign * i}
            yield {**shared, "supernet_cpu_seconds": 20.0, "cpu_seconds": 0.05, **known}


def test_the_table_and_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, fidelity = (importlib.import_module(name) for name in ("supernet_table", "fidelity"))
    path = tmp_path / "supernet.csv"
    assert table.supernet_section(path) == ""
    monkeypatch.setattr(fidelity, "RESULTS", tmp_path)
    monkeypatch.setattr(table, "DRAWS", 100)
    truth = [{"neck": f"n{i}", "seed": seed, "state": "ok", "ap": i / 10} for i in range(8) for seed in (0, 1)]
    pd.DataFrame(truth).to_csv(tmp_path / "fidelity_truth.csv", index=False)
    pd.DataFrame(made_up(1)).to_csv(path, index=False)
    row = table.table(path).set_index("way").loc["fine-tuned"]
    assert row["seconds"] == pytest.approx(0.05 + 20 / 200)
    assert row["rival_steps"] == 4, "the first that takes as many seconds"
    assert row["gain"] == pytest.approx(1 - 20 / 28)
    text = table.supernet_section(path)
    assert "| fine-tuned | `cell` | 200 | 5 | 0.15 | 1.00 (1.00 to 1.00) | 4, 0.71 |" in text
    assert "**Weight sharing pays here**" in text and "Commit 0123" in text
    assert "takes 0.15 s, 0.50 of it; its supernet takes 20 s once, which 80 candidates bring in" in text
    pd.DataFrame(made_up(-1)).to_csv(path, index=False)
    text = table.supernet_section(path)
    assert "**Weight sharing does not pay here**" in text and "None is as good as that." in text
