"""SSH's context module on every level: Najibi et al., "SSH: Single Stage Headless Face Detector", ICCV 2017.

feature ─┬─ 3x3 ──────────────────────────┐
         └─ 3x3 ─┬─ 3x3 ──────────────────┼─ concat, ReLU      widths 1/2, 1/4, 1/4; no level reads another
                 └─ 3x3 ── 3x3 ───────────┘
"""

from __future__ import annotations

from nasneck.graph import Act, Edge, NeckGraph, Node, Norm
from nasneck.necks.conv_norm_act import ConvNormAct
from nasneck.necks.pyramid import Extra, LevelRange, backbone_features, finish

_STYLE = ConvNormAct(Norm(), Act("relu"), init="glorot")


def ssh(inputs: LevelRange = (3, 5), levels: LevelRange = (3, 5), *, extra: Extra = "output") -> NeckGraph:
    """SSH's detection modules as in mmdet; the neck's width must be a multiple of 4.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck; the published one has no levels above the backbone's.
        extra: How further levels come about, as for :func:`nasneck.necks.fpn`: ``output``, ``input`` or ``pool``.
    """
    nodes, covered = backbone_features("ssh", inputs, levels)
    half, quarter = "channels/2", "channels/4"
    for level in covered:
        made = [
            Node(f"three{level}", level, "sum", [Edge(f"c{level}", ())], _STYLE(3, half, act=False)),
            Node(f"context{level}", level, "sum", [Edge(f"c{level}", ())], _STYLE(3, quarter)),
            Node(f"five{level}", level, "sum", [Edge(f"context{level}", ())], _STYLE(3, quarter, act=False)),
            Node(
                f"seven{level}",
                level,
                "sum",
                [Edge(f"context{level}", ())],
                [*_STYLE(3, quarter), *_STYLE(3, quarter, act=False)],
            ),
        ]
        joined = [Edge(f"{part}{level}", ()) for part in ("three", "five", "seven")]
        nodes += [*made, Node(f"p{level}", level, "concat", joined, [Act("relu")])]
    outputs = {level: f"p{level}" for level in covered}
    return finish("ssh", nodes, outputs, levels, extra, sources={"input": f"c{covered[-1]}"})
