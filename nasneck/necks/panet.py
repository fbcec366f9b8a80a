"""PANet: Liu et al., "Path Aggregation Network for Instance Segmentation", CVPR 2018, fig. 1b.

td5 ─3x3─> fpn5 ──────> bu5 ─3x3─> p5       An FPN, then a bottom-up path: every level joins the
 │ up                    ▲ 3x3 s2           level below it, brought down by a 3x3 convolution of
td4 ─3x3─> fpn4 ──────> bu4 ─3x3─> p4       stride 2. The finest level passes through.
 │ up                    ▲ 3x3 s2
td3 ─3x3─> fpn3 ────────────────> p3
"""

from __future__ import annotations

from typing import Literal

from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, Norm, Op, Resample
from nasneck.necks.fpn import top_down
from nasneck.necks.pyramid import Extra, LevelRange, backbone_features, check_choice, check_flags, finish


def panet(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 7),
    *,
    extra: Extra = "output",
    extra_relu: bool = True,
    feed: Literal["out", "sum"] = "out",
    norm: bool = False,
    relu: bool = False,
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
        norm: Normalise after every convolution, which then have no bias. Compiled with ``norm="group"`` and with
            ``relu`` this is the authors' variant with group norm, up to their biases before norms.
        relu: ReLU after the convolutions of the bottom-up path.
    """
    check_choice("panet", "feed", feed, ("out", "sum"))
    check_flags("panet", extra_relu=extra_relu, norm=norm, relu=relu)
    features, covered = backbone_features("panet", inputs, levels)
    nodes = [*features, *top_down(covered, norm=norm, out="fpn")]
    after: list[Op] = [*([Norm()] if norm else []), *([Act("relu")] if relu else [])]
    layers = (Conv(3, bias=not norm), *after)
    for level in covered:
        fpn_edge = Edge(f"fpn{level}", ())
        if level == covered[0]:
            nodes.append(Node(f"p{level}", level, "sum", (fpn_edge,)))
            continue
        below = f"p{level - 1}" if feed == "out" or level - 1 == covered[0] else f"bu{level - 1}"
        down = [Conv(3, stride=2, bias=not norm), *after, Resample("nearest", to=f"c{level}")]
        nodes.append(Node(f"bu{level}", level, "sum", (fpn_edge, Edge(below, down))))
        nodes.append(Node(f"p{level}", level, "sum", (Edge(f"bu{level}", ()),), layers))
    outputs = {level: f"p{level}" for level in covered}
    sources: dict[Extra, str] = {"input": f"c{covered[-1]}", "lateral": f"td{covered[-1]}"}
    return finish("panet", nodes, outputs, levels, extra, relu=extra_relu, sources=sources)
