"""Strategies by name, for the command line and experiment files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasneck.decision import Decision
from nasneck.errors import ConfigError
from nasneck.settings import did_you_mean
from nasneck.strategy.base import Strategy
from nasneck.strategy.controller import ControllerStrategy
from nasneck.strategy.evolution import EvolutionStrategy
from nasneck.strategy.optuna_strategy import OptunaStrategy
from nasneck.strategy.random import RandomStrategy

STRATEGIES: dict[str, type[Strategy]] = {
    "random": RandomStrategy,
    "controller": ControllerStrategy,
    "evolution": EvolutionStrategy,
    "optuna": OptunaStrategy,
}


def make_strategy(
    name: str,
    decisions: Sequence[Decision],
    *,
    seed: int,
    options: Mapping[str, Any] | None = None,
) -> Strategy:
    """Return a fresh strategy.

    Example:
        >>> from nasneck.decision import Decision
        >>> make_strategy("random", [Decision("op", 3, "op")], seed=0).ask()
        Ask(number=0, choices=(1,))

    Raises:
        ConfigError: an unknown name (the known ones are listed) or option.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"unknown strategy {name!r}{did_you_mean(name, STRATEGIES)}")
    return STRATEGIES[name](decisions, seed=seed, **dict(options or {}))
