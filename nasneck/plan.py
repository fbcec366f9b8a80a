"""What lowering a graph needs to know beforehand: which nodes, whose sizes, how far down. No torch."""

from __future__ import annotations

from collections.abc import Iterable

from nasneck.graph import Input, NeckGraph, Node, Resample
from nasneck.graph.liveness import read_nodes
from nasneck.graph.ops import size_source


def live_nodes(graph: NeckGraph, names: Iterable[str]) -> tuple[list[Node], dict[tuple[str, str], str]]:
    """Nodes that the nodes ``names`` need, in computable order, and where sizes are taken from.

    The second value says, for every reader and node that an op of it takes the size of, whose size to take: a node
    that is only wanted for its size is replaced by one of its level that is there anyway, if there is one.
    """
    wanted = read_nodes(graph, names)
    sizes: dict[tuple[str, str], str] = {}
    there = [node for node in graph.nodes if isinstance(node.op, Input)]
    for node in graph.nodes:
        if node.name not in wanted or isinstance(node.op, Input):
            continue
        for op in (op for edge in node.inputs for op in edge.ops or ()):
            if (to := size_source(op)) is not None:
                like = [known.name for known in there if known.level == graph[to].level]
                sizes[node.name, to] = to if to in wanted or not like else like[0]
        there.append(node)
    only_sized = set(sizes.values()) - wanted
    if only_sized:  # nothing else tells their size, so they are computed for it
        nodes, more = live_nodes(graph, [*names, *only_sized])
        return nodes, sizes | more
    return [node for node in graph.nodes if node.name in wanted or isinstance(node.op, Input)], sizes


def distances_down(graph: NeckGraph, nodes: Iterable[Node]) -> dict[str, set[int]]:
    """For every node, by how many octaves its readers pool it before they do anything else to it."""
    found: dict[str, set[int]] = {}
    for node in nodes:
        for edge in node.inputs:
            first = edge.ops[0] if edge.ops else None
            if isinstance(first, Resample) and first.mode == "auto":
                to = node.level if first.to is None else graph[first.to].level
                octaves = octaves_between(graph[edge.source].level, to)
                if octaves > 0:
                    found.setdefault(edge.source, set()).add(octaves)
    return found


def octaves_between(fine: int | None, coarse: int | None) -> int:
    """Levels from ``fine`` to ``coarse``, negative upwards."""
    assert fine is not None and coarse is not None  # the graph has checked that both are levels
    return coarse - fine
