"""Blocks: nodes of one level that work as one, such as a residual or a CSP layer, need one box.

A block is a node ``x`` with the nodes ``x_...`` of its level, where one of these alone reads what comes from outside
and none but ``x`` is read outside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from nasneck.draw.words import fusion_name, is_pass_through, layer_words
from nasneck.graph import Edge, NeckGraph, Node
from nasneck.graph.ops import size_source

_LEAST = 3  # nodes; two are as quickly drawn

Blocks = Mapping[str, tuple[Node, ...]]


def find_blocks(graph: NeckGraph) -> Blocks:
    """Name of its last node -> nodes of a block, first the one that reads from outside."""
    found: dict[str, tuple[Node, ...]] = {}
    taken: set[str] = set()
    bound, sharing = _bound(graph), _sharing(graph)
    readers: dict[str, set[str]] = defaultdict(set)
    for node in graph.nodes:
        for edge in node.inputs:
            readers[edge.source].add(node.name)
    for owner in sorted(graph.nodes, key=lambda node: len(node.name)):  # outer blocks before those inside
        members = [n for n in graph.nodes if n is owner or n.name.startswith(f"{owner.name}_")]
        names = {member.name for member in members}
        if len(members) < _LEAST or names & (taken | sharing) or any(n.level != owner.level for n in members):
            continue
        entries = [n for n in members if not n.inputs or any(edge.source not in names for edge in n.inputs)]
        inner = names - {owner.name}
        closed = not inner & bound and all(readers[name] <= names for name in inner)
        if closed and entries == members[:1] and members[-1] is owner:
            if any(edge.source in names for edge in members[0].inputs):
                continue
            found[owner.name] = tuple(members)
            taken |= names
    return found


def _bound(graph: NeckGraph) -> set[str]:
    """Outputs, and nodes whose size is taken."""
    ops = (op for node in graph.nodes for edge in node.inputs for op in edge.ops or ())
    return {*graph.outputs.values(), *graph.aux, *(to for op in ops if (to := size_source(op)) is not None)}


def _sharing(graph: NeckGraph) -> set[str]:
    """Nodes with the weights of others, and those others."""
    return {name for node in graph.nodes if node.shares is not None for name in (node.name, node.shares)}


def fold(graph: NeckGraph, blocks: Blocks) -> NeckGraph:
    """``graph`` with one node for each block: it reads what the block reads, and has all its layers."""
    inner = {node.name for members in blocks.values() for node in members[:-1]}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in blocks:
            members = blocks[node.name]
            layers = [layer for member in members for layer in member.layers]
            nodes.append(Node(node.name, node.level, members[0].op, members[0].inputs, layers, node.width))
        elif node.name not in inner:
            nodes.append(node)
    return NeckGraph(nodes, outputs=graph.outputs, aux=graph.aux, name=graph.name)


def block_words(members: tuple[Node, ...]) -> str:
    """What a block does, node by node, such as ``in: concat; main: in -> conv1x1; out: concat(main, in)``."""
    owner = members[-1].name
    names = {node.name: node.name.removeprefix(f"{owner}_") for node in members[:-1]}
    return "; ".join(_node_words(node, names, first=node is members[0]) for node in members)


def _node_words(node: Node, names: Mapping[str, str], *, first: bool) -> str:
    name = names.get(node.name, "out")
    fusion = "" if is_pass_through(node) else fusion_name(node.op)
    sources = ", ".join(_source(edge, names) for edge in node.inputs) if not first else ""
    steps = f"{fusion}({sources})" if fusion and sources else fusion or sources
    layers = layer_words(node.layers, None)
    return f"{name}: {' -> '.join(filter(None, (steps, layers)))}"


def _source(edge: Edge, names: Mapping[str, str]) -> str:
    ops = layer_words(edge.ops or (), None)
    name = names[edge.source]
    return f"{name} -> {ops}" if ops else name
