"""FPN with content-aware upsampling: Wang et al., "CARAFE", ICCV 2019, section 4.

c5 ─3x3 s2─> lat6 ─3x3─> p6         The levels above the backbone's take part in the top-down path, which
              │ carafe              enlarges by CARAFE in place of nearest neighbours.
c5 ─1x1────> td5 ──3x3─> p5
              │ carafe
c4 ─1x1────> td4 ──3x3─> p4
"""

from __future__ import annotations

from nasneck.graph import Carafe, Conv, Edge, NeckGraph, Node
from nasneck.necks.pyramid import LevelRange, backbone_features


def carafe_fpn(
    inputs: LevelRange = (3, 5), levels: LevelRange = (3, 7), *, kernel: int = 5, encoder: int = 3, compressed: int = 64
) -> NeckGraph:
    """FPN with CARAFE as in mmdet.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck.
        kernel: Side of the window that is reassembled.
        encoder: Side of the convolution that gives its weights.
        compressed: Width of the map that this convolution reads.
    """
    nodes, covered = backbone_features("carafe_fpn", inputs, levels)
    every = range(levels[0], levels[1] + 1)
    source = f"c{covered[-1]}"
    for level in every:
        if level in covered:
            ops, read = Conv(1, init="glorot"), f"c{level}"
        else:
            ops, read = Conv(3, stride=2, init="glorot"), source
            source = f"lat{level}"
        nodes.append(Node(f"lat{level}", level, "sum", [Edge(read, [ops])]))
    current = f"lat{levels[1]}"
    out: dict[int, Node] = {}
    for level in reversed(every):
        if level < levels[1]:
            up = Carafe(to=f"lat{level}", kernel=kernel, encoder=encoder, compressed=compressed)
            nodes.append(Node(f"td{level}", level, "sum", [Edge(f"lat{level}", ()), Edge(current, [up])]))
            current = f"td{level}"
        out[level] = Node(f"p{level}", level, "sum", [Edge(current, ())], [Conv(3, init="glorot")])
    return NeckGraph([*nodes, *out.values()], outputs={level: f"p{level}" for level in every}, name="carafe_fpn")
