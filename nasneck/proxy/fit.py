"""The training loop that every fidelity shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from nasneck.proxy.config import TrainConfig
from nasneck.slot import SLOT

LAST = 20  # steps whose mean loss is reported
_CHECK = 10  # steps between checks for a loss that is not finite; on a GPU each one waits for it


class NotFinite(Exception):
    """The loss became NaN or infinite."""


class Fit:
    """A training that can be looked at on its way.

    Args:
        modules: Trained together; their parameters that want gradients.
        losses_at: The losses of a step, by name; their sum is minimised.
        config: Optimiser and schedule; ``config.steps`` is not read.
        steps: In all; the schedule is stretched over them.
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        losses_at: Callable[[int], dict[str, Tensor]],
        config: TrainConfig,
        *,
        steps: int,
    ) -> None:
        groups = _groups(modules, config)
        self.steps = steps
        self.done = 0
        self._losses_at = losses_at
        self._config = config
        self._parameters = [p for group in groups for p in group["params"]]
        self._optimizer = _optimizer(groups, config)
        self._recent: list[Tensor] = []

    def stepwise(self, to: int) -> Iterator[None]:
        """Train until ``to`` steps are done and come back after each of them; others may have their turn there.

        Args:
            to: At most ``steps``.

        Raises:
            NotFinite: found within 10 steps.
        """
        for step in range(self.done, to):
            with SLOT.working():
                self._step(step)
            self.done = step + 1
            if self.done % _CHECK == 0 or self.done == to:
                _check(self._recent, self.done)
            yield

    def advance(self, to: int, *, progress: Callable[[int, int], None] = lambda done, total: None) -> float:
        """Train until ``to`` steps are done; how often one stops on the way makes no difference.

        Args:
            to: At most ``steps``.
            progress: Told (done, total) now and then.

        Returns:
            The mean loss of the last 20 steps.

        Raises:
            NotFinite: found within 10 steps.
        """
        for _ in self.stepwise(to):
            if self.done % _CHECK == 0 or self.done == to:
                progress(self.done, self.steps)
        return self.loss

    @property
    def loss(self) -> float:
        """The mean loss of the last 20 steps."""
        return float(torch.stack(self._recent).mean())

    def _step(self, step: int) -> None:
        config = self._config
        for group in self._optimizer.param_groups:
            group["lr"] = config.learning_rate * rate(step, self.steps, config)
        loss = torch.stack(list(self._losses_at(step).values())).sum()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip_norm:
            nn.utils.clip_grad_norm_(self._parameters, config.clip_norm)
        self._optimizer.step()
        self._recent = [*self._recent[-LAST + 1 :], loss.detach()]


def fit(
    modules: Iterable[nn.Module],
    losses_at: Callable[[int], dict[str, Tensor]],
    config: TrainConfig,
    *,
    steps: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> float:
    """A training in one go; see :class:`Fit`."""
    return Fit(modules, losses_at, config, steps=steps).advance(steps, progress=progress)


def rate(step: int, steps: int, config: TrainConfig) -> float:
    """Learning rate of a step as a share of its peak."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.warmup_factor + (1 - config.warmup_factor) * step / warmup
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
    if config.schedule == "step":
        return 0.1 ** sum(step >= drop * steps for drop in config.drops)
    return 1.0


def _check(recent: list[Tensor], step: int) -> None:
    losses = torch.stack(recent[-_CHECK:]).tolist()
    for number, loss in enumerate(losses, start=step - len(losses) + 1):
        if not math.isfinite(loss):
            raise NotFinite(f"loss {loss} at step {number}")


def _groups(modules: Iterable[nn.Module], config: TrainConfig) -> list[dict]:
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    weights = [p for p in trained if p.ndim > 1]
    others = [p for p in trained if p.ndim <= 1]  # biases, norms, fusion weights: decay would do harm
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _optimizer(groups: list[dict], config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
