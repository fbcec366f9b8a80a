"""Necks one after another, as in ``neck=[FPN, BFP]``: the outputs of one are the features of the next."""

from __future__ import annotations

import re

from nasneck.errors import GraphError
from nasneck.graph import Edge, Input, NeckGraph, Node, Op
from nasneck.graph.ops import size_source, with_size_source
from nasneck.graph.width import feature_level


def chain(first: NeckGraph, *others: NeckGraph, name: str | None = None) -> NeckGraph:
    """Return one graph that applies ``first`` and then the ``others`` in turn.

    The nodes of the others get the prefix ``n2_``, ``n3_`` and so on, from the first that is free in the first neck;
    the auxiliary outputs of all are kept.

    Args:
        first: Reads the backbone.
        others: Each reads outputs of the one before it; outputs that it does not read are left out.
        name: Name of the graph; those of all, joined by ``_``, if None.

    Raises:
        GraphError: a neck that reads a level that the one before does not give, or one whose widths are those of
            its features.
    """
    nodes, outputs, aux = list(first.nodes), dict(first.outputs), list(first.aux)
    taken = [int(match[1]) for node in nodes if (match := re.match(r"n(\d+)_", node.name))]
    for number, graph in enumerate(others, max(taken, default=1) + 1):
        missing = [level for level in graph.input_levels if level not in outputs]
        if missing:
            given = ", ".join(f"P{level}" for level in outputs)
            raise GraphError(f"{graph.name}: it reads level {missing[0]}, but the neck before it gives {given}")
        names = {feature: outputs[level] for level, feature in graph.input_names.items()}
        names |= {node.name: f"n{number}_{node.name}" for node in graph.nodes if not isinstance(node.op, Input)}
        nodes += [_renamed(node, names, graph.name) for node in graph.nodes if not isinstance(node.op, Input)]
        outputs = {level: names[output] for level, output in graph.outputs.items()}
        aux += [names[output] for output in graph.aux]
    return NeckGraph(nodes, outputs=outputs, aux=aux, name=name or "_".join(graph.name for graph in (first, *others)))


def _renamed(node: Node, names: dict[str, str], neck: str) -> Node:
    edges = [Edge(names[edge.source], [_op(op, names) for op in edge.ops or ()]) for edge in node.inputs]
    for width in node.widths:
        if feature_level(width) is not None:
            raise GraphError(f"{neck}: width {width!r} of node {node.name!r} is that of a backbone feature; no chain")
    shares = None if node.shares is None else names[node.shares]
    return Node(names[node.name], node.level, node.op, edges, node.layers, node.width, shares)


def _op(op: Op, names: dict[str, str]) -> Op:
    to = size_source(op)
    return op if to is None else with_size_source(op, names[to])
