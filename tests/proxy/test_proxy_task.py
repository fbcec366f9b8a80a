import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import nasneck.proxy.candidate as candidate_module
from nasneck.data.split import DetectionData
from nasneck.errors import ConfigError, DeviceError
from nasneck.evaluate import coco_ap
from nasneck.graph import NeckGraph
from nasneck.neck import Neck
from nasneck.necks import NECKS, fpn, nas_fpn
from nasneck.proxy import BackboneConfig, DetectorConfig, NeckConfig, ProxyConfig, ProxyTask, TrainConfig
from nasneck.proxy.cached import CachedTraining
from nasneck.proxy.store import state_digest
from nasneck.proxy.views import Views, batch_order
from nasneck.proxy.weights import make_backbone
from nasneck.trial import Measurement, State

from .conftest import NECK, TINY, MakeTask

SCRATCH = TrainConfig(steps=3, batch_size=4, learning_rate=0.001)


def frozen(task: ProxyTask) -> torch.nn.Module:
    fidelity = task.fidelity
    assert isinstance(fidelity, CachedTraining)
    return fidelity.frozen_backbone


def same(a: Measurement, b: Measurement) -> bool:
    """Equal but for what depends on the clock."""
    clock = {"seconds": None, "latency_ms": None, "peak_memory_mb": None}
    return replace(a, **clock) == replace(b, **clock)  # type: ignore[arg-type]


# Every neck trains in test_every_neck_trains.
MEASURED = ("asff", "bifpn", "fpn", "nas_fpn", "panet")


@pytest.mark.parametrize("name", MEASURED)
def test_every_fixed_neck_is_measured(task: ProxyTask, name: str) -> None:
    graph = NECKS[name](inputs=(3, 5), levels=(3, 7))
    m = task.evaluate(graph, seed=0, steps=3)
    assert m.state is State.OK, m.text
    assert m.reward == m.ap and m.reward_kind == "ap"
    assert m.ap is not None and 0 <= m.ap <= 1
    assert m.loss is not None and 0 < m.loss < 100
    assert m.parameters and m.macs and m.latency_ms and m.seconds and m.peak_memory_mb
    assert (m.seed, m.steps, m.split) == (0, 3, "reward")
    assert m.device.startswith("cpu: ")
    assert Measurement.from_dict(json.loads(json.dumps(m.to_dict()))) == m


def test_it_learns(task: ProxyTask) -> None:
    short = task.evaluate(fpn(), seed=0, steps=3)
    longer = task.evaluate(fpn(), seed=0, steps=80)
    assert short.loss is not None and longer.loss is not None
    assert longer.loss < 0.8 * short.loss


@pytest.mark.parametrize("fidelity", ["cached", "frozen", "scratch"])
def test_equal_seeds_give_equal_measurements_whatever_came_before(make_task: MakeTask, fidelity: str) -> None:
    make = lambda: make_task(fidelity=fidelity, train=SCRATCH)  # noqa: E731  a local shorthand
    first = make()
    alone = first.evaluate(fpn(), seed=1)
    torch.rand(7)  # the global generator moves on
    first.evaluate(nas_fpn(), seed=2)
    again = first.evaluate(fpn(), seed=1)
    other = make()
    other.evaluate(nas_fpn(), seed=5)
    other.evaluate(fpn(levels=(3, 6)), seed=5)
    elsewhere = other.evaluate(fpn(), seed=1)
    assert alone.state is State.OK, alone.text
    assert same(alone, again) and same(alone, elsewhere)
    assert alone.loss != first.evaluate(fpn(), seed=2).loss


