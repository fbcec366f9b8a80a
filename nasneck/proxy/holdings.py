"""What a search space holds: the graphs of choices, published necks, and what tells it from other spaces."""

from __future__ import annotations

import contextlib
from typing import Any

from nasneck.decision import Choices
from nasneck.errors import NasneckError
from nasneck.graph import NeckGraph
from nasneck.proxy.paths import FairPaths
from nasneck.space import FunctionSpace, SearchSpace, fixed_neck

PUBLISHED = ("nas_fpn", "bifpn", "panet", "fpn")
_SKETCHED = (8, 64)  # least and most paths of a sketch


def published(space: SearchSpace) -> NeckGraph | None:
    """The first of some published necks that the space holds, over its levels and as deep; None if it holds none.

    A space by a function is not asked: it would have to look through all that it holds.
    """
    if isinstance(space, FunctionSpace):
        return None
    for name in PUBLISHED:
        with contextlib.suppress(NasneckError):  # other levels, or no neck that repeats
            graph = fixed_neck(name, space)
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
