"""The controller: policy, PPO, and that it learns."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch

from nasneck.decision import Decision
from nasneck.errors import ConfigError
from nasneck.strategy import ControllerOptions, ControllerStrategy, make_strategy
from nasneck.strategy import controller as controller_module
from nasneck.strategy.policy import Policy, one_thread
from nasneck.strategy.ppo import normalised, ppo_loss
from nasneck.trial import Outcome, State


def policy_of(*sizes: int, seed: int = 0, hidden: int = 12) -> Policy:
    return Policy(sizes, hidden, embedding=6, generator=torch.Generator().manual_seed(seed))


def shaken(policy: Policy, seed: int = 1) -> Policy:
    """Far from uniform, and dependent on what was chosen before."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.8, generator=generator)
    return policy


def tensor(rows: object) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# --- PPO -------------------------------------------------------------------------------------------------


def test_ppo_loss_by_hand() -> None:
    new = tensor([[0.5, 0.45], [0.2, 0.9]]).log().requires_grad_()
    old = tensor([[0.4, 0.5], [0.4, 0.6]]).log()
    # Ratios 1.25, 0.9 and 0.5, 1.5; clipped to 0.8..1.2: 1.2, 0.9 and 0.8, 1.2.
    # Advantage 2: min(2.5, 2.4) = 2.4, min(1.8, 1.8) = 1.8.  Advantage -1: min(-0.5, -0.8) = -0.8,
    # min(-1.5, -1.2) = -1.5.  Mean 1.9 / 4 = 0.475; mean entropy 0.4, weight 0.1: -0.475 - 0.04 = -0.515.
    loss = ppo_loss(
        new,
        old,
        advantages=tensor([2.0, -1.0]),
        entropies=tensor([[0.5, 0.3], [0.2, 0.6]]),
        clip=0.2,
        entropy_weight=0.1,
    )
    assert loss.item() == pytest.approx(-0.515, abs=1e-12)
    loss.backward()
    # d/dlog p = -ratio * advantage / 4 where the ratio may still move that way, else 0.
    torch.testing.assert_close(new.grad, tensor([[0.0, -0.45], [0.0, 0.375]]))


def test_normalised_by_hand() -> None:
    # Mean 2, squared deviations 1, 1, 4, 4 (sum 10, / 4 = 2.5): divided by sqrt(2.5); the mean stays.
    torch.testing.assert_close(normalised(tensor([1.0, 3.0, 0.0, 4.0])), tensor([1, 3, 0, 4]) / 2.5**0.5)
    torch.testing.assert_close(normalised(tensor([0.3, 0.3])), tensor([0.3, 0.3]))
    torch.testing.assert_close(normalised(tensor([0.3])), tensor([0.3]))


# --- policy ----------------------------------------------------------------------------------------------


def test_first_distribution_is_uniform() -> None:
    log_probs, entropies = policy_of(4, 1, 7)(torch.tensor([[3, 0, 6], [0, 0, 0]]))
    expected = [math.log(4), 0.0, math.log(7)]
    torch.testing.assert_close(log_probs, -tensor([expected, expected]))
    torch.testing.assert_close(entropies, tensor([expected, expected]))


def test_entropy_and_log_prob_of_a_known_distribution() -> None:
    policy = policy_of(2, 3)
    probabilities = [0.9, 0.1, 0.5, 0.3, 0.2]
    with torch.no_grad():
        policy.head.bias.copy_(tensor(probabilities).log())
    log_probs, entropies = policy(torch.tensor([[1, 0], [0, 2]]))
    torch.testing.assert_close(log_probs, tensor([[0.1, 0.5], [0.9, 0.2]]).log())
    first = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    second = -(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2))
    torch.testing.assert_close(entropies, tensor([[first, second], [first, second]]))
    # Entropy pushes towards uniform: the gradient of the likeliest choice's bias is negative.
    entropies[0, 0].backward()
    assert policy.head.bias.grad is not None
    assert policy.head.bias.grad[0] < 0 < policy.head.bias.grad[1]


def test_sampling_inverts_the_cumulative_distribution() -> None:
    policy = policy_of(3)
    with torch.no_grad():
        policy.head.bias.copy_(tensor([0.5, 0.3, 0.2]).log())
    draws = {0.0: 0, 0.499: 0, 0.501: 1, 0.799: 1, 0.801: 2, 1 - 2**-53: 2}
    for draw, choice in draws.items():
        choices, log_probs = policy.sample([draw])
        assert choices == (choice,)
        assert log_probs == pytest.approx([math.log([0.5, 0.3, 0.2][choice])])


