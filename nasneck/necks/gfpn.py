"""Generalised FPN: Jiang et al., "GiraffeDet", ICLR 2022, sections 3.2 and 3.3.

Layers of nodes, alternately filled from the coarsest level down and from the finest up. A node concatenates

    skip      its own level in the layers 1, 2, 4, 8, ... before it (``log2n``), or in all of them (``dense``);
    neighbour the node filled just before it in its layer;
    queen     the levels above and below in the layer before.

Then a 1x1 convolution, SiLU, a 3x3 convolution and norm.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, Norm, Op, Pool, Resample
from nasneck.graph.width import Width, scaled
from nasneck.necks.pyramid import LevelRange, backbone_features, check_choice, check_positive, check_share

Skip = Literal["log2n", "dense"]


def gfpn(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 7),
    *,
    depth: int = 7,
    width: float = 0.7,
    skip: Skip = "log2n",
    separable: bool = False,
) -> NeckGraph:
    """GFPN as in the authors' GiraffeDet.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck; levels above the backbone's are 3x3 max pools of stride 2 of the
            last feature.
        depth: The published depth multiplier (D7: 7); there are 2 * depth - 1 layers.
        width: Width of the layers relative to the outputs (D7: 0.7).
        skip: Which earlier layers a node reads.
        separable: Separable 3x3 convolutions.
    """
    check_positive("gfpn", "depth", depth)
    check_choice("gfpn", "skip", skip, ("log2n", "dense"))
    check_share("gfpn", "width", width)
    nodes, covered = backbone_features("gfpn", inputs, levels)
    every = list(range(levels[0], levels[1] + 1))
    row = {level: f"c{level}" for level in covered}
    for level in every[len(covered) :]:
        nodes.append(Node(f"p{level}_in", level, "sum", [Edge(row[level - 1], [_POOL])]))
        row[level] = f"p{level}_in"
    size_of, rows = dict(row), [row]
    inner = scaled("channels", width)
    for layer in range(2 * depth - 1):
        made: dict[int, str] = {}
        order = every[::-1] if layer % 2 == 0 else every
        last = order[0]  # the first node of a layer has no neighbour but the one that it follows
        for level in order:
            read: dict[tuple[str, int], None] = {}  # ordered, each once
            if layer == 0:
                read[row[level], level] = None
            for back in _steps(layer, skip):
                read[rows[-back][level], level] = None
            read[made.get(last, row[last]), last] = None
            for near in (level + 1, level - 1):
                if near in row:
                    read[row[near], near] = None
            name = f"l{layer}_p{level}"
            nodes.append(_node(name, level, read, size_of, inner, separable))
            made[level], last = name, level
        row = made
        rows.append(row)
    for level in every:
        nodes.append(_node(f"p{level}", level, [(row[level], level)], size_of, "channels", separable))
    return NeckGraph(nodes, outputs={level: f"p{level}" for level in every}, name="gfpn")


_POOL = Pool("max", kernel=3, stride=2, padding=1)


def _steps(layer: int, skip: Skip) -> Iterable[int]:
    """How many layers back the earlier layers lie that a node reads, the first layer first."""
    steps = range(1, layer + 1) if skip == "dense" else [2**i for i in range(6) if 2**i <= layer]
    return sorted(steps, reverse=True)


def _node(
    name: str, level: int, read: Iterable[tuple[str, int]], size_of: dict[int, str], width: Width, separable: bool
) -> Node:
    edges = []
    for source, at in read:
        ops: list[Op] = []
        if at != level:
            ops = [*[_POOL] * max(0, level - at), Resample("nearest", to=size_of[level])]
        edges.append(Edge(source, ops))
    layers = [Conv(1, bias=False), Act("silu"), Conv(3, bias=False, separable=separable), Norm()]
    return Node(name, level, "concat", edges, layers, width)
