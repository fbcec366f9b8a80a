"""A training with stops on its way, what a candidate costs where it will be deployed, and lack of memory."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

import nasneck.proxy.deployed as deployed_module
from nasneck.compile import compile_neck
from nasneck.cost import count_macs, count_parameters
from nasneck.data.split import DetectionData
from nasneck.errors import ConfigError
from nasneck.necks import bifpn, fpn, nas_fpn
from nasneck.objective import ObjectiveConfig
from nasneck.proxy import ProxyTask, TrainConfig
from nasneck.proxy.cached import CachedTraining
from nasneck.proxy.fit import Fit
from nasneck.trial import Measurement, State, latency_key

from .conftest import NECK, TINY, MakeTask

SCRATCH = TrainConfig(steps=6, batch_size=4, learning_rate=0.001)


def timeless(m: Measurement) -> Measurement:
    return replace(m, seconds=None, latency_ms=None, peak_memory_mb=None)


@pytest.fixture
def with_objective(shapes: DetectionData, store: Any) -> Any:
    def make(**objective: Any) -> ProxyTask:
        made = ProxyTask(TINY, NECK, shapes, store=store, device="cpu", objective=ObjectiveConfig(**objective))
        made.prepare()
        return made

    return make


@pytest.mark.parametrize("fidelity", ["cached", "frozen", "scratch"])
def test_stops_make_no_difference(make_task: MakeTask, fidelity: str) -> None:
    task = make_task(fidelity=fidelity, train=SCRATCH if fidelity == "scratch" else TINY.train)
    steps = task.config.train.steps
    rungs = (2, 5)
    first, second, last = task.stages(nas_fpn(repeats=1), seed=1, rungs=rungs)
    plain = task.evaluate(nas_fpn(repeats=1), seed=1)
    assert timeless(replace(last, scores=(), rung=0)) == timeless(plain), "bit for bit"
    assert (last.state, last.rung, last.steps, last.reward_kind) == (State.OK, 2, steps, "ap")
    for rung, early in enumerate((first, second)):
        assert (early.state, early.rung, early.steps) == (State.PRUNED, rung, rungs[rung])
        assert early.reward == -(early.loss or 0) and early.reward_kind == "loss" and early.ap is None
        assert early.text == f"stopped after {rungs[rung]} of {steps} steps"
        assert early.parameters == last.parameters and early.latency_ms == last.latency_ms
    assert first.scores == () and second.scores == (first.reward,)
    assert last.scores == (first.reward, second.reward)
    assert (first.seconds or 0) <= (second.seconds or 0) <= (last.seconds or 0)


def test_the_early_loss_is_that_of_a_training_so_far(make_task: MakeTask) -> None:
    """Under the schedule of the whole training, which a training of so many steps would not have."""
    train = replace(TINY.train, schedule="constant", warmup=0.0)
    task = make_task(train=train)
    early = next(iter(task.stages(fpn(), seed=0, rungs=(4,))))
    assert early.loss == task.evaluate(fpn(), seed=0, steps=4).loss


@pytest.mark.parametrize("rungs", [(0, 3), (5, 3), (3, 3), (12,), (-1,)])
def test_rungs_that_do_not_fit(task: ProxyTask, rungs: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="must rise and lie between 0 and the 12 steps"):
        task.stages(fpn(), seed=0, rungs=rungs)


def test_a_training_that_is_given_up_gives_everything_back(make_task: MakeTask, monkeypatch: Any) -> None:
    ended = []
    original = CachedTraining.training

    @contextmanager
    def training(self: CachedTraining, *args: Any, **kwargs: Any) -> Any:
        with original(self, *args, **kwargs) as made:
            try:
                yield made
            finally:
                ended.append(made.done)

    monkeypatch.setattr(CachedTraining, "training", training)
    stages = make_task().stages(fpn(), seed=0, rungs=(3,))
    next(stages)
    stages.close()  # type: ignore[attr-defined]
    assert ended == [3]


# --- costs -----------------------------------------------------------------------------------------------


def test_costs_are_those_of_the_deployed_neck(with_objective: Any) -> None:
    widths = {3: 24, 4: 40, 5: 56}
    task = with_objective(image_size=(192, 320), channels=24, in_channels=widths)
    m = task.evaluate(bifpn(repeats=2), seed=0, steps=2)
    neck = compile_neck(bifpn(repeats=2), widths, 24)
    assert m.parameters == count_parameters(neck)
    assert m.macs == count_macs(neck, (192, 320)) and m.image_size == (192, 320)
    plain = with_objective().evaluate(bifpn(repeats=2), seed=0, steps=2)
    assert plain.image_size == (64, 64) and plain.parameters != m.parameters
    assert plain.reward == m.reward and plain.loss == m.loss, "what is trained is the proxy's neck"


def test_latency_is_measured_alone_before_the_training(with_objective: Any, monkeypatch: Any) -> None:
    happened = []

    class Watched:
        @contextmanager
        def alone(self) -> Any:
            happened.append("alone")
            yield True
            happened.append("over")

    def measure(neck: Any, size: Any, *, device: Any, runs: int) -> float:
        happened.append(("latency", size, runs, neck.training))
        return 3.5

    monkeypatch.setattr(deployed_module, "SLOT", Watched())
    monkeypatch.setattr(deployed_module, "measure_latency", measure)
    stepwise = Fit.stepwise
    monkeypatch.setattr(Fit, "stepwise", lambda self, to: happened.append("training") or stepwise(self, to))
    m = with_objective(image_size=(96, 64), latency_runs=7).evaluate(fpn(), seed=0, steps=2)
    assert happened == ["alone", ("latency", (96, 64), 7, True), "over", "training"]
    assert m.latency_ms == 3.5


def test_a_latency_that_nobody_asks_for_is_not_measured(with_objective: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(deployed_module, "measure_latency", None)
    m = with_objective(latency_runs=0).evaluate(fpn(), seed=0, steps=2)
    assert m.state is State.OK and m.latency_ms is None and m.macs


def test_a_known_latency_is_not_measured_again(task: ProxyTask, monkeypatch: Any) -> None:
    first = task.evaluate(fpn(), seed=0, steps=2)
    monkeypatch.setattr(deployed_module, "measure_latency", None)
    known = {latency_key(first.device, (64, 64)): 1234.5, latency_key("cuda: another", (64, 64)): 1.0}
    *_, last = task.stages(fpn(), seed=0, steps=2, latencies=known)
    assert last.latency_ms == 1234.5
    # Of another size it says nothing.
    *_, other = task.stages(fpn(), seed=0, steps=2, latencies={latency_key(first.device, (64, 65)): 1.0})
    assert other.state is State.ERROR and "NoneType" in other.text


def test_over_a_limit_nothing_is_trained(with_objective: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(deployed_module, "measure_latency", lambda *a, **k: 5.0)
    monkeypatch.setattr(Fit, "advance", None)
    m = with_objective(max_latency_ms=4.0).evaluate(fpn(), seed=0)
    assert m.state is State.REJECTED and m.text == "5 ms are more than 4"
    assert m.latency_ms == 5.0 and m.parameters and m.reward is None
    task = with_objective(max_params=1000, image_size=(128, 128))
    refused = task.deployed.refuse(fpn())
    assert refused is not None and refused.state is State.REJECTED
    assert refused.text == f"{refused.parameters:,} parameters are more than 1,000"
    assert refused.macs == task.deployed.costs(compile_neck(fpn(), task.in_channels, 16))["macs"]
    assert with_objective(max_params=10**9).deployed.refuse(fpn()) is None
    assert with_objective().deployed.refuse(fpn()) is None


def test_telling_the_size_of_a_neck_draws_nothing(with_objective: Any) -> None:
    before = torch.get_rng_state()
    with_objective(max_params=1).deployed.refuse(nas_fpn())
    assert torch.equal(before, torch.get_rng_state())


# --- lack of memory --------------------------------------------------------------------------------------


class Memory:
    """Steps with batches of more than ``fits`` images run out of it, from step ``after`` on."""

    def __init__(self, monkeypatch: Any, *, fits: int, after: int = 0) -> None:
        self.sizes: list[int] = []
        original = CachedTraining.training

        @contextmanager
        def training(fidelity: CachedTraining, *args: Any, batch_size: int, **kwargs: Any) -> Any:
            self.sizes.append(batch_size)
            with original(fidelity, *args, batch_size=batch_size, **kwargs) as made:
                losses_at = made._losses_at

                def scarce(step: int) -> Any:
                    if batch_size > fits and step >= after:
                        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
                    return losses_at(step)

                made._losses_at = scarce
                yield made

        monkeypatch.setattr(CachedTraining, "training", training)


def test_out_of_memory_is_tried_once_more_at_half_the_batch(make_task: MakeTask, monkeypatch: Any) -> None:
    memory = Memory(monkeypatch, fits=2)
    m = make_task().evaluate(fpn(), seed=0)
    assert memory.sizes == [4, 2]
    assert m.state is State.OK and m.batch_size == 2 and m.ap is not None
    half = replace(TINY.train, batch_size=2)
    assert make_task(train=half).evaluate(fpn(), seed=0).loss == m.loss


def test_out_of_memory_again_is_recorded(make_task: MakeTask, monkeypatch: Any) -> None:
    memory = Memory(monkeypatch, fits=1)
    m = make_task().evaluate(fpn(), seed=0)
    assert memory.sizes == [4, 2]
    assert m.state is State.OOM and m.batch_size == 2 and m.text.startswith("CUDA out of memory")
    assert m.latency_ms and m.parameters, "what was known before the training"


def test_the_second_attempt_does_not_stop_where_the_first_was_let_on(make_task: MakeTask, monkeypatch: Any) -> None:
    Memory(monkeypatch, fits=2, after=5)
    found = list(make_task().stages(fpn(), seed=0, rungs=(3, 7)))
    assert [(m.state, m.rung, m.batch_size) for m in found] == [
        (State.PRUNED, 0, None),
        (State.PRUNED, 1, 2),
        (State.OK, 2, 2),
    ]
    assert len(found[-1].scores) == 2


def test_other_errors_are_not_tried_again(make_task: MakeTask, monkeypatch: Any) -> None:
    tried = []

    @contextmanager
    def training(*args: Any, batch_size: int, **kwargs: Any) -> Any:
        tried.append(batch_size)
        raise RuntimeError("can't allocate memory")
        yield

    monkeypatch.setattr(CachedTraining, "training", training)
    m = make_task().evaluate(fpn(), seed=0)
    assert tried == [4] and m.state is State.OOM and m.batch_size is None


def test_an_evaluation_that_is_never_looked_at_costs_nothing(task: ProxyTask) -> None:
    start = time.monotonic()
    task.stages(fpn(), seed=0, steps=10**6)
    assert time.monotonic() - start < 5
