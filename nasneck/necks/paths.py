"""Paths over a pyramid: nodes that each join earlier maps, one output a level, the whole repeated.

EfficientDet (Tan et al., CVPR 2020) describes BiFPN and its relatives like this, as lists of nodes. One map per
level comes in; a node reads maps of this repeat by path and level; the outputs are the next repeat's input. In
the first repeat every edge from a backbone feature has its own 1x1 convolution and norm, so a feature read twice
is projected twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from nasneck.errors import GraphError
from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, Norm, Op, Pool, Project, Resample, Sum
from nasneck.graph.fusion import BINARY, Fusion
from nasneck.graph.width import Width
from nasneck.necks.pyramid import LevelRange, backbone_features, check_positive

Source = tuple[str, int]
Padding = Literal["symmetric", "same"]
Activation = Literal["silu", "relu", "relu6", "leaky_relu", "hard_swish"]
ACTIVATIONS: tuple[Activation, ...] = ("silu", "relu", "relu6", "leaky_relu", "hard_swish")

NORM = Norm(eps=1e-3, momentum=0.01)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How EfficientDet's public code differs: effdet's own weights, or those made with TensorFlow.

    Args:
        bias: Biases on the convolutions before norms, as TensorFlow's weights have them.
        padding: Of the 3x3 max pools of stride 2: ``symmetric``, or TensorFlow's ``same``.
        activation: After the fusion; SiLU but in models for phones.
    """

    bias: bool = False
    padding: Padding = "symmetric"
    activation: Activation = "silu"

    @property
    def act(self) -> Act:
        """What follows a fusion."""
        return _act(self.activation)

    @property
    def project(self) -> Project:
        """What brings a feature to the neck's width, where it has not got it."""
        return _project(self.bias)

    @property
    def pool(self) -> Pool:
        """One octave down."""
        return _pool(self.padding)


@lru_cache  # spaces ask for them on every edge of every candidate
def _project(bias: bool) -> Project:
    return Project(bias=bias, norm=NORM, when="if_different", init="glorot")


@lru_cache
def _act(kind: Activation) -> Act:
    return Act(kind, 0.01) if kind == "leaky_relu" else Act(kind)  # torch's slope, as effdet has it


@lru_cache
def _pool(padding: Padding) -> Pool:
    return Pool("max", kernel=3, stride=2, padding="same" if padding == "same" else 1)


EFFDET = Dialect()


@dataclass(frozen=True, slots=True)
class PathNode:
    """A node of a repeat.

    Args:
        role: Its path; ``out`` for an output.
        level: Its level.
        sources: The maps that it joins, in order, by path and level; ``input`` is what the repeat is given.
        op: The fusion. A fusion of two joins the first two of several sources; the others are added to what it
            gives.
        conv: The convolution after it.
        fuse_one: Whether the fusion is there for a single source too, which then has a weight.
    """

    role: str
    level: int
    sources: tuple[Source, ...]
    op: Fusion
    conv: Conv
    fuse_one: bool = False


def build_paths(
    nodes: Sequence[PathNode],
    *,
    inputs: LevelRange,
    levels: LevelRange,
    repeats: int,
    width: Width = "channels",
    dialect: Dialect = EFFDET,
    name: str,
) -> NeckGraph:
    """Return the graph of ``repeats`` times the same ``nodes`` with weights of their own.

    Args:
        nodes: The nodes of one repeat in the order in which they are built, an ``out`` for every level. On the
            coarsest level ``down`` may be read as another name of its input.
        inputs: First and last level of the backbone.
        levels: First and last level of the neck.
        repeats: Times the nodes are applied.
        width: Width of all maps of the neck.
        dialect: See :class:`Dialect`.
        name: Name of the graph.

    Raises:
        GraphError: levels without features, or a node that reads what is not there.
    """
    check_positive(name, "repeats", repeats)
    made, size_of = path_inputs(inputs, levels, width=width, dialect=dialect, neck=name)
    current: Mapping[int, str] = size_of
    for repeat in range(repeats):
        names: dict[Source, str] = {("input", level): source for level, source in current.items()}
        names["down", levels[1]] = current[levels[1]]
        for node in nodes:
            own = f"r{repeat}_p{node.level}{_suffix(node.role)}"
            made += path_nodes(own, node, names, size_of, width=width, dialect=dialect)
            names[node.role, node.level] = own
        current = {level: names["out", level] for level in current}
    return NeckGraph(made, outputs=current, name=name)


def path_inputs(
    inputs: LevelRange,
    levels: LevelRange,
    *,
    width: Width,
    dialect: Dialect = EFFDET,
    neck: str = "paths",
) -> tuple[list[Node], dict[int, str]]:
    """The backbone features and coarser levels made of them, and the map of each level by name.

    The first level above the backbone's is projected and pooled, the others are pooled from it.
    """
    nodes, covered = backbone_features(neck, inputs, levels)
    current = {level: f"c{level}" for level in covered}
    for level in range(covered[-1] + 1, levels[1] + 1):
        below = current[level - 1]
        edge = Edge(below, (*_projected(below, dialect), dialect.pool))
        nodes.append(Node(f"p{level}", level, "sum", (edge,), width=width))
        current[level] = f"p{level}"
    return nodes, current


def path_nodes(
    name: str,
    node: PathNode,
    names: Mapping[Source, str],
    size_of: Mapping[int, str],
    *,
    width: Width,
    dialect: Dialect = EFFDET,
) -> list[Node]:
    """The graph's nodes for ``node``: itself, and before it the bare fusion if that does not take all sources.

    Args:
        name: Name of the node.
        node: What it joins, and how.
        names: Names of the maps that it may read.
        size_of: Node that has the size of each level.
        width: Its width.
        dialect: See :class:`Dialect`.

    Raises:
        GraphError: no source, or one that is not there when the node is built.
    """
    for source in node.sources:
        if source not in names:
            raise GraphError(f"node {name!r} reads {source}, which is not one of {sorted(names)}")
    if not node.sources:
        raise GraphError(f"node {name!r} reads nothing; at least one source is wanted")
    edges = [_edge(names[source], source[1], node.level, size_of, dialect) for source in node.sources]
    layers = (dialect.act, node.conv, NORM)
    if len(edges) == 1 and not node.fuse_one:
        return [Node(name, node.level, Sum(), edges, layers, width)]
    if len(edges) <= 2 or not isinstance(node.op, BINARY):
        return [Node(name, node.level, node.op, edges, layers, width)]
    merged = Node(f"{name}_merge", node.level, node.op, edges[:2], width=width)
    return [merged, Node(name, node.level, Sum(), [Edge(merged.name, ()), *edges[2:]], layers, width)]


def _suffix(role: str) -> str:
    return {"out": "", "down": "_td"}.get(role, f"_{role}")


def _edge(source: str, at: int, to: int, size_of: Mapping[int, str], dialect: Dialect) -> Edge:
    ops: list[Op] = _projected(source, dialect)
    if at != to:
        # The pools give ceil(n / 2) cells each; backbones that round down are met by the resample.
        ops += [dialect.pool] * max(0, to - at) + [Resample("nearest", to=size_of[to])]
    return Edge(source, ops)


def _projected(source: str, dialect: Dialect) -> list[Op]:
    """A backbone feature is projected on every edge anew, before it is pooled."""
    return [dialect.project] if source.startswith("c") else []
