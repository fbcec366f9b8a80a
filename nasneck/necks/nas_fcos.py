"""The FPN that NAS-FCOS found: Wang et al., "NAS-FCOS", CVPR 2020, as mmdet has it.

Ids 0, 1, 2 are the adapted C3, C4, C5; the cells append 3..9. A cell concatenates two maps, each after a 3x3
convolution, norm and ReLU or as it is, at the larger of their sizes; then norm, ReLU and a grouped 1x1 convolution.

    3 <- 2*, 2*    4 <- 2*, 2*    5 <- 3*, 2    6 <- 0*, 2    7 <- 4*, 2*    8 <- 3*, 6*    9 <- 6*, 1*
    P3 <- 9 + 5    P4 <- 8 + 5    P5 <- 7 + 5   (resized bilinearly; * with the convolution)
"""

from __future__ import annotations

from typing import Literal

from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, Norm, Op, Resample
from nasneck.graph.fusion import Concat
from nasneck.necks.conv_norm_act import ConvNormAct
from nasneck.necks.pyramid import Extra, LevelRange, backbone_features, finish

# First and second id, each with whether a convolution precedes.
_CELLS = (
    ((2, True), (2, True)),
    ((2, True), (2, True)),
    ((3, True), (2, False)),
    ((0, True), (2, False)),
    ((4, True), (2, True)),
    ((3, True), (6, True)),
    ((6, True), (1, True)),
)
_OUTPUTS = (9, 8, 7)  # from the finest level up
_COMMON = 5


def nas_fcos(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 7),
    *,
    extra: Extra = "output",
    extra_relu: bool = True,
) -> NeckGraph:
    """NAS-FCOS's FPN with plain convolutions (the published weights have deformable ones before the cells).

    Args:
        inputs: First and last level of the backbone; three levels from the neck's finest are read.
        levels: First and last level of the neck.
        extra: How levels above these three come about, as for :func:`nasneck.necks.fpn`: ``output`` as published,
            ``input`` or ``pool``.
        extra_relu: ReLU between the extra convolutions.
    """
    nodes, covered = backbone_features("nas_fcos", inputs, levels, least=3, why="the published cells join three levels")
    low = covered[0]
    adapt = ConvNormAct()
    maps: list[tuple[str, int]] = []
    for level in covered[:3]:
        nodes.append(Node(f"a{level}", level, "sum", [Edge(f"c{level}", adapt(1))]))
        maps.append((f"a{level}", level))
    layers = (Norm(), Act("relu"), Conv(1, groups="output", bias=False))
    for number, pair in enumerate(_CELLS, 3):
        level = min(maps[source][1] for source, _ in pair)
        edges = []
        for source, conv in pair:
            name, at = maps[source]
            # with a bias before the norm, as published
            ops: list[Op] = [Conv(3), Norm(), Act("relu")] if conv else []
            edges.append(Edge(name, [*ops, *_resized("nearest", at, level)]))
        nodes.append(Node(f"f{number}", level, Concat(), edges, layers))
        maps.append((f"f{number}", level))
    common, above = maps[_COMMON]
    for level, number in enumerate(_OUTPUTS, low):
        name, at = maps[number]
        both = [Edge(name, ()), Edge(common, _resized("bilinear", above, at))]
        nodes.append(Node(f"sum{level}", at, "sum", both))
        nodes.append(Node(f"p{level}", level, "sum", [Edge(f"sum{level}", _resized("bilinear", at, level))]))
    outputs = {low + i: f"p{low + i}" for i in range(3)}
    return finish("nas_fcos", nodes, outputs, levels, extra, relu=extra_relu, sources={"input": f"c{low + 2}"})


def _resized(mode: Literal["nearest", "bilinear"], at: int, to: int) -> list[Op]:
    return [] if at == to else [Resample(mode, to=f"c{to}")]
