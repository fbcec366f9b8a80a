"""Adaptively spatial feature fusion: Liu et al., "Learning Spatial Fusion for Single-Shot Object Detection", 2019.

Every level is a weighted sum of all levels, brought to its size and width; the weights are computed per cell and
sum to one. Coarser maps are projected and then enlarged; finer ones are max pooled, all but the last octave,
which is a 3x3 convolution of stride 2.
"""

from __future__ import annotations

from nasneck.graph import Act, Edge, NeckGraph, Node, Norm, Op, PixelWeighted, Pool, Project, Resample
from nasneck.necks.conv_norm_act import ConvNormAct
from nasneck.necks.pyramid import Extra, LevelRange, backbone_features, check_flags, check_positive, finish

_STYLE = ConvNormAct(Norm(), Act("leaky_relu", 0.1))


def asff(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 5),
    *,
    squeeze: int = 16,
    widen: bool = False,
    extra: Extra = "output",
) -> NeckGraph:
    """ASFF as in the authors' YOLOv3.

    Inside, each level has its feature's width; a coarser or finer map of that width is not projected.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck; the published one has no levels above the backbone's.
        squeeze: Width of the maps that the weights are computed from (8 in the authors' RFB form).
        widen: Make each output twice as wide as the next finer one, as YOLOv3's heads want it (256, 512, 1024);
            else all have the neck's width, as further levels always have.
        extra: How further levels come about, as for :func:`nasneck.necks.fpn`: ``output``, ``input`` or ``pool``.
    """
    check_positive("asff", "squeeze", squeeze)
    check_flags("asff", widen=widen)
    nodes, covered = backbone_features("asff", inputs, levels, least=2, why="it joins levels")
    for level in covered:
        edges = [_edge(source, level) for source in reversed(covered)]
        fusion = PixelWeighted("softmax", squeeze=squeeze, kernel=1)
        width = f"channels*{2 ** (level - covered[0])}" if widen and level > covered[0] else "channels"
        nodes.append(Node(f"p{level}", level, fusion, edges, _STYLE(3), width))
    outputs = {level: f"p{level}" for level in covered}
    return finish("asff", nodes, outputs, levels, extra, sources={"input": f"c{covered[-1]}"})


def _edge(at: int, to: int) -> Edge:
    ops: list[Op] = []
    if at > to:
        ops.append(Project(f"c{to}", bias=False, norm=_STYLE.norm, act=_STYLE.act, when="if_different"))
    elif at < to:
        ops += [Pool("max", kernel=3, stride=2, padding=1)] * (to - at - 1)
        ops += _STYLE(3, f"c{to}", stride=2)
    if at != to:
        ops.append(Resample("nearest", to=f"c{to}"))
    return Edge(f"c{at}", ops)
