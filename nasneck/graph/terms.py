"""Terms: a node with everything above it as one number, for finding where two graphs can agree.

Equal nodes of equal keys have equal terms, but not the other way round: a term does not tell two nodes with
the same inputs and weights of their own apart. Use it to narrow a search, and ``key`` to decide.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from nasneck.graph.fusion import Sum
from nasneck.graph.labels import node_label, ops_label, reads_backwards
from nasneck.graph.node import Node

_Arcs = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Term:
    """The number of a term; ``arcs`` are what a bare sum hands on to the sums that read it."""

    number: int
    level: int | None
    arcs: _Arcs | None = None


class Terms:
    """Numbers terms so that equal ones get equal numbers."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def of(self, node: Node, known: Mapping[str, Term]) -> Term:
        """Return the term of ``node``, given the terms of the nodes it reads or takes sizes from."""
        levels = {name: term.level for name, term in known.items()}
        arcs: list[tuple[str, int]] = []
        for edge in node.inputs:
            source = known[edge.source]
            if isinstance(node.op, Sum) and not edge.ops and source.arcs is not None:
                arcs += source.arcs
            else:
                arcs.append((ops_label(edge.ops or (), node, levels), source.number))
        if isinstance(node.op, Sum):
            arcs.sort()
        elif reads_backwards(node.op, [known[edge.source].level for edge in node.inputs]):
            arcs.reverse()
        label = node_label(node)
        number = self._numbers.setdefault((label, tuple(arcs)), len(self._numbers))
        bare = isinstance(node.op, Sum) and not node.layers
        return Term(number, node.level, tuple(arcs) if bare else None)