def test_step_by_step_equals_all_at_once() -> None:
    policy = shaken(policy_of(4, 3, 5, 2))
    rng = random.Random(0)
    for _ in range(20):
        choices, log_probs = policy.sample([rng.random() for _ in range(4)])
        scored, _ = policy(torch.tensor([choices]))
        assert scored[0].tolist() == pytest.approx(log_probs, abs=1e-12)


def test_probabilities_of_all_sequences_add_up_to_one() -> None:
    sizes = (3, 1, 4, 2)
    sequences = torch.tensor(list(itertools.product(*map(range, sizes))))
    log_probs, entropies = shaken(policy_of(*sizes))(sequences)
    joint = log_probs.sum(dim=1).exp()
    assert joint.sum().item() == pytest.approx(1.0, abs=1e-12)
    # The chain rule: the expected sum of the conditional entropies is the entropy of the whole.
    whole = -(joint * joint.log()).sum().item()
    assert (joint * entropies.sum(dim=1)).sum().item() == pytest.approx(whole, abs=1e-12)
    # It is not the uniform one, and later decisions do depend on earlier ones.
    assert joint.max() > 2 * joint.min()
    assert len({round(value, 9) for value in log_probs[sequences[:, 3] == 0][:, 3].tolist()}) > 4


def test_every_decision_and_choice_has_rows_of_its_own() -> None:
    policy = shaken(policy_of(2, 2, 2))
    log_probs, _ = policy(torch.tensor([[1, 0, 1]]))
    log_probs.sum().backward()
    embedding, head = policy.embedding.weight.grad, policy.head.bias.grad
    assert embedding is not None and head is not None
    # Tokens 0, 1 | 2, 3 | 4, 5 and the start (6). Read were the start, choice 1 of the first decision (1) and
    # choice 0 of the second (2); the last choice is never fed back.
    assert embedding.abs().sum(dim=1).nonzero().flatten().tolist() == [1, 2, 6]
    assert bool((head != 0).all())


def test_one_thread_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="inside"), one_thread():
            assert torch.get_num_threads() == 1
            raise RuntimeError("inside")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# --- updates ---------------------------------------------------------------------------------------------

