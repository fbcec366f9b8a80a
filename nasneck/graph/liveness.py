"""Which nodes matter to a set of outputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nasneck.graph.neck_graph import NeckGraph


def read_nodes(graph: NeckGraph, names: Iterable[str]) -> set[str]:
    """Names of the nodes whose values the nodes ``names`` are computed from, themselves included."""
    wanted = set(names)
    for node in reversed(graph.nodes):
        if node.name in wanted:
            wanted.update(edge.source for edge in node.inputs)
    return wanted
