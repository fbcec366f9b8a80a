"""Graphs that the drawing tests share."""

from __future__ import annotations

from nasneck import necks
from nasneck.graph import (
    Act,
    AdaptivePool,
    Conv,
    Edge,
    GlobalPool,
    NeckGraph,
    Node,
    Norm,
    Pool,
    Project,
    Resample,
    SqueezeExcite,
)
from nasneck.graph.node import input_node

FIXED = {
    "fpn": necks.fpn(),
    "fpn 3-5": necks.fpn((3, 5), (3, 5)),
    "panet": necks.panet(),
    "panet 2-6": necks.panet((2, 5), (2, 6)),
    "bifpn 1": necks.bifpn(repeats=1),
    "bifpn 3": necks.bifpn(repeats=3),
    "bifpn 3-5": necks.bifpn((3, 5), (3, 5), repeats=2),
    "nas_fpn 1": necks.nas_fpn(repeats=1),
    "nas_fpn 3": necks.nas_fpn(repeats=3),
    "nas_fpn 7": necks.nas_fpn(repeats=7),
    "nas_fpn mmdet": necks.nas_fpn(repeats=2, dialect="mmdet"),
}

# Every neck, the largest with less of the same.
_LESS = {"mlfpn": {"tums": 2}, "mnasfpn": {"repeats": 2}, "fpg": {"stacks": 5}, "gfpn": {"depth": 2}}
DRAWN = FIXED | {name: neck(**_LESS.get(name, {})) for name, neck in necks.NECKS.items()}


def everything() -> NeckGraph:
    """Every fusion and kind of op, a node read twice, a long name, sharing, auxiliary and unread nodes."""
    levels = (2, 3, 4, 5)
    nodes = [input_node(level) for level in levels]
    nodes += [Node(f"lat{level}", level, "sum", (Edge(f"c{level}", (Project(),)),)) for level in levels]
    gather = [Edge(f"lat{level}", (Resample("bilinear", to="c4"),)) for level in levels]
    nodes += [
        Node("gathered_middle_level_with_a_name", 4, "mean", gather, (Conv(1),)),
        Node("context", None, "sum", (Edge("lat5", (GlobalPool(), Conv(1))),), (Act("relu"),)),
        Node(
            "cat",
            4,
            "concat",
            (
                Edge("gathered_middle_level_with_a_name", ()),
                Edge("gathered_middle_level_with_a_name", (Conv(3, dilation=2),)),
                Edge("context", (Resample("nearest", to="c4"),)),
            ),
            (SqueezeExcite(), Conv(1), Norm()),
        ),
        Node("g", 4, "gate", (Edge("cat", ()), Edge("context", ()))),
        Node("m", 4, "max", (Edge("cat", ()), Edge("lat4", ()))),
        Node("s", 3, "softmax", ("lat3", "g", "m"), (Conv(3, groups="depthwise"),)),
        Node(
            "w",
            5,
            "pixel_weighted",
            (
                Edge("lat5", ()),
                Edge("g", (Conv(3, stride=2),)),
                Edge("m", (AdaptivePool(0.5), Resample("nearest", to="c5"))),
            ),
            (Conv(3),),
        ),
        Node("w2", 5, "attention", (Edge("g", (Conv(3, stride=2),)), Edge("lat5", ()))),
        Node("p5", 5, "sum", (Edge("w", ()), Edge("w2", ())), (Conv(3),)),
        Node("twin", 5, "sum", (Edge("w", ()), Edge("w2", ())), (Conv(3),), shares="p5"),
        Node("fast", 5, "fast_normalized", (Edge("p5", ()), Edge("m", (Pool("max"),)))),
        Node("dead", 3, "max", (Edge("lat3", ()), Edge("s", ()))),
    ]
    outputs = {3: "s", 4: "m", 5: "fast"}
    return NeckGraph(nodes, outputs=outputs, aux=("twin", "context", "m"), name='a <b> & "c"')
