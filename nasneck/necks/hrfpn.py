"""HRFPN: Sun et al., "High-Resolution Representations for Labeling Pixels and Regions", arXiv 1904.04514, 2019.

c5 ─ bilinear ─┐
c4 ─ bilinear ─┼─ concat ─1x1─> joined ─────────────3x3──> p3
c3 ────────────┘                   ├── pool 2x2 ────3x3──> p4
                                   └── pool 4x4 ────3x3──> p5
"""

from __future__ import annotations

from typing import Literal

from nasneck.graph import Conv, Edge, NeckGraph, Node, Op, Pool, Resample
from nasneck.necks.pyramid import LevelRange, backbone_features, check_choice, sizes_by_subsampling


def hrfpn(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 7),
    *,
    pool: Literal["avg", "max"] = "avg",
    rounding: Literal["ceil", "floor"] = "ceil",
) -> NeckGraph:
    """HRFPN as mmdet has it.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck.
        pool: How the joined map is brought to the coarser levels.
        rounding: Whether partial windows at the border make a cell, so that all necks give levels of one size,
            or are dropped, as mmdet does.
    """
    check_choice("hrfpn", "pool", pool, ("avg", "max"))
    check_choice("hrfpn", "rounding", rounding, ("ceil", "floor"))
    nodes, covered = backbone_features("hrfpn", inputs, levels)
    low = covered[0]
    edges = [Edge(f"c{low}", ()), *(Edge(f"c{level}", [Resample("bilinear", to=f"c{low}")]) for level in covered[1:])]
    nodes.append(Node("joined", low, "concat", edges, [Conv(1)]))
    size_of = {level: f"c{level}" for level in covered}
    if rounding == "ceil":
        told, names = sizes_by_subsampling(covered[-1], range(covered[-1] + 1, levels[1] + 1))
        nodes += told
        size_of |= names
    for level in range(low, levels[1] + 1):
        window = 2 ** (level - low)
        ops: list[Op] = []
        if window > 1:
            ops.append(Pool(pool, window, window, padding=0, ceil=rounding == "ceil"))
            if rounding == "ceil":
                # a backbone may round down where the pool rounds up
                ops.append(Resample("nearest", to=size_of[level]))
        nodes.append(Node(f"p{level}", level, "sum", [Edge("joined", ops)], [Conv(3)]))
    outputs = {level: f"p{level}" for level in range(low, levels[1] + 1)}
    return NeckGraph(nodes, outputs=outputs, name="hrfpn")
