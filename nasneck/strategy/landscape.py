"""A test problem for strategies: a reward over a space that costs nothing and whose truth is known.

Between candidates a real proxy shows main effects, interactions and the noise of one training. So does this one,
with shares that are stated, so that "better than random search" can be measured over many seeds in seconds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from nasneck.decision import Choices, Decision
from nasneck.errors import SpaceError


@dataclass(frozen=True, eq=False)
class Landscape:
    """A reward with mean 0 and variance 1 over uniformly drawn choices.

    Half of the variance comes from single decisions, half from pairs of them. A pair's table has no main effects
    (its rows and columns have mean 0), so the two halves are what they say. Pairs and all values follow ``seed``.

    Args:
        decisions: Of the space; at least two with several choices.
        seed: Of the structure. Another seed is another problem of the same kind.
        noise: Standard deviation of an evaluation around the truth.
        pairs: How many pairs of decisions interact; None takes as many as there are decisions.

    Raises:
        SpaceError: fewer than two decisions with several choices.
    """

    decisions: Sequence[Decision]
    seed: int
    noise: float = 0.2
    pairs: int | None = None
    _single: list[np.ndarray] = field(init=False, repr=False)
    _joint: dict[tuple[int, int], np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        free = [i for i, decision in enumerate(self.decisions) if decision.choices > 1]
        if len(free) < 2:
            raise SpaceError("a landscape needs two decisions with several choices")
        rng = np.random.default_rng(self.seed)
        single = [_centred(rng.normal(size=decision.choices)) for decision in self.decisions]
        possible = list(combinations(free, 2))
        count = min(len(possible), len(self.decisions) if self.pairs is None else self.pairs)
        chosen = [possible[i] for i in rng.choice(len(possible), size=count, replace=False)]
        sizes = [decision.choices for decision in self.decisions]
        joint = {(a, b): _centred(rng.normal(size=(sizes[a], sizes[b]))) for a, b in chosen}
        object.__setattr__(self, "_single", _scaled(single))
        object.__setattr__(self, "_joint", dict(zip(joint, _scaled(list(joint.values())), strict=True)))

    def truth(self, choices: Choices) -> float:
        """The reward without noise."""
        own = sum(float(table[choice]) for table, choice in zip(self._single, choices, strict=True))
        return own + sum(float(table[choices[a], choices[b]]) for (a, b), table in self._joint.items())

    def evaluate(self, choices: Choices, rng: random.Random) -> float:
        """What one evaluation shows; ``rng`` is the source of its noise."""
        return self.truth(choices) + rng.gauss(0.0, self.noise)


def _centred(table: np.ndarray) -> np.ndarray:
    """Without its means along every axis."""
    for axis in range(table.ndim):
        table = table - table.mean(axis=axis, keepdims=True)
    return table


def _scaled(tables: list[np.ndarray]) -> list[np.ndarray]:
    """The tables, multiplied so that their sum has a variance of one half: they are independent."""
    variance = sum(float((table**2).mean()) for table in tables)
    return [table * (0.5 / variance) ** 0.5 for table in tables]
