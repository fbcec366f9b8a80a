"""Quad FPN: four paths, down then up and up then down, whose ends are joined.

Contributed to EfficientDet in google/automl (pull requests 580 and 601, 2020); layout as there and in effdet
(``qufpn_fa``), whose code names IEEE document 9225379 as its paper.

    input ─> down1 ─> up1 ──┐        ``down1`` and ``up1`` are BiFPN's paths, except that ``down1`` ends in a
      │                     ├─> out  node of its own on the finest level and is not an output;
      └────> up2 ──> down2 ─┘        ``up2`` and ``down2`` are the same the other way round.
"""

from __future__ import annotations

from nasneck.graph import FastNormalized, NeckGraph
from nasneck.graph.fusion import FUSIONS
from nasneck.necks.bifpn import Weighting, check_weighted, weighted_conv
from nasneck.necks.paths import Activation, Dialect, Padding, PathNode, Source, build_paths
from nasneck.necks.pyramid import LevelRange


def qufpn(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 7),
    *,
    repeats: int = 3,
    fusion: Weighting = "fast_normalized",
    separable: bool = True,
    bias: bool = False,
    padding: Padding = "symmetric",
    act: Activation = "silu",
) -> NeckGraph:
    """QuFPN; the two ends are always joined by fast normalised fusion.

    Args: as for :func:`nasneck.necks.bifpn`.
    """
    check_weighted("qufpn", levels, fusion, padding, act)
    joined = _paths(*levels)
    conv = weighted_conv(separable=separable, bias=bias)
    nodes = [
        PathNode(role, level, tuple(sources), FastNormalized() if role == "out" else FUSIONS[fusion](), conv)
        for (role, level), sources in joined
    ]
    dialect = Dialect(bias=bias, padding=padding, activation=act)
    return build_paths(nodes, inputs=inputs, levels=levels, repeats=repeats, dialect=dialect, name="qufpn")


def _paths(low: int, high: int) -> list[tuple[Source, list[Source]]]:
    """Each node with what it joins, in the order in which they are built."""

    def named(path: str, level: int) -> Source:
        """The map that ``path`` has on ``level``, also at the end where it has no node of its own."""
        if level == high and path == "down1":
            return ("input", level)
        if level == high and path == "down2":
            return ("up2", level)
        if level == low and path in ("up1", "up2"):
            return ("down1", level) if path == "up1" else ("input", level)
        return (path, level)

    inner = range(low + 1, high)
    joined: list[tuple[Source, list[Source]]] = []
    for level in range(high - 1, low - 1, -1):
        joined.append((("down1", level), [("input", level), named("down1", level + 1)]))
    for level in range(low + 1, high + 1):
        first: list[Source] = [("down1", level)] if level in inner else []
        joined.append((("up1", level), [("input", level), *first, named("up1", level - 1)]))
    for level in range(low + 1, high + 1):
        joined.append((("up2", level), [("input", level), named("up2", level - 1)]))
    for level in range(high - 1, low - 1, -1):
        second: list[Source] = [("up2", level)] if level in inner else []
        joined.append((("down2", level), [("input", level), *second, named("down2", level + 1)]))
    for level in range(low, high + 1):
        joined.append((("out", level), [named("up1", level), named("down2", level)]))
    return joined
