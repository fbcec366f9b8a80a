"""Bidirectional pyramids: every neck that is a top-down and then a bottom-up path over the levels, repeated.

The frame is BiFPN's (Tan et al., "EfficientDet", CVPR 2020): one map per level comes in; the top-down path runs
from the coarsest level to the finest, whose node is an output already; the bottom-up path goes back up and
gives the other outputs, which are the next repeat's input.

    input  ····> down ····> out       Each node says which maps it joins. The coarsest level has no top-down
      P7 ──────────────────> p7       node and the finest no bottom-up one: ``down`` on the coarsest is its
      P6 ──────> p6_td ────> p6       input, and its ``out`` on the finest is what the top-down path ends with.
      P5 ──────> p5_td ────> p5
      P4 ──────> p4_td ────> p4       The published BiFPN, PANet's wiring and a plain top-down path are choices
      P3 ──────> p3                   of these edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nasneck.errors import GraphError
from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, Norm, Op, Pool, Project, Resample, Sum
from nasneck.graph.fusion import BINARY, Fusion
from nasneck.graph.width import Width
from nasneck.necks.pyramid import LevelRange, backbone_features, check_range

Role = Literal["input", "down", "out"]
Source = tuple[Role, int]

# EfficientDet's constants; the 1x1 convolutions fall away where a feature has the neck's width.
_NORM = Norm(eps=1e-3, momentum=0.01)
_PROJECT = Project(bias=False, norm=_NORM, when="if_different", init="glorot")
_POOL = Pool("max", kernel=3, stride=2, padding=1)


@dataclass(frozen=True, slots=True)
class PathNode:
    """A node of a repeat.

    Args:
        role: ``down`` on the top-down path between the ends; else ``out``.
        level: Its level.
        sources: The maps that it joins, in order: the repeat's ``input``, the top-down path's (``down``) or an
            output (``out``) of a level.
        op: The fusion. A single source needs none. A fusion of two joins the first two of several sources;
            the others are added to what it gives.
        conv: The convolution after it.
    """

    role: Role
    level: int
    sources: tuple[Source, ...]
    op: Fusion
    conv: Conv


def slots(levels: LevelRange) -> tuple[Source, ...]:
    """Role and level of the nodes of a repeat, in the order in which they are built."""
    low, high = levels
    down: list[Source] = [("down", level) for level in range(high - 1, low, -1)]
    out: list[Source] = [("out", level) for level in range(low, high + 1)]
    return (*down, *out)


def build_bidirectional(
    nodes: Sequence[PathNode],
    *,
    inputs: LevelRange,
    levels: LevelRange,
    repeats: int,
    width: Width = "channels",
    name: str = "bidirectional",
) -> NeckGraph:
    """Return the graph of ``repeats`` times the same ``nodes`` with weights of their own.

    Args:
        nodes: The nodes of one repeat, those of :func:`slots` in their order.
        inputs: First and last level of the backbone.
        levels: First and last level of the neck, at least two.
        repeats: Times the nodes are applied.
        width: Width of all maps of the neck.
        name: Name of the graph.

    Raises:
        GraphError: nodes that do not make a pyramid of ``levels``.
    """
    if repeats < 1:
        raise GraphError(f"repeats={repeats} is not at least 1")
    check_range("levels", levels)
    if levels[0] == levels[1]:
        raise GraphError(f"two paths need at least two levels, not P{levels[0]} alone")
    found = tuple((node.role, node.level) for node in nodes)
    if found != slots(levels):
        raise GraphError(f"the nodes are {found}; {slots(levels)} are wanted, in this order")
    made, size_of = path_inputs(inputs, levels, width=width)
    current: Mapping[int, str] = size_of
    for repeat in range(repeats):
        names: dict[Source, str] = {("input", level): source for level, source in current.items()}
        names["down", levels[1]] = current[levels[1]]
        for node in nodes:
            own = f"r{repeat}_p{node.level}{'_td' if node.role == 'down' else ''}"
            made += path_nodes(own, node, names, size_of, width=width)
            names[node.role, node.level] = own
        current = {level: names["out", level] for level in current}
    return NeckGraph(made, outputs=current, name=name)


def path_inputs(inputs: LevelRange, levels: LevelRange, *, width: Width) -> tuple[list[Node], dict[int, str]]:
    """The backbone features and coarser levels made of them, and the map of each level by name.

    The first level above the backbone's is projected and pooled, the others are pooled from it.
    """
    nodes, covered = backbone_features(inputs, levels)
    current = {level: f"c{level}" for level in covered}
    for level in range(covered[-1] + 1, levels[1] + 1):
        edge = Edge(current[level - 1], (*_projected(current[level - 1]), _POOL))
        nodes.append(Node(f"p{level}", level, "sum", (edge,), width=width))
        current[level] = f"p{level}"
    return nodes, current


def path_nodes(
    name: str, node: PathNode, names: Mapping[Source, str], size_of: Mapping[int, str], *, width: Width
) -> list[Node]:
    """The graph's nodes for ``node``: itself, and before it the bare fusion if that does not take all sources.

    Args:
        name: Name of the node.
        node: What it joins, and how.
        names: Names of the maps that it may read.
        size_of: Node that has the size of each level.
        width: Its width.

    Raises:
        GraphError: no source, or one that is not there when the node is built.
    """
    for source in node.sources:
        if source not in names:
            raise GraphError(f"node {name!r} reads {source}, which is not one of {sorted(names)}")
    if not node.sources:
        raise GraphError(f"node {name!r} reads nothing; at least one source is wanted")
    edges = [_edge(names[source], source[1], node.level, size_of) for source in node.sources]
    layers = (Act("silu"), node.conv, _NORM)
    if len(edges) == 1:
        return [Node(name, node.level, Sum(), edges, layers, width)]
    if len(edges) == 2 or not isinstance(node.op, BINARY):
        return [Node(name, node.level, node.op, edges, layers, width)]
    merged = Node(f"{name}_merge", node.level, node.op, edges[:2], width=width)
    return [merged, Node(name, node.level, Sum(), [Edge(merged.name, ()), *edges[2:]], layers, width)]


def _edge(source: str, at: int, to: int, size_of: Mapping[int, str]) -> Edge:
    ops: list[Op] = _projected(source)
    if at != to:
        # The pools give ceil(n / 2) cells each; backbones that round down are met by the resample.
        ops += [_POOL] * max(0, to - at) + [Resample("nearest", to=size_of[to])]
    return Edge(source, ops)


def _projected(source: str) -> list[Op]:
    """A backbone feature is projected on every edge anew, before it is pooled."""
    return [_PROJECT] if source.startswith("c") else []
