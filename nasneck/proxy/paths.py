"""Fair paths through a search space: every option of every decision is taken equally often.

After Chu et al., "FairNAS", ICCV 2021 (strict fairness), for decisions with different numbers of options: each has a
deck of its own, which is shuffled anew when it is empty.
"""

from __future__ import annotations

import random

from nasneck.decision import Choices
from nasneck.space import SearchSpace


class FairPaths:
    """Draws choices so that, at any time, no option of a decision is more than one ahead of another.

    Args:
        space: Where.
        seed: Of the shuffling.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._rng = random.Random(seed)
        self._decks: list[list[int]] = [[] for _ in space.decisions]

    def draw(self) -> Choices:
        """One path."""
        drawn = []
        for deck, decision in zip(self._decks, self._space.decisions, strict=True):
            if not deck:
                deck.extend(range(decision.choices))
                self._rng.shuffle(deck)
            drawn.append(deck.pop())
        return tuple(drawn)
