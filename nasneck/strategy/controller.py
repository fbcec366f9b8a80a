"""The RNN controller: an LSTM policy trained by PPO on the rewards of its own candidates.

What is published of NAS-FPN's search (Ghiasi et al., CVPR 2019, arXiv 1904.07392): an RNN controller "as in NASNet",
trained by PPO, and the AP of the child on held-out images as its reward. Its sizes, rates and weights were never
released. Preset ``nasnet`` has what is known of its family: one LSTM layer of 100 units (AutoAugment's appendix), Adam
with 3.5e-4, 20 children per update, entropy weight 1e-5, decay 0.95 of the moving average, weights in U(-0.1, 0.1)
(NASNet's appendix, as its re-implementations have it), clip 0.2 (PPO's paper), ten epochs and embeddings of 32 (a
re-implementation's). It is meant for thousands of trials.

Preset ``fast``, the default, is ours: for a few hundred trials. It learns from ranks, which know no unit and no
outlier, updates after every 5 trials, and takes larger steps, which a larger entropy weight keeps from settling early.
The values are the best of a grid around the family's on :class:`nasneck.strategy.landscape.Landscape`, seeds 100 to
109, over 400 trials; ``experiments/synthetic.py`` shows them on other seeds. Below about 50 trials no setting was
told apart from random search.

An update happens with every ``batch`` tells. Asks never wait for it: they come from the current policy, and a
tell of an ask that an older policy made is handled by PPO's ratio to the log-probabilities kept at the ask. There is
no discount (gamma 1) and no critic: one reward for all decisions of a candidate.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from nasneck.decision import Choices, Decision
from nasneck.errors import ConfigError
from nasneck.settings import build
from nasneck.strategy.base import Snapshot, Strategy
from nasneck.strategy.policy import Policy, one_thread
from nasneck.strategy.ppo import normalised, ppo_loss
from nasneck.strategy.random import rng_from_json, rng_to_json
from nasneck.strategy.scale import Scale
from nasneck.trial import Ask, Outcome, State


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """Settings of the controller.

    Args:
        preset: ``"fast"`` or ``"nasnet"``; settings given beside it win.
        hidden: Width of the LSTM (NASNet: 100).
        embedding: Width of a token's embedding.
        learning_rate: Of Adam (NASNet: 3.5e-4).
        batch: Tells per update (NASNet: 20).
        epochs: Steps per update, each on the whole batch.
        clip: PPO's clip range (NASNet: 0.2).
        entropy: Weight of the mean entropy per decision, in nats (NASNet: 1e-5).
        baseline: ``"ema"``: moving average of earlier rewards (NASNet); ``"batch"``: mean of the batch.
        baseline_decay: Per trial, of the moving average (NASNet: 0.95).
        normalise: Divide advantages by their standard deviation in the batch.
        reward: ``"rank"``: share of all candidates so far that are worse; ``"value"``: the value itself.
    """

    preset: Literal["fast", "nasnet"] = "fast"
    hidden: int = 100
    embedding: int = 32
    learning_rate: float = 3e-3
    batch: int = 5
    epochs: int = 6
    clip: float = 0.2
    entropy: float = 0.02
    baseline: Literal["ema", "batch"] = "batch"
    baseline_decay: float = 0.95
    normalise: bool = True
    reward: Literal["rank", "value"] = "rank"

    def __post_init__(self) -> None:
        for name in ("hidden", "embedding", "batch", "epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)!r} is less than 1")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate = {self.learning_rate!r} is not above 0")
        if not 0 < self.clip < 1:
            raise ConfigError(f"clip = {self.clip!r} is not between 0 and 1")
        if not self.entropy >= 0:
            raise ConfigError(f"entropy = {self.entropy!r} is less than 0")
        if not 0 <= self.baseline_decay < 1:
            raise ConfigError(f"baseline_decay = {self.baseline_decay!r} is not in 0..1 (1 excluded)")


# The family's values for what differs from the defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {},
    "nasnet": {
        "learning_rate": 3.5e-4,
        "batch": 20,
        "epochs": 10,
        "entropy": 1e-5,
        "baseline": "ema",
        "normalise": False,
        "reward": "value",
    },
}


@dataclass(frozen=True, slots=True)
class _Sample:
    choices: Choices
    log_probs: list[float]
    outcome: Outcome


class ControllerStrategy(Strategy):
    """LSTM policy, trained by PPO."""

    name = "controller"
    description = "LSTM controller trained by PPO on the rank of each candidate's reward"
    Options = ControllerOptions
    options: ControllerOptions

    def __init__(self, decisions: Sequence[Decision], *, seed: int, **options: Any) -> None:
        super().__init__(decisions, seed=seed, **options)
        sizes = [decision.choices for decision in self.decisions]
        self.policy = Policy(
            sizes,
            self.options.hidden,
            embedding=self.options.embedding,
            generator=torch.Generator("cpu").manual_seed(seed),
        )
        self._optimizer = torch.optim.Adam(self.policy.parameters(), lr=self.options.learning_rate)
        self._rng = random.Random(seed)
        self._scale = Scale()
        self._baseline: float | None = None
        self._log_probs: dict[int, list[float]] = {}  # of open asks, under the policy that made them
        self._batch: list[_Sample] = []

    @classmethod
    def read_options(cls, table: Mapping[str, Any], *, where: str) -> ControllerOptions:
        """Settings over those of the preset that they name."""
        preset = table.get("preset", "fast")
        base = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
        return build(ControllerOptions, {**base, **table}, where=where)

    def propose(self, number: int) -> Choices:
        """Sample the policy; one random number per decision."""
        draws = [self._rng.random() for _ in self.decisions]
        with one_thread():
            choices, self._log_probs[number] = self.policy.sample(draws)
        return choices

    def adopt(self, ask: Ask) -> None:
        """Treat choices from outside as if the current policy had taken them."""
        with torch.no_grad(), one_thread():
            log_probs, _ = self.policy(torch.tensor([ask.choices], device="cpu"))
        self._log_probs[ask.number] = log_probs[0].tolist()

    def learn(self, ask: Ask, outcome: Outcome) -> None:
        """Collect; update the policy when the batch is full."""
        self._scale.add(outcome)
        self._batch.append(_Sample(ask.choices, self._log_probs.pop(ask.number), outcome))
        if len(self._batch) >= self.options.batch:
            self._update(self._batch)
            self._batch = []

    def state(self) -> Snapshot:
        """Weights and optimizer as tensors, the rest as JSON."""
        tensors = {f"policy.{name}": value.clone() for name, value in self.policy.state_dict().items()}
        for index, slots in self._optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value.clone() for name, value in slots.items()}
        data = {
            "rng": rng_to_json(self._rng),
            "scale": self._scale.to_list(),
            "baseline": self._baseline,
            "log_probs": [[number, values] for number, values in self._log_probs.items()],
            "batch": [_sample_to_json(sample) for sample in self._batch],
        }
        return Snapshot(data, tensors)

    def load_state(self, state: Snapshot) -> None:
        """Inverse of :meth:`state`."""
        weights: dict[str, torch.Tensor] = {}
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in state.tensors.items():
            owner, _, name = key.partition(".")
            if owner == "policy":
                weights[name] = value
            else:
                index, _, slot = name.partition(".")
                slots.setdefault(int(index), {})[slot] = value.clone()
        self.policy.load_state_dict(weights)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})
        rng_from_json(self._rng, state.data["rng"])
        self._scale = Scale.from_list(state.data["scale"])
        self._baseline = state.data["baseline"]
        self._log_probs = {int(number): list(values) for number, values in state.data["log_probs"]}
        self._batch = [_sample_from_json(item) for item in state.data["batch"]]

    def _update(self, batch: Sequence[_Sample]) -> None:
        place = self._scale.rank if self.options.reward == "rank" else self._scale.value
        rewards = [place(sample.outcome) for sample in batch]
        # A caller may be inside no_grad or inference_mode.
        with one_thread(), torch.inference_mode(False), torch.enable_grad():
            advantages = torch.tensor(rewards, dtype=torch.float64, device="cpu") - self._expected(rewards)
            if self.options.normalise:
                advantages = normalised(advantages)
            choices = torch.tensor([sample.choices for sample in batch], device="cpu")
            old = torch.tensor([sample.log_probs for sample in batch], dtype=torch.float64, device="cpu")
            for _ in range(self.options.epochs):
                log_probs, entropies = self.policy(choices)
                loss = ppo_loss(
                    log_probs,
                    old,
                    advantages=advantages,
                    entropies=entropies,
                    clip=self.options.clip,
                    entropy_weight=self.options.entropy,
                )
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()

    def _expected(self, rewards: Sequence[float]) -> float:
        mean = sum(rewards) / len(rewards)
        if self.options.baseline == "batch":
            return mean
        before = mean if self._baseline is None else self._baseline
        after, decay = before, self.options.baseline_decay
        for reward in rewards:
            after = decay * after + (1 - decay) * reward
        self._baseline = after
        return before


def _sample_to_json(sample: _Sample) -> list[Any]:
    outcome = sample.outcome
    told = [list(outcome.values), outcome.state.value, outcome.rung, outcome.text]
    return [list(sample.choices), sample.log_probs, told]


def _sample_from_json(data: Sequence[Any]) -> _Sample:
    choices, log_probs, (values, state, rung, text) = data
    return _Sample(tuple(choices), list(log_probs), Outcome(tuple(values), State(state), rung, text))
