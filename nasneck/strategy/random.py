"""Random search: every decision uniform and independent. The bar that every other strategy has to clear."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nasneck.decision import Choices, Decision
from nasneck.strategy.base import Snapshot, Strategy
from nasneck.trial import Ask, Outcome


@dataclass(frozen=True, slots=True)
class RandomOptions:
    """Random search has no options."""


class RandomStrategy(Strategy):
    """Draws every decision uniformly from its choices.

    Uniform over choices, which is not uniform over graphs: a graph with many encodings comes more often.
    """

    name = "random"
    description = "every decision uniform at random; the baseline"
    learns = False
    Options = RandomOptions

    def __init__(self, decisions: Sequence[Decision], *, seed: int, **options: Any) -> None:
        super().__init__(decisions, seed=seed, **options)
        self._rng = random.Random(seed)

    def propose(self, number: int) -> Choices:
        """One draw per decision, in their order."""
        return tuple(self._rng.randrange(decision.choices) for decision in self.decisions)

    def learn(self, ask: Ask, outcome: Outcome) -> None:
        """Learns nothing."""

    def state(self) -> Snapshot:
        """The state of the generator."""
        return Snapshot({"rng": rng_to_json(self._rng)})

    def load_state(self, state: Snapshot) -> None:
        """Inverse of :meth:`state`."""
        rng_from_json(self._rng, state.data["rng"])


def rng_to_json(rng: random.Random) -> list[Any]:
    """State of a generator, ready for JSON."""
    version, words, gauss = rng.getstate()
    return [version, list(words), gauss]


def rng_from_json(rng: random.Random, data: Sequence[Any]) -> None:
    """Inverse of :func:`rng_to_json`, in place."""
    version, words, gauss = data
    rng.setstate((version, tuple(words), gauss))
