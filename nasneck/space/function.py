"""A search space written as a function: decisions, and Python that makes a graph of their choices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

from nasneck.decision import Choices, Decision
from nasneck.errors import SpaceError
from nasneck.graph import NeckGraph
from nasneck.space.base import SearchSpace

# A few milliseconds a vector; above it the way back from a graph takes minutes.
LIMIT = 10_000


class FunctionSpace(SearchSpace):
    """Decisions and a function from their choices to a graph.

    The way back goes through the vectors in order until one has the key wanted; what was seen is kept. A space
    of more than ``LIMIT`` vectors is searched like any other, but cannot encode.

    Args:
        name: Name of the space.
        decisions: The decisions.
        decode: Takes legal choices, one per decision, and returns a :class:`NeckGraph`; the same choices always
            give the same graph.

    Raises:
        SpaceError: no decisions, or two of one name.

    Example:
        >>> from nasneck import necks
        >>> def decode(choices):
        ...     return necks.bifpn(repeats=1 + choices[0])
        >>> space = FunctionSpace("depth", [Decision("repeats", 4, "repeats")], decode)
        >>> space.encode(necks.bifpn(repeats=3))
        (2,)
    """

    def __init__(self, name: str, decisions: Sequence[Decision], decode: Callable[[Choices], NeckGraph]) -> None:
        names = [decision.name for decision in decisions]
        if not names or len(set(names)) < len(names):
            raise SpaceError(f"space {name!r} has decisions {names!r}; at least one is wanted, each name once")
        self.name = name
        self.decisions = tuple(decisions)
        self._decode = decode
        self._forget()

    def _forget(self) -> None:
        self._first: dict[str, Choices] = {}  # key -> smallest choices, as far as looked through
        self._vectors: Iterator[Choices] = product(*(range(decision.choices) for decision in self.decisions))

    def __getstate__(self) -> dict[str, Any]:
        """Without what was looked through, which cannot be pickled and need not travel to workers."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_first", "_vectors")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`__getstate__`."""
        vars(self).update(state)
        self._forget()

    def decode(self, choices: Sequence[int]) -> NeckGraph:
        """Return the graph of ``choices``."""
        graph = self._decode(self.check(choices))
        if not isinstance(graph, NeckGraph):
            raise SpaceError(f"space {self.name!r}: the function returned {type(graph).__name__}, not a NeckGraph")
        return graph

    def encode(self, graph: NeckGraph) -> Choices:
        """Return the lexicographically smallest choices that give the key of ``graph``.

        Raises:
            SpaceError: a graph that is not in the space, or a space of more than ``LIMIT`` vectors.
        """
        if self.size() > LIMIT:
            raise SpaceError(f"space {self.name!r} has {self.size():.3g} vectors; encode looks through {LIMIT} at most")
        key = graph.key()
        while key not in self._first:
            choices = next(self._vectors, None)
            if choices is None:
                raise SpaceError(f"{graph!r} is not in the space {self.name!r}")
            self._first.setdefault(self.decode(choices).key(), choices)
        return self._first[key]