ARMS = (Decision("arm", 3, "arm"),)


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Arguments of every loss computed from now on."""
    calls: list[dict[str, torch.Tensor]] = []

    def loss(log_probs: torch.Tensor, old_log_probs: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
        calls.append({"new": log_probs.detach(), "old": old_log_probs, **kwargs})
        return ppo_loss(log_probs, old_log_probs, **kwargs)  # type: ignore[arg-type]  (passed through)

    monkeypatch.setattr(controller_module, "ppo_loss", loss)
    return calls


def test_update_once_per_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch)
    strategy = make_strategy("controller", ARMS, seed=0, options={"batch": 3, "epochs": 2})
    for trial in range(7):
        strategy.tell(strategy.ask().number, Outcome((trial * 0.1,)))
        assert len(calls) == 2 * ((trial + 1) // 3)


def test_late_tells_are_compared_with_the_policy_that_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch)
    options = {"batch": 2, "epochs": 1, "learning_rate": 0.1, "reward": "value"}
    strategy = make_strategy("controller", ARMS, seed=0, options=options)
    asks = [strategy.ask() for _ in range(8)]
    first = next(ask for ask in asks if ask.choices != asks[0].choices)
    rest = [ask for ask in asks if ask not in (asks[0], first)]
    strategy.tell(asks[0].number, Outcome((1.0,)))
    strategy.tell(first.number, Outcome((0.0,)))  # the policy moves
    for ask in rest[:2]:
        strategy.tell(ask.number, Outcome((0.0,)))
    torch.testing.assert_close(calls[1]["old"], torch.full((2, 1), -math.log(3), dtype=torch.float64))
    assert not torch.allclose(calls[1]["new"], calls[1]["old"])


def test_injected_choices_get_the_log_prob_of_the_current_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch)
    strategy = ControllerStrategy(ARMS, seed=0, batch=2, epochs=1)
    with torch.no_grad():
        strategy.policy.head.bias.copy_(tensor([0.7, 0.2, 0.1]).log())
    for arm in (2, 0):
        strategy.tell(strategy.inject((arm,)).number, Outcome((0.1 * arm,)))
    torch.testing.assert_close(calls[0]["old"], tensor([[0.1], [0.7]]).log())


def test_moving_average_baseline_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch)
    options = {"preset": "nasnet", "batch": 2, "epochs": 1}
    strategy = make_strategy("controller", ARMS, seed=0, options=options)
    for value in (0.2, 0.4, 0.5, 0.1):
        strategy.tell(strategy.ask().number, Outcome((value,)))
    # Starts at the mean of the first batch, 0.3; then 0.95 * 0.3 + 0.05 * 0.2 = 0.295, and
    # 0.95 * 0.295 + 0.05 * 0.4 = 0.30025.
    torch.testing.assert_close(calls[0]["advantages"], tensor([-0.1, 0.1]))
    torch.testing.assert_close(calls[1]["advantages"], tensor([0.5 - 0.30025, 0.1 - 0.30025]))


def test_rank_rewards_do_not_see_the_size_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch)
    strategy = make_strategy("controller", ARMS, seed=0, options={"batch": 4, "epochs": 1})
    outcomes = [Outcome((1e9,)), Outcome((), state=State.OOM), Outcome((-5.0,)), Outcome((0.1,))]
    for outcome in outcomes:
        strategy.tell(strategy.ask().number, outcome)
    # Ranks 3.5/4, 0, 1.5/4, 2.5/4; less their mean 7.5/16.
    ranks = tensor([0.875, 0.0, 0.375, 0.625]) - 0.46875
    torch.testing.assert_close(calls[0]["advantages"], ranks / ranks.std(correction=0))


def test_a_batch_without_differences_moves_nothing() -> None:
    strategy = ControllerStrategy(ARMS, seed=0, batch=4, entropy=0.0)
    for _ in range(8):
        strategy.tell(strategy.ask().number, Outcome((), state=State.ERROR, text="always"))
    assert strategy.policy.head.weight.abs().max() == 0
    assert strategy.policy.head.bias.abs().max() == 0


def test_learns_inside_no_grad_and_inference_mode() -> None:
    strategy = ControllerStrategy(ARMS, seed=0, batch=2)
    for context in (torch.no_grad(), torch.inference_mode()):
        before = strategy.policy.head.bias.clone()
        with context:
            for arm in (0, 1):
                strategy.tell(strategy.inject((arm,)).number, Outcome((float(arm),)))
        assert not torch.equal(strategy.policy.head.bias, before)


# --- learning --------------------------------------------------------------------------------------------


def test_policy_gradient_has_the_right_sign() -> None:
    strategy = ControllerStrategy(ARMS, seed=0, batch=3, epochs=1, entropy=0.0)
    for arm, value in ((0, 0.9), (1, 0.5), (2, 0.1)):
        strategy.tell(strategy.inject((arm,)).number, Outcome((value,)))
    log_probs, _ = strategy.policy(torch.tensor([[0], [1], [2]]))
    best, middle, worst = log_probs[:, 0].tolist()
    assert best > middle > worst


@pytest.mark.parametrize("options", [{}, {"preset": "nasnet", "learning_rate": 5e-3, "batch": 5}])
def test_bandit(options: dict[str, object]) -> None:
    rewards = (0.2, 0.9, 0.5)
    strategy = ControllerStrategy(ARMS, seed=0, **options)
    noise = random.Random(1)
    for _ in range(150):
        ask = strategy.ask()
        strategy.tell(ask.number, Outcome((rewards[ask.choices[0]] + noise.gauss(0, 0.1),)))
    log_probs, _ = strategy.policy(torch.tensor([[1]]))
    assert math.exp(log_probs.item()) > 0.8


# --- options ---------------------------------------------------------------------------------------------


def test_presets() -> None:
    default = make_strategy("controller", ARMS, seed=0).options
    assert default == ControllerOptions()
    nasnet = make_strategy("controller", ARMS, seed=0, options={"preset": "nasnet", "clip": 0.3}).options
    assert nasnet == ControllerOptions(
        preset="nasnet",
        hidden=100,
        learning_rate=3.5e-4,
        batch=20,
        epochs=10,
        clip=0.3,
        entropy=1e-5,
        baseline="ema",
        baseline_decay=0.95,
        normalise=False,
        reward="value",
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch": 0}, "strategy 'controller': batch = 0 is less than 1"),
        ({"clip": 1.5}, "clip = 1.5 is not between 0 and 1"),
        ({"learning_rate": 0}, "learning_rate = 0.0 is not above 0"),
        ({"entropy": -1}, "entropy = -1.0 is less than 0"),
        ({"baseline_decay": 1.0}, "baseline_decay = 1.0 is not in"),
        ({"preset": "paper"}, "preset: 'paper' is not one of 'fast', 'nasnet'"),
        ({"preset": 3}, "preset: 3 is not one of"),
        ({"reward": "ap"}, "'ap' is not one of 'rank', 'value'"),
        ({"hidden": "100"}, "hidden: '100' is not a whole number"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make_strategy("controller", ARMS, seed=0, options=options)
