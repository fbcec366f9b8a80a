"""SearchSpace: an ordered tuple of decisions, and the way from choices to graphs and back."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence

from nasneck.decision import Choices, Decision, check_choices
from nasneck.graph import NeckGraph


class SearchSpace(ABC):
    """A finite set of necks.

    Every vector of legal choices decodes to a graph. Different vectors may decode to graphs of equal key;
    ``encode`` returns the lexicographically smallest of them.

    Attributes:
        name: What people call it.
        decisions: The decisions, in the order in which a learner should take them. Their numbers of choices
            are fixed; what is legal given earlier choices is resolved by ``decode``.
    """

    name: str
    decisions: tuple[Decision, ...]

    @abstractmethod
    def decode(self, choices: Sequence[int]) -> NeckGraph:
        """Return the graph of ``choices``.

        Raises:
            SpaceError: choices whose number or values do not fit the decisions.
        """

    @abstractmethod
    def encode(self, graph: NeckGraph) -> Choices:
        """Return the lexicographically smallest choices that decode to a graph with the key of ``graph``.

        Raises:
            SpaceError: a graph that is not in the space.
        """

    def size(self) -> int:
        """Number of choice vectors."""
        return math.prod(decision.choices for decision in self.decisions)

    def sample(self, rng: random.Random) -> Choices:
        """Choices drawn uniformly with ``rng``."""
        return tuple(rng.randrange(decision.choices) for decision in self.decisions)

    def check(self, choices: Sequence[int]) -> Choices:
        """Return ``choices`` as a tuple, or raise :class:`SpaceError`."""
        return check_choices(self.decisions, choices)

    def __contains__(self, graph: object) -> bool:
        from nasneck.errors import SpaceError

        if not isinstance(graph, NeckGraph):
            return False
        try:
            self.encode(graph)
        except SpaceError:
            return False
        return True

    def __repr__(self) -> str:
        made = f"{len(self.decisions)} decisions, {self.size():.3g} vectors"
        return f"{type(self).__name__}({self.name!r}, {made})"
