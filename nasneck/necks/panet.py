"""PANet: Liu et al., "Path Aggregation Network for Instance Segmentation", CVPR 2018, fig. 1b.

td5 ─3x3─> fpn5 ──────> bu5 ─3x3─> p5       An FPN, then a bottom-up path: every level joins the
 │ up                    ▲ 3x3 s2           level below it, brought down by a 3x3 convolution of
td4 ─3x3─> fpn4 ──────> bu4 ─3x3─> p4       stride 2. The finest level passes through.
 │ up                    ▲ 3x3 s2
td3 ─3x3─> fpn3 ────────────────> p3
"""

from __future__ import annotations

from typing import Literal

from nasneck.errors import GraphError
from nasneck.graph import Conv, Edge, NeckGraph, Node, Norm, Resample
from nasneck.necks.fpn import top_down
from nasneck.necks.pyramid import Extra, LevelRange, backbone_features, extra_levels


def panet(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 7),
    *,
    extra: Extra = "output",
    extra_relu: bool = True,
    feed: Literal["out", "sum"] = "out",
    norm: bool = False,
) -> NeckGraph:
    """PANet's bottom-up path augmentation on an FPN.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck.
        extra: How levels above the backbone's come about, as for :func:`nasneck.necks.fpn`; the originals use
            ``pool``.
        extra_relu: ReLU between the extra convolutions.
        feed: What the next level reads: ``out``, the finished output of the level below, as the paper says;
            ``sum``, the sum before its 3x3 convolution, as mmdet's PAFPN does.
        norm: Normalise after every convolution, which then have no bias.
    """
    if feed not in ("out", "sum"):
        raise GraphError(f"feed={feed!r} is not 'out' (the paper) or 'sum' (mmdet)")
    features, covered = backbone_features(inputs, levels)
    nodes = [*features, *top_down(covered, norm=norm, out="fpn")]
    layers = (Conv(3, bias=not norm), Norm()) if norm else (Conv(3),)
    for level in covered:
        fpn_edge = Edge(f"fpn{level}", ())
        if level == covered[0]:
            nodes.append(Node(f"p{level}", level, "sum", (fpn_edge,)))
            continue
        below = f"p{level - 1}" if feed == "out" or level - 1 == covered[0] else f"bu{level - 1}"
        down = [
            Conv(3, stride=2, bias=not norm),
            *([Norm()] if norm else []),
            Resample("nearest", to=f"c{level}"),
        ]
        nodes.append(Node(f"bu{level}", level, "sum", (fpn_edge, Edge(below, down))))
        nodes.append(Node(f"p{level}", level, "sum", (Edge(f"bu{level}", ()),), layers))
    top = covered[-1]
    sources: dict[Extra, str] = {"output": f"p{top}", "input": f"c{top}", "lateral": f"td{top}"}
    extras = extra_levels(extra, extra_relu, top=top, last=levels[1], sources=sources)
    outputs = {level: f"p{level}" for level in covered} | {level: node.name for level, node in extras.items()}
    return NeckGraph([*nodes, *extras.values()], outputs=outputs, name="panet")
