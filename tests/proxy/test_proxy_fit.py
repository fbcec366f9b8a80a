import math

import pytest
import torch
from torch import Tensor, nn

from nasneck.proxy import TrainConfig
from nasneck.proxy.fit import Fit, NotFinite, fit, rate


def line(seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(3, 1)


def losses_of(module: nn.Linear):  # type: ignore[no-untyped-def]
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    y = x @ torch.tensor([[1.0], [2.0], [-1.0]]) + 0.5

    def at(step: int) -> dict[str, Tensor]:
        error = module(x) - y
        return {"square": (error**2).mean(), "zero": error.sum() * 0}

    return at


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_it_learns_a_line(optimizer: str) -> None:
    module = line()
    config = TrainConfig(optimizer=optimizer, learning_rate=0.05, weight_decay=0.0)  # type: ignore[arg-type]
    loss = fit([module], losses_of(module), config, steps=400)
    assert loss < 1e-3
    torch.testing.assert_close(module.weight.detach(), torch.tensor([[1.0, 2.0, -1.0]]), atol=0.05, rtol=0)


def test_the_loss_is_the_mean_of_the_last_20_steps() -> None:
    module = line()
    seen: list[float] = []
    at = losses_of(module)

    def spy(step: int) -> dict[str, Tensor]:
        losses = at(step)
        seen.append(sum(float(v.detach()) for v in losses.values()))
        return losses

    loss = fit([module], spy, TrainConfig(), steps=33)
    assert len(seen) == 33
    assert loss == pytest.approx(sum(seen[-20:]) / 20, rel=1e-6)
    assert fit([line()], losses_of(line()), TrainConfig(), steps=1) > 0


def test_plain_sgd_by_hand() -> None:
    # One parameter, loss 3 p: p falls by lr * 3 in the first step, by lr * (3 + 0.5 * 3) in the second.
    module = nn.ParameterList([nn.Parameter(torch.tensor([1.0]))])
    config = TrainConfig(
        optimizer="sgd", learning_rate=0.1, momentum=0.5, schedule="constant", warmup=0, weight_decay=0.1, clip_norm=0
    )
    fit([module], lambda step: {"loss": 3 * module[0].sum()}, config, steps=2)
    assert float(module[0].detach()) == pytest.approx(1 - 0.1 * 3 - 0.1 * 4.5)  # no decay: it has one dimension


def test_gradients_are_clipped() -> None:
    module = nn.ParameterList([nn.Parameter(torch.zeros(2))])
    config = TrainConfig(
        optimizer="sgd", learning_rate=1.0, momentum=0, schedule="constant", warmup=0, weight_decay=0, clip_norm=0.5
    )
    fit([module], lambda step: {"loss": (module[0] * torch.tensor([3.0, 4.0])).sum()}, config, steps=1)
    torch.testing.assert_close(module[0].detach(), torch.tensor([-0.3, -0.4]))


def test_frozen_parameters_stay() -> None:
    module = line()
    module.bias.requires_grad_(False)
    before = module.bias.clone()
    fit([module], losses_of(module), TrainConfig(), steps=5)
    assert torch.equal(module.bias, before)


def test_schedules() -> None:
    cosine = TrainConfig(warmup=0.1, warmup_factor=0.2)
    assert rate(0, 100, cosine) == pytest.approx(0.2)
    assert rate(5, 100, cosine) == pytest.approx(0.6)
    assert rate(10, 100, cosine) == pytest.approx(1)
    assert rate(55, 100, cosine) == pytest.approx(0.5)
    assert rate(99, 100, cosine) == pytest.approx((1 + math.cos(math.pi * 89 / 90)) / 2)
    steps = TrainConfig(warmup=0.1, warmup_factor=0, schedule="step", drops=(0.5, 0.8))
    values = [rate(s, 10, steps) for s in range(10)]
    assert values == pytest.approx([0, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert rate(0, 1, TrainConfig(warmup=0)) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(bad: float) -> None:
    module = line()
    calls: list[int] = []

    def at(step: int) -> dict[str, Tensor]:
        calls.append(step)
        return {"loss": module.bias.sum() * (bad if step >= 13 else 1.0)}

    with pytest.raises(NotFinite, match=r"loss (nan|inf|-inf) at step 14"):
        fit([module], at, TrainConfig(), steps=100)
    assert len(calls) == 20


def test_a_training_comes_back_after_each_step() -> None:
    whole, stopped = line(), line()
    stopped.load_state_dict(whole.state_dict())
    loss = fit([whole], losses_of(whole), TrainConfig(), steps=25)
    training = Fit([stopped], losses_of(stopped), TrainConfig(), steps=25)
    assert [training.done for _ in training.stepwise(7)] == list(range(1, 8))
    assert training.advance(25) == training.loss == loss
    assert list(training.stepwise(25)) == []


def test_progress_is_told() -> None:
    module = line()
    seen: list[tuple[int, int]] = []
    fit([module], losses_of(module), TrainConfig(), steps=25, progress=lambda d, t: seen.append((d, t)))
    assert seen == [(10, 25), (20, 25), (25, 25)]
