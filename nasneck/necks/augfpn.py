"""AugFPN: Guo et al., "AugFPN: Improving Multi-scale Feature Learning for Object Detection", CVPR 2020.

c5 ─ pooled to 0.1, 0.2, 0.3 of its size ─1x1─ bilinear ─┐
                                        adaptive spatial fusion = residual
c5 ─1x1─ lat5 ─── + residual ──> td5 ─3x3─> p5
                                  │ up
c4 ─1x1─ lat4 ─── + ───────────> td4 ─3x3─> p4

Residual feature augmentation (section 3.2) gives the top of an FPN context that the 1x1 convolution lost. The
plain laterals are auxiliary outputs: consistent supervision (section 3.1) trains a head on each of them too.
"""

from __future__ import annotations

from typing import Literal

from nasneck.errors import GraphError
from nasneck.graph import (
    Act,
    AdaptivePool,
    Conv,
    Edge,
    GlobalPool,
    NeckGraph,
    Node,
    Op,
    PixelWeighted,
    Pool,
    Resample,
)
from nasneck.necks.pyramid import LevelRange, backbone_features, check_choice, check_flags


def augfpn(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 7),
    *,
    ratios: tuple[float, ...] = (0.1, 0.2, 0.3),
    extra: Literal["pool", "input", "output"] = "input",
    extra_relu: bool = False,
) -> NeckGraph:
    """AugFPN as released.

    Compiled with ``aux=True`` the neck also returns the laterals, finest first.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck.
        ratios: Sizes of the pooled contexts relative to the last feature.
        extra: Levels above the backbone's: ``pool`` takes every second cell of the output before (the authors'
            Faster R-CNN). ``input`` is their RetinaNet's: 3x3 convolutions of stride 2 from the last feature up,
            and the residual's mean is added to the first of them. ``output`` (their FCOS, with ReLU) starts from
            the last output instead.
        extra_relu: ReLU before the extra convolutions from the second on.
    """
    check_choice("augfpn", "extra", extra, ("pool", "input", "output"))
    check_flags("augfpn", extra_relu=extra_relu)
    if not isinstance(ratios, tuple | list) or not ratios or not all(_is_ratio(ratio) for ratio in ratios):
        raise GraphError(f"augfpn: ratios={ratios!r} are not numbers in (0, 1]")
    nodes, covered = backbone_features("augfpn", inputs, levels)
    top = covered[-1]
    feature = f"c{top}"
    contexts = []
    for number, ratio in enumerate(ratios):
        context = [
            AdaptivePool(ratio),
            Conv(1, init="glorot"),
            Resample("bilinear", to=feature, align_corners=True),
        ]
        contexts.append(Edge(f"context{number}", ()))
        nodes.append(Node(f"context{number}", top, "sum", [Edge(feature, context)]))
    fusion = PixelWeighted("sigmoid", squeeze=None, hidden="channels", kernel=3)
    nodes.append(Node("residual", top, fusion, contexts))
    nodes += [Node(f"lat{level}", level, "sum", [Edge(f"c{level}", [Conv(1, init="glorot")])]) for level in covered]
    for level in reversed(covered):
        more = Edge("residual", ()) if level == top else Edge(f"td{level + 1}", [Resample("nearest", to=f"c{level}")])
        nodes.append(Node(f"td{level}", level, "sum", [Edge(f"lat{level}", ()), more]))
    nodes += [Node(f"p{level}", level, "sum", [Edge(f"td{level}", ())], [Conv(3, init="glorot")]) for level in covered]
    source = feature if extra == "input" else f"p{top}"
    for level in range(top + 1, levels[1] + 1):
        first = level == top + 1
        if extra == "pool":
            ops: list[Op] = [Pool("max", kernel=1, stride=2, padding=0)]
        else:
            relu: list[Op] = [Act("relu")] if extra_relu and not first else []
            ops = [*relu, Conv(3, stride=2, init="glorot")]
        edges = [Edge(source, ops)]
        if extra != "pool" and first:
            edges.append(Edge("residual", [GlobalPool("avg")]))
        nodes.append(Node(f"p{level}", level, "sum", edges))
        source = f"p{level}"
    outputs = {level: f"p{level}" for level in range(levels[0], levels[1] + 1)}
    return NeckGraph(nodes, outputs=outputs, aux=[f"lat{level}" for level in covered], name="augfpn")


def _is_ratio(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value <= 1
