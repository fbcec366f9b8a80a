"""Weighted bidirectional FPN: Tan et al., "EfficientDet", CVPR 2020, fig. 2d and section 3.

One repeat over P3..P7 (nodes with their ids in google/automl, efficientdet/tf2/fpn_configs.py):

    P7 (4) ───────────────────────────> P7" (12)
      └───────┐                           ▲
    P6 (3) ─> P6' (5) ────────────────> P6" (11)     each node: weighted fusion, SiLU,
               │                          ▲          separable 3x3 convolution, norm
    P5 (2) ─> P5' (6) ────────────────> P5" (10)
               │                          ▲          P4"..P6" read the repeat's input too
    P4 (1) ─> P4' (7) ────────────────> P4" (9)
               └──────────┐               ▲
    P3 (0) ────────────> P3" (8) ─────────┘
"""

from __future__ import annotations

from typing import Literal

from nasneck.errors import GraphError
from nasneck.graph import Conv, NeckGraph
from nasneck.graph.fusion import FUSIONS
from nasneck.necks.paths import ACTIVATIONS, Activation, Dialect, Padding, PathNode, Source, build_paths
from nasneck.necks.pyramid import LevelRange, check_choice, check_range

Weighting = Literal["fast_normalized", "softmax", "sum"]
WEIGHTINGS: tuple[Weighting, ...] = ("fast_normalized", "softmax", "sum")


def bifpn(
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
    """BiFPN as in EfficientDet.

    In the first repeat every edge from a backbone feature has its own 1x1 convolution and norm, so a feature
    read twice is projected twice; the convolution comes before pooling.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck, at least two.
        repeats: Times the bidirectional layer is applied, with weights of its own.
        fusion: ``fast_normalized`` (D0-D5), ``softmax``, or ``sum`` (D6, D7).
        separable: Separable 3x3 convolutions (else full ones).
        bias: Biases on the convolutions before norms, as TensorFlow's weights have them.
        padding: Of the 3x3 max pools of stride 2: ``symmetric`` (effdet's own weights) or TensorFlow's
            ``same``.
        act: Activation after the fusion: ``silu``, or what effdet's models for phones and with other backbones
            have (``relu``, ``relu6``, ``leaky_relu``, ``hard_swish``).

    Raises:
        GraphError: options that are unknown, or levels that do not fit.
    """
    check_weighted("bifpn", levels, fusion, padding, act)
    low, high = levels
    joined: list[tuple[Source, list[Source]]] = []
    for level in range(high - 1, low - 1, -1):
        own: Source = ("out" if level == low else "down", level)
        joined.append((own, [("input", level), ("down", level + 1)]))
    for level in range(low + 1, high + 1):
        between: list[Source] = [("down", level)] if level < high else []
        joined.append((("out", level), [("input", level), *between, ("out", level - 1)]))
    op, conv = FUSIONS[fusion](), weighted_conv(separable=separable, bias=bias)
    nodes = [PathNode(role, level, tuple(sources), op, conv) for (role, level), sources in joined]
    dialect = Dialect(bias=bias, padding=padding, activation=act)
    return build_paths(nodes, inputs=inputs, levels=levels, repeats=repeats, dialect=dialect, name="bifpn")


def weighted_conv(*, separable: bool, bias: bool) -> Conv:
    """The convolution after every fusion."""
    return Conv(3, separable=separable, bias=bias, init="glorot")


def check_weighted(neck: str, levels: LevelRange, fusion: str, padding: str, act: str) -> None:
    """Raise :class:`GraphError` for options that a neck of the family cannot take."""
    check_choice(neck, "fusion", fusion, WEIGHTINGS)
    check_choice(neck, "padding", padding, ("symmetric", "same"))
    check_choice(neck, "act", act, ACTIVATIONS)
    check_range(neck, "levels", levels)
    if levels[0] == levels[1]:
        raise GraphError(f"{neck}: its paths need at least two levels, not P{levels[0]} alone")
