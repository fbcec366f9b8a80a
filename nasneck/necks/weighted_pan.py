"""PANet's two paths with BiFPN's fusion: the layout that effdet calls ``pan_fa``.

input ─> down ─> out      Every level has a node on both paths, also where it joins one map only; the bottom-up
 P7  ──>  ●  ──>  ●       path does not read the input again.
          │ up    ▲
 P6  ──>  ●  ──>  ●
"""

from __future__ import annotations

from nasneck.graph import NeckGraph
from nasneck.graph.fusion import FUSIONS
from nasneck.necks.bifpn import Weighting, check_weighted, weighted_conv
from nasneck.necks.paths import Activation, Dialect, Padding, PathNode, Source, build_paths
from nasneck.necks.pyramid import LevelRange


def weighted_pan(
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
    """PAN with fast attention (effdet ``pan_fa``, ``pan_sum``).

    Args: as for :func:`nasneck.necks.bifpn`.
    """
    check_weighted("weighted_pan", levels, fusion, padding, act)
    low, high = levels
    joined: list[tuple[Source, list[Source]]] = []
    for level in range(high, low - 1, -1):
        coarser: list[Source] = [("down", level + 1)] if level < high else []
        joined.append((("down", level), [("input", level), *coarser]))
    for level in range(low, high + 1):
        finer: list[Source] = [("out", level - 1)] if level > low else []
        joined.append((("out", level), [("down", level), *finer]))
    op, conv = FUSIONS[fusion](), weighted_conv(separable=separable, bias=bias)
    nodes = [PathNode(role, level, tuple(sources), op, conv, fuse_one=True) for (role, level), sources in joined]
    dialect = Dialect(bias=bias, padding=padding, activation=act)
    return build_paths(nodes, inputs=inputs, levels=levels, repeats=repeats, dialect=dialect, name="weighted_pan")