@pytest.mark.parametrize("fidelity", ["cached", "frozen", "scratch"])
def test_the_seed_orders_the_batches(make_task: MakeTask, fidelity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(fidelity=fidelity, train=SCRATCH)
    task.prepare()
    seeds: list[int] = []
    where = f"nasneck.proxy.{fidelity}.batch_order"
    monkeypatch.setattr(where, lambda *a, **o: seeds.append(o["seed"]) or batch_order(*a, **o))
    views = f"nasneck.proxy.{fidelity}.Views"  # cached ones have a seed of their own
    monkeypatch.setattr(views, lambda *a, **o: seeds.append(o["seed"]) or Views(*a, **o), raising=False)
    for seed in (3, 8):
        assert task.evaluate(fpn(), seed=seed).state is State.OK
    assert sorted(set(seeds)) == [3, 8]
    assert len(seeds) == (2 if fidelity == "cached" else 4)


def test_the_global_generator_is_left_alone(task: ProxyTask) -> None:
    before = torch.get_rng_state()
    task.evaluate(fpn(), seed=0, steps=2)
    assert torch.equal(torch.get_rng_state(), before)


def stored(task: ProxyTask) -> list[torch.Tensor]:
    """The features of all views."""
    fidelity: Any = task.fidelity
    task.prepare(seed=0, steps=20)
    assert len(fidelity._kept[0]) == 2 * len(task.data.train)
    return fidelity._kept[1].features.maps


def test_a_short_training_needs_few_features(make_task: MakeTask, tmp_path: Path) -> None:
    whole, part = make_task(where=tmp_path / "a"), make_task(where=tmp_path / "b")
    stored(whole)
    made: list[int] = []
    part.prepare(lambda what, done, total: made.append(total) if what == "features of train" else None, seed=5, steps=3)
    assert set(made) == {12}, "three batches of four of the 40 views"
    few, all_of_them = part.fidelity._kept[1], whole.fidelity._kept[1]  # type: ignore[attr-defined]
    for place, row in few.row.items():
        for mine, theirs in zip(few.features.maps, all_of_them.features.maps, strict=True):
            torch.testing.assert_close(mine[row], theirs[all_of_them.row[place]], rtol=2e-3, atol=2e-3)
        assert torch.equal(few.targets[row]["boxes"], all_of_them.targets[all_of_them.row[place]]["boxes"])
    assert part.evaluate(fpn(), seed=5, steps=3).loss == pytest.approx(
        whole.evaluate(fpn(), seed=5, steps=3).loss, rel=1e-3
    )


def test_candidates_leave_the_frozen_backbone_and_the_features_alone(task: ProxyTask) -> None:
    backbone = frozen(task)
    before = state_digest(backbone.state_dict())
    features = [m.clone() for m in stored(task)]
    assert not backbone.training and not any(p.requires_grad for p in backbone.parameters())
    for name in MEASURED:
        assert task.evaluate(NECKS[name](), seed=0, steps=4).state is State.OK
    assert state_digest(backbone.state_dict()) == before
    assert all(torch.equal(a, b) for a, b in zip(features, stored(task), strict=True))


def test_the_backbone_is_trained_on_the_train_split_alone(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(where=tmp_path)
    start = state_digest(frozen(task).state_dict())
    seen: set[str] = set()
    split_type = type(task.data.train)
    read = split_type.__getitem__
    monkeypatch.setattr(split_type, "__getitem__", lambda self, i: (seen.add(self.name), read(self, i))[1])
    task.fidelity.prepare(seed=0, steps=4, batch_size=4)
    assert seen == {"train"}
    assert state_digest(frozen(task).state_dict()) != start


def test_a_backbone_needs_no_more_memory_than_is_allowed(make_task: MakeTask, tmp_path: Path) -> None:
    made: list[int] = []
    weights = []
    for limit in (1, 4096):  # 21 of the 24 views of 128 px that six steps look at, and all
        task = make_task(where=tmp_path / str(limit), canvas=128, memory_limit_mb=limit, reward="loss")
        task.prepare_weights(lambda what, done, total: made.append(total) if what == "views of train" else None)
        weights.append(state_digest(frozen(task).state_dict()))
    assert sorted(set(made)) == [21, 24] and weights[0] == weights[1]


def test_the_backbone_is_trained_once_and_then_read(make_task: MakeTask, tmp_path: Path) -> None:
    def phases(task: ProxyTask) -> list[str]:
        seen: list[str] = []
        task.prepare(lambda what, done, total: seen.append(what) if what not in seen else None)
        return seen

    first = make_task(where=tmp_path)
    assert phases(first) == [
        "views of train",
        "backbone training",
        "features of train",
        "images of reward",
        "features of reward",
    ]
    assert phases(first) == []  # nothing is done twice
    second = make_task(where=tmp_path)
    assert "backbone training" not in phases(second)
    assert state_digest(frozen(first).state_dict()) == state_digest(frozen(second).state_dict())
    assert first.cache_key(fpn(), seed=0) == second.cache_key(fpn(), seed=0)
    assert len(list(tmp_path.glob("*.pt"))) == 1
    third = make_task(where=tmp_path, backbone_train=TrainConfig(steps=7, batch_size=4))
    assert "backbone training" in phases(third)
    assert len(list(tmp_path.glob("*.pt"))) == 2


def test_weights_given_as_a_file_are_not_trained(make_task: MakeTask, tmp_path: Path) -> None:
    given = make_task(where=tmp_path)
    torch.save(frozen(given).state_dict(), tmp_path / "given.pt")
    expected = state_digest(frozen(given).state_dict())
    config = BackboneConfig(width=8, weights=str(tmp_path / "given.pt"))
    task = make_task(where=tmp_path / "store", backbone=config)
    task.prepare()
    assert state_digest(frozen(task).state_dict()) == expected
    assert not list((tmp_path / "store").glob("*.pt"))


def test_a_backbone_that_diverges_is_one_clear_line(make_task: MakeTask, tmp_path: Path) -> None:
    wild = TrainConfig(steps=30, batch_size=4, optimizer="sgd", learning_rate=1e9, clip_norm=0)
    task = make_task(where=tmp_path, backbone_train=wild)
    with pytest.raises(ConfigError, match=r"training diverged \(loss .*\); lower backbone_train.learning_rate 1e\+09"):
        task.prepare()
    assert list(tmp_path.iterdir()) == []


def test_loss_as_the_reward_needs_no_ap(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(reward="loss")
    monkeypatch.setattr("nasneck.proxy.evaluation.coco_ap", None)
    m = task.evaluate(fpn(), seed=0, steps=25)
    assert m.state is State.OK, m.text
    assert m.reward_kind == "loss"
    assert m.reward is not None and m.loss is not None and m.reward == -m.loss < 0
    assert m.ap is None and m.ap_small is None


def test_ap_is_that_of_the_canvas(task: ProxyTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of 80 px on a canvas of 64: the reward is AP of detections in canvas pixels."""
    calls: list[tuple[Any, Any]] = []

    def spy(truth: Any, detections: Any, **options: Any) -> Any:
        calls.append((truth, detections))
        return coco_ap(truth, detections, **options)

    monkeypatch.setattr("nasneck.proxy.evaluation.coco_ap", spy)
    assert task.evaluate(fpn(), seed=0, steps=2).state is State.OK
    truth, detections = calls[0]
    assert set(detections) == set(task.data.reward.image_ids)
    original = task.data.reward.ground_truth().dataset["annotations"]
    for scaled, box in zip(truth.rows, original, strict=True):
        assert scaled["bbox"] == pytest.approx([v * 64 / 80 for v in box["bbox"]])
        assert scaled["area"] == pytest.approx(box["area"] * (64 / 80) ** 2)


def test_the_test_split_is_another_measurement(task: ProxyTask) -> None:
    reward = task.evaluate(fpn(), seed=0, steps=40)
    test = task.evaluate(fpn(), seed=0, split="test", steps=40)
    assert test.split == "test" and test.loss == reward.loss
    assert test.ap != reward.ap
    with pytest.raises(ConfigError, match="split 'val' is not one of reward, test"):
        task.evaluate(fpn(), seed=0, split="val")


def test_data_without_test_images(shapes: DetectionData, store: Path) -> None:
    task = ProxyTask(TINY, NECK, replace(shapes, test=None), store=store, device="cpu")
    with pytest.raises(ConfigError, match="split 'test' was asked for, but the data have no test images"):
        task.evaluate(fpn(), seed=0, split="test")
    with pytest.raises(ConfigError, match="steps 0 must be at least 1"):
        task.evaluate(fpn(), seed=0, steps=0)


class TestScratch:
    @pytest.mark.parametrize("detector", ["fcos_light", "retinanet"])
    def test_the_backbone_trains_along(self, make_task: MakeTask, detector: Any) -> None:
        task = make_task(fidelity="scratch", train=SCRATCH, detector=DetectorConfig(kind=detector))
        assert task.in_channels == {3: 16, 4: 32, 5: 64}
        m = task.evaluate(fpn(), seed=0)
        assert m.state is State.OK, m.text
        assert m.loss is not None and m.ap is not None

    def test_training_changes_the_backbone(self, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
        task = make_task(fidelity="scratch", train=SCRATCH)
        made: list[torch.nn.Module] = []
        new = task.fidelity.backbone
        monkeypatch.setattr(task.fidelity, "backbone", lambda seed: made.append(new(seed)) or made[-1])
        before = state_digest(new(3).state_dict())
        assert task.evaluate(fpn(), seed=3).state is State.OK
        assert state_digest(made[0].state_dict()) != before

    def test_workers_do_not_change_the_reward(self, make_task: MakeTask) -> None:
        alone = make_task(fidelity="scratch", train=SCRATCH).evaluate(fpn(), seed=0)
        helped = make_task(fidelity="scratch", train=SCRATCH, workers=1).evaluate(fpn(), seed=0)
        assert alone.state is State.OK and same(alone, helped)


class TestFailures:
    """A candidate that fails is a measurement, never the end of a study."""

    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
        def arrange(error: BaseException) -> None:
            def compile_neck(*args: Any, **options: Any) -> Neck:
                raise error

            monkeypatch.setattr(candidate_module, "compile_neck", compile_neck)

        return arrange

    @pytest.mark.parametrize(
        ("error", "state", "text"),
        [
            (torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), State.OOM, "CUDA out of memory. Tried"),
            (MemoryError(), State.OOM, "MemoryError"),
            (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), State.OOM, "DefaultCPU"),
            (RuntimeError("sizes do not match\nat line 3"), State.ERROR, "RuntimeError: sizes do not match"),
            (ConfigError("no such width"), State.ERROR, "no such width"),
            (KeyError("x"), State.ERROR, "KeyError: 'x'"),
        ],
    )
    def test_errors_become_states(
        self, task: ProxyTask, failing: Callable[..., None], error: Exception, state: State, text: str
    ) -> None:
        failing(error)
        m = task.evaluate(fpn(), seed=4)
        assert m.state is state
        assert m.text.startswith(text) and "\n" not in m.text
        assert m.reward is None and m.ap is None and m.seed == 4 and m.seconds is not None
        assert m.device.startswith("cpu: ")

    def test_the_next_candidate_is_measured(self, task: ProxyTask, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(candidate_module, "compile_neck", None)
            assert task.evaluate(fpn(), seed=0).state is State.ERROR
        assert task.evaluate(fpn(), seed=0, steps=2).state is State.OK

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
    def test_interrupts_pass(self, task: ProxyTask, failing: Callable[..., None], error: BaseException) -> None:
        failing(error)
        with pytest.raises(type(error)):
            task.evaluate(fpn(), seed=0)

    def test_a_loss_that_is_not_a_number(self, make_task: MakeTask) -> None:
        wild = TrainConfig(steps=40, batch_size=4, optimizer="sgd", learning_rate=1e12, clip_norm=0)
        m = make_task(train=wild).evaluate(fpn(), seed=0)
        assert m.state is State.NAN, m
        assert "loss nan at step" in m.text or "loss inf at step" in m.text
        assert m.reward is None

    def test_too_long(self, make_task: MakeTask) -> None:
        m = make_task(timeout_s=1e-3).evaluate(fpn(), seed=0)
        assert m.state is State.TIMEOUT
        assert "stopped after 1 of 12 steps" in m.text

    def test_batch_norm_on_single_values(self, make_task: MakeTask) -> None:
        single = TrainConfig(steps=3, batch_size=1)
        m = make_task(train=single).evaluate(nas_fpn(), seed=0)
        assert m.state is State.ERROR
        assert "batch norm cannot train on one 1x1 map per channel" in m.text

    def test_a_graph_of_other_levels(self, task: ProxyTask) -> None:
        m = task.evaluate(fpn(inputs=(2, 5), levels=(2, 6)), seed=0)
        assert m.state is State.ERROR
        assert "in_channels gives C3, C4, C5, but the graph reads C2" in m.text

    def test_a_canvas_that_the_neck_cannot_take(self, task: ProxyTask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(NeckGraph, "size_divisor", 48)
        m = task.evaluate(fpn(), seed=0)
        assert m.state is State.ERROR
        assert m.text == "canvas 64 px is not divisible by 48, as this neck needs"


class TestBackendOfAP:
    def test_rewards_are_the_same_with_each(self, make_task: MakeTask) -> None:
        first, second = (
            make_task(ap_backend=backend).evaluate(fpn(), seed=0, steps=80)
            for backend in ("pycocotools", "faster_coco_eval")
        )
        assert first.ap is not None and first.ap > 0
        assert same(first, second)

    def test_the_ground_truth_is_prepared_once_and_by_what_is_asked_for(self, make_task: MakeTask) -> None:
        task = make_task(ap_backend="pycocotools")
        truth = task.truth(task.data.reward)
        assert truth.backend == "pycocotools"
        assert task.truth(task.data.reward) is truth

    def test_one_that_is_not_installed_is_found_out_at_once(
        self, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
        with pytest.raises(ConfigError, match="pip install faster-coco-eval"):
            make_task(ap_backend="faster_coco_eval")
        make_task(ap_backend="faster_coco_eval", reward="loss")


class TestCacheKey:
    def test_it_is_stable_and_sees_every_part(self, make_task: MakeTask, task: ProxyTask) -> None:
        key = task.cache_key(fpn(), seed=0)
        assert key == make_task().cache_key(fpn(), seed=0)
        assert key == task.cache_key(fpn(), seed=0, steps=TINY.train.steps)
        assert key == make_task(timeout_s=9.0).cache_key(fpn(), seed=0)
        assert key == make_task(ap_backend="pycocotools").cache_key(fpn(), seed=0)
        others = [
            task.cache_key(nas_fpn(), seed=0),
            task.cache_key(fpn(), seed=1),
            task.cache_key(fpn(), seed=0, split="test"),
            task.cache_key(fpn(), seed=0, steps=5),
            make_task(reward="loss").cache_key(fpn(), seed=0),
            make_task(amp="on").cache_key(fpn(), seed=0),
            make_task(store_dtype="float32").cache_key(fpn(), seed=0),
            make_task(train=SCRATCH).cache_key(fpn(), seed=0),
            make_task(fidelity="scratch").cache_key(fpn(), seed=0),
            make_task(neck=NeckConfig(channels=8)).cache_key(fpn(), seed=0),
            make_task(backbone_train=TrainConfig(steps=5, batch_size=4)).cache_key(fpn(), seed=0),
        ]
        assert len({key, *others}) == 1 + len(others)

    @pytest.mark.parametrize("fidelity", ["cached", "frozen", "scratch"])
    def test_it_sees_what_is_in_a_file_of_weights(self, make_task: MakeTask, tmp_path: Path, fidelity: str) -> None:
        path = tmp_path / "given.pt"
        keys = set()
        for seed in (0, 1):
            torch.save(make_backbone(TINY.backbone, levels=(3, 5), seed=seed).state_dict(), path)
            task = make_task(fidelity=fidelity, backbone=BackboneConfig(width=8, weights=str(path)))
            keys.add(task.cache_key(fpn(), seed=0))
        assert len(keys) == 2

    def test_it_names_the_device(self, task: ProxyTask, monkeypatch: pytest.MonkeyPatch) -> None:
        key = task.cache_key(fpn(), seed=0)
        monkeypatch.setattr("nasneck.proxy.task.describe_device", lambda device: "cpu: another")
        assert task.cache_key(fpn(), seed=0) != key


def test_wrong_settings_fail_when_the_task_is_made(make_task: MakeTask, shapes: DetectionData, store: Path) -> None:
    with pytest.raises(ConfigError, match="backbone 'resnet10' has no level 6; it has 2, 3, 4, 5"):
        make_task(neck=NeckConfig(inputs=(3, 6), levels=(3, 7)))
    with pytest.raises(ConfigError, match="features of 40 views need 2 MiB, more than disk_limit_mb 1"):
        make_task(disk_limit_mb=1, canvas=256)
    with pytest.raises(ConfigError, match=r"backbone weights nowhere\.pt: there is no such file"):
        make_task(fidelity="scratch", backbone=BackboneConfig(weights="nowhere.pt"))
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="torch sees no GPU here"):
            ProxyTask(ProxyConfig(), NECK, shapes, store=store, device="cuda")
