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

from collections.abc import Sequence

from nasneck.errors import GraphError
from nasneck.graph import NeckGraph
from nasneck.graph.width import Width
from nasneck.necks.paths import PathNode, Source, build_paths
from nasneck.necks.pyramid import LevelRange, check_range


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
    check_range(name, "levels", levels)
    if levels[0] == levels[1]:
        raise GraphError(f"{name}: two paths need at least two levels, not P{levels[0]} alone")
    found = tuple((node.role, node.level) for node in nodes)
    if found != slots(levels):
        raise GraphError(f"{name}: the nodes are {found}; {slots(levels)} are wanted, in this order")
    return build_paths(nodes, inputs=inputs, levels=levels, repeats=repeats, width=width, name=name)
