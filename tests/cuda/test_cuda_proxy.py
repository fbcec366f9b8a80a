"""The proxy task and whole searches on a GPU."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nasneck.data.config import DataConfig, load_data
from nasneck.data.shapes import ShapesConfig
from nasneck.data.split import DetectionData
from nasneck.device import limit_memory
from nasneck.experiment import SCHEMA, experiment_from_dict
from nasneck.graph import NeckGraph
from nasneck.necks import NECKS, fpn, nas_fpn
from nasneck.proxy import (
    AugmentConfig,
    BackboneConfig,
    DetectorConfig,
    NeckConfig,
    ProxyConfig,
    ProxyTask,
    SupernetConfig,
    TrainConfig,
)
from nasneck.proxy.cached import CachedTraining
from nasneck.proxy.candidate import Candidate, build_candidate
from nasneck.proxy.captured import WORTH, captured
from nasneck.search import search
from nasneck.space import MergingCellSpace
from nasneck.trial import State

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

TINY = ProxyConfig(
    canvas=64,
    backbone=BackboneConfig(width=8),
    detector=DetectorConfig(score_threshold=0.01),
    augment=AugmentConfig(views=2),
    train=TrainConfig(steps=12, batch_size=4),
    backbone_train=TrainConfig(steps=6, batch_size=4),
    amp="off",
)
NECK = NeckConfig(channels=16)
SPACE = MergingCellSpace(repeats=1)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> DetectionData:
    root = tmp_path_factory.mktemp("data") / "shapes"
    config = ShapesConfig(images=40, size=80, val_fraction=0.25, sizes=(0.1, 0.9))
    return load_data(DataConfig(root=str(root), shapes=config, reward_images=10))


def make(shapes: DetectionData, store: Path | None = None, device: str = "cuda", **changes: Any) -> ProxyTask:
    return ProxyTask(replace(TINY, **changes), NECK, shapes, store=store, device=device, space=SPACE)


def build(task: ProxyTask, graph: NeckGraph) -> Candidate:
    return build_candidate(
        graph,
        config=task.config,
        neck=task.neck,
        in_channels=task.in_channels,
        num_classes=len(task.data.classes),
        seed=0,
        device=task.device,
        amp=task.amp,
    )


@pytest.mark.parametrize("name", NECKS)
def test_every_neck_trains(shapes: DetectionData, name: str) -> None:
    task = make(shapes)
    graph = NECKS[name]()
    if graph.input_levels != (3, 4, 5) or graph.output_levels != (3, 4, 5, 6, 7):
        pytest.skip("other levels than the tiny task has")
    m = task.evaluate(graph, seed=0, steps=WORTH)
    assert m.state is State.OK, m.text
    assert m.loss is not None and math.isfinite(m.loss)
    assert m.device == f"cuda: {torch.cuda.get_device_name()}"
    assert m.latency_ms and m.peak_memory_mb


@pytest.mark.parametrize("fidelity", ["cached", "frozen", "scratch"])
def test_a_training_is_that_of_the_cpu(shapes: DetectionData, tmp_path: Path, fidelity: str) -> None:
    """Up to the order of sums; a training leaves no room for more than the first steps."""
    torch.backends.cudnn.allow_tf32 = False
    try:
        options = {"fidelity": fidelity, "store_dtype": "float32"}
        here = make(shapes, device="cpu", **options)
        here.prepare_weights()
        there = ProxyTask(here.config, NECK, shapes, store=None, device="cuda", weights=here.weights)
        for graph in (fpn(), nas_fpn(repeats=1)):
            losses = [task.evaluate(graph, seed=3, steps=3).loss for task in (here, there)]
            assert losses[0] is not None and losses[1] == pytest.approx(losses[0], rel=1e-3)
    finally:
        torch.backends.cudnn.allow_tf32 = True


def test_shared_weights(shapes: DetectionData) -> None:
    """Those of the CPU give its losses here; those that are trained here give lower losses than none."""
    torch.backends.cudnn.allow_tf32 = False
    try:
        options: dict[str, Any] = {
            "fidelity": "shared",
            "reward": "loss",
            "store_dtype": "float32",
            "supernet": SupernetConfig(warm=20, path_steps=20, paths=2),
        }
        here = make(shapes, device="cpu", **options)
        here.prepare_weights()
        there = ProxyTask(here.config, NECK, shapes, store=None, device="cuda", weights=here.weights, space=SPACE)
        graph = nas_fpn(repeats=1)
        losses = [task.evaluate(graph, seed=3, steps=3).loss for task in (here, there)]
        assert losses[0] is not None and losses[1] == pytest.approx(losses[0], rel=1e-3)
        own = make(shapes, **options).evaluate(graph, seed=3, steps=1)
        alone = make(shapes, **{**options, "fidelity": "cached"}).evaluate(graph, seed=3, steps=1)
        assert own.loss is not None and alone.loss is not None and own.loss < alone.loss
    finally:
        torch.backends.cudnn.allow_tf32 = True


@pytest.mark.parametrize("amp", ["on", "off"])
@pytest.mark.parametrize("kind", ["fcos_bare", "fcos_light", "retinanet"])
def test_it_learns(shapes: DetectionData, amp: str, kind: str) -> None:
    task = make(shapes, amp=amp, detector=DetectorConfig(kind=kind, score_threshold=0.01))  # type: ignore[arg-type]
    short, longer = (task.evaluate(fpn(), seed=0, steps=steps) for steps in (3, 80))
    assert short.loss is not None and longer.loss is not None, (short.text, longer.text)
    assert longer.loss < (0.97 if kind == "retinanet" else 0.8) * short.loss


@pytest.mark.parametrize("name", ["bifpn", "carafe_fpn", "fpn", "nas_fpn"])
@pytest.mark.parametrize("amp", ["on", "off"])
def test_captured_trainings_are_the_plain_ones(shapes: DetectionData, name: str, amp: str) -> None:
    tasks = [make(shapes, amp=amp, cuda_graphs=flag) for flag in (True, False)]
    found = [task.evaluate(NECKS[name](), seed=0, steps=20) for task in tasks]
    assert found[0].state is found[1].state is State.OK, found[0].text
    # Within what the order of sums does to twenty steps.
    assert found[0].loss == pytest.approx(found[1].loss, rel=0.02)


def test_captured_in_turns(shapes: DetectionData) -> None:
    """Candidates that share what the backbone made of a batch do not write into it."""
    task = make(shapes, fidelity="frozen", amp="off")
    graphs = [fpn(), nas_fpn(repeats=1)]
    alone = [task.evaluate(graph, seed=0, steps=20).loss for graph in graphs]
    turns = [task.stepwise(graph, seed=0, steps=20) for graph in graphs]
    together = [0.0, 0.0]
    for _ in range(21):
        for number, found in enumerate(turns):
            measurement = next(found)
            if measurement is not None:
                together[number] = measurement.loss or 0.0
    assert together == pytest.approx(alone, rel=0.02)


@pytest.mark.parametrize("amp", ["on", "off"])
def test_what_is_captured_computes_the_same(shapes: DetectionData, amp: str) -> None:
    """Outputs, gradients and the statistics of batch norms, on other features than those of the capture."""
    task = make(shapes, amp=amp)
    task.prepare()
    made = [build(task, nas_fpn()) for _ in range(2)]
    features = [
        [
            torch.randn(4, width, 64 // 2**level, 64 // 2**level, device="cuda")
            for level, width in task.in_channels.items()
        ]
        for _ in range(2)
    ]
    runs = [captured(made[0], features[0]), made[1].outputs]
    assert runs[0] != made[0].outputs  # it was captured
    for candidate, run in zip(made, runs, strict=True):
        candidate.detector.train()
        torch.stack([out.square().mean() for out in run(features[1]).values()]).sum().backward()
    tolerance = {"rtol": 2e-2, "atol": 1e-3} if amp == "on" else {"rtol": 1e-3, "atol": 1e-5}
    for (name, ours), theirs in zip(made[0].detector.named_parameters(), made[1].detector.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None, name
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name, **tolerance)
    for (name, ours), theirs in zip(made[0].detector.named_buffers(), made[1].detector.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name, **tolerance)
    # In eval mode the method itself is what runs.
    with torch.no_grad():
        one, other = (candidate.detector.eval() and candidate.outputs(features[0]) for candidate in made)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], **tolerance)


def test_what_cannot_be_captured_trains_the_plain_way(shapes: DetectionData, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Candidate.outputs

    def asks(self: Candidate, features: Any) -> dict[str, torch.Tensor]:
        assert math.isfinite(features[0].detach().sum())  # waits for the GPU
        return plain(self, features)

    want = make(shapes).evaluate(fpn(), seed=0, steps=12)
    monkeypatch.setattr(Candidate, "outputs", asks)
    got = make(shapes).evaluate(fpn(), seed=0, steps=12)
    assert got.state is State.OK and got.loss == pytest.approx(want.loss, rel=0.02)


def test_features_from_files_lie_on_the_gpu(shapes: DetectionData, tmp_path: Path) -> None:
    first = make(shapes, tmp_path)
    first.prepare()
    again = make(shapes, tmp_path)
    again.prepare()
    for task in (first, again):
        fidelity = task.fidelity
        assert isinstance(fidelity, CachedTraining) and fidelity._kept is not None
        assert all(m.is_cuda for m in fidelity._kept[1].features.maps)
    one, other = (task.evaluate(nas_fpn(), seed=0, steps=3).loss for task in (first, again))
    assert one == pytest.approx(other, rel=1e-3)


def test_equal_seeds_give_equal_measurements_up_to_the_order_of_sums(shapes: DetectionData) -> None:
    task = make(shapes)
    one, again, other = (task.evaluate(nas_fpn(), seed=seed, steps=4).loss for seed in (1, 1, 2))
    assert one is not None and again is not None and other is not None
    assert 10 * abs(one - again) < abs(one - other)


def test_out_of_memory_is_said_and_over_with_the_candidate(shapes: DetectionData) -> None:
    wide = NeckConfig(channels=512)
    task = ProxyTask(TINY, wide, shapes, store=None, device="cuda")
    task.prepare()
    enough = task.evaluate(fpn(), seed=0, steps=2)
    torch.cuda.empty_cache()
    try:
        limit_memory(1e-5)  # about a MiB more than there is
        none = task.evaluate(fpn(), seed=0, steps=2)
    finally:
        limit_memory(1.0)
    assert none.state is State.OOM, (none.state, none.text)
    after = task.evaluate(fpn(), seed=0, steps=2)
    assert after.state is State.OK and after.loss == pytest.approx(enough.loss, rel=1e-2)


def test_a_search_runs_and_goes_on(tmp_path: Path) -> None:
    shapes = {"images": 40, "size": 80, "val_fraction": 0.25, "sizes": [0.1, 0.9]}
    table = {
        "schema": SCHEMA,
        "data": {"root": str(tmp_path / "shapes"), "shapes": shapes, "reward_images": 10},
        "neck": {"channels": 16},
        "space": {"name": "nas_fpn", "repeats": 1},
        "strategy": {"name": "random"},
        "proxy": {"preset": "fast", "canvas": 64, "backbone": {"width": 8}, "train": {"steps": 4, "batch_size": 4}},
        "search": {"trials": 2},
        "device": "cuda",
    }
    search(experiment_from_dict(table, where="test"), tmp_path / "run")
    longer = experiment_from_dict({**table, "search": {"trials": 4}}, where="test")
    result = search(longer, tmp_path / "run", resume_study=True)
    assert result.summary.best is not None
    assert json.loads((tmp_path / "run" / "best.json").read_text())
