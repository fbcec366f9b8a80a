"""Fair paths through a search space: every option of every decision is taken equally often.

After Chu et al., "FairNAS", ICCV 2021 (strict fairness), for decisions with different numbers of options: each has a
deck of its own, which is shuffled anew when it is empty.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

from nasneck.decision import Choices
from nasneck.errors import NasneckError
from nasneck.graph import NeckGraph
from nasneck.necks import NECKS
from nasneck.space import FunctionSpace, SearchSpace


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


PUBLISHED = ("nas_fpn", "bifpn", "panet", "fpn")
_SKETCHED = (8, 64)  # least and most paths of a sketch


def published(space: SearchSpace) -> NeckGraph | None:
    """The first of some published necks that the space holds, over its levels and as deep; None if it holds none.

    A space by a function is not asked: it would have to look through all that it holds.
    """
    example = decoded(space, (0,) * len(space.decisions))
    if example is None or isinstance(space, FunctionSpace):
        return None
    levels = [(found[0], found[-1]) for found in (example.input_levels, example.output_levels)]
    repeats = getattr(space, "repeats", None)
    depth = {} if repeats is None else {"repeats": repeats}
    for name in PUBLISHED:
        for options in (depth, {}):
            with contextlib.suppress(NasneckError, TypeError):  # other levels, or no neck that repeats
                graph = NECKS[name](*levels, **options)
                if graph in space:
                    return graph
    return None


def decoded(space: SearchSpace, choices: Choices) -> NeckGraph | None:
    """The graph of choices; None if there is none, which a search records as a candidate that failed."""
    try:
        return space.decode(choices)
    except Exception:  # of a user's own space, whatever it is
        return None


def sketch(space: SearchSpace) -> dict[str, Any]:
    """What tells a space from others, ready for JSON: its decisions, and what paths through its options decode to."""
    paths = FairPaths(space, 0)
    least, most = _SKETCHED
    count = min(most, max([least, *(decision.choices for decision in space.decisions)]))
    graphs = [decoded(space, paths.draw()) for _ in range(count)]
    return {
        "decisions": [[decision.name, decision.choices] for decision in space.decisions],
        "graphs": [None if graph is None else graph.key() for graph in graphs],
    }
