"""Strategies: who decides which candidate is measured next. They know no neck and no file."""

from nasneck.strategy.base import Exhausted, Snapshot, Strategy
from nasneck.strategy.controller import ControllerOptions, ControllerStrategy
from nasneck.strategy.evolution import EvolutionOptions, EvolutionStrategy
from nasneck.strategy.make import STRATEGIES, make_strategy
from nasneck.strategy.optuna_strategy import OptunaOptions, OptunaStrategy
from nasneck.strategy.random import RandomOptions, RandomStrategy
from nasneck.strategy.scale import Scale

__all__ = [
    "STRATEGIES",
    "ControllerOptions",
    "ControllerStrategy",
    "EvolutionOptions",
    "EvolutionStrategy",
    "Exhausted",
    "OptunaOptions",
    "OptunaStrategy",
    "RandomOptions",
    "RandomStrategy",
    "Scale",
    "Snapshot",
    "Strategy",
    "make_strategy",
]
