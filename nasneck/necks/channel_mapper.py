"""No mixing at all: one convolution per level brings its feature to the neck's width (mmdet's ChannelMapper).

What DETR-like detectors use, and the least that a comparison of necks should beat.
"""

from __future__ import annotations

from nasneck.graph import Act, Edge, NeckGraph, Node, Norm
from nasneck.necks.conv_norm_act import ConvNormAct
from nasneck.necks.pyramid import LevelRange, backbone_features, check_flags


def channel_mapper(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 7),
    *,
    kernel: int = 3,
    norm: bool = False,
    relu: bool = True,
) -> NeckGraph:
    """ChannelMapper.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck. Further levels are 3x3 convolutions of stride 2, the first on
            the last feature.
        kernel: Side of the convolutions.
        norm: Normalise after every convolution, which then have no bias.
        relu: ReLU after every convolution.
    """
    check_flags("channel_mapper", norm=norm, relu=relu)
    style = ConvNormAct(Norm() if norm else None, Act("relu") if relu else None, init="glorot")
    nodes, covered = backbone_features("channel_mapper", inputs, levels)
    nodes += [Node(f"p{level}", level, "sum", [Edge(f"c{level}", ())], style(kernel)) for level in covered]
    source = f"c{covered[-1]}"
    for level in range(covered[-1] + 1, levels[1] + 1):
        nodes.append(Node(f"p{level}", level, "sum", [Edge(source, style(3, stride=2))]))
        source = f"p{level}"
    outputs = {level: f"p{level}" for level in range(levels[0], levels[1] + 1)}
    return NeckGraph(nodes, outputs=outputs, name="channel_mapper")
