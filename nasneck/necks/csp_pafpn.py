"""The necks of YOLOX and RTMDet: PANet's paths with concatenation and CSP layers.

Ge et al., "YOLOX", arXiv 2107.08430, 2021 (after YOLOv4's PAN); Lyu et al., "RTMDet", arXiv 2212.07784, 2022.

c5 ─1x1─> lat5 ─────────────> cat─CSP─> bu5 ─out─> p5
           │ up                 ▲ 3x3 s2
c4 ──────> cat─CSP─> td4 ─1x1─> lat4 ─> cat─CSP─> bu4 ─out─> p4
                                 │ up    ▲ 3x3 s2
c3 ────────────────────────────> cat─CSP─> td3 ─out─> p3

Inside, every level has its feature's width; only the last convolution gives the neck's.
"""

from __future__ import annotations

from dataclasses import replace

from nasneck.graph import Edge, NeckGraph, Node, Norm, Resample
from nasneck.necks.csp import STYLE, CspLayer
from nasneck.necks.pyramid import Extra, LevelRange, backbone_features, check_flags, check_positive, check_share, finish


def yolox_pafpn(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 5),
    *,
    blocks: int = 3,
    depthwise: bool = False,
    extra: Extra = "output",
) -> NeckGraph:
    """YOLOX's neck.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck; the published one has no levels above the backbone's.
        blocks: Blocks in every CSP layer (YOLOX-s 1, -m 2, -l 3, -x 4).
        depthwise: Separable 3x3 convolutions (YOLOX-nano).
        extra: How further levels come about, as for :func:`nasneck.necks.fpn`: ``output``, ``input`` or ``pool``.
    """
    layer = CspLayer(blocks, "darknet", depthwise)
    return _pafpn("yolox_pafpn", inputs, levels, layer, out_kernel=1, extra=extra)


def cspnext_pafpn(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 5),
    *,
    blocks: int = 3,
    depthwise: bool = False,
    expand: float = 0.5,
    eps: float = 1e-3,
    momentum: float = 0.03,
    extra: Extra = "output",
) -> NeckGraph:
    """RTMDet's neck: CSPNeXt blocks, and 3x3 convolutions at the outputs.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck; the published one has no levels above the backbone's.
        blocks: Blocks in every CSP layer (RTMDet-l 3).
        depthwise: Separable 3x3 convolutions.
        expand: Width inside the CSP layers relative to their outputs'.
        eps: Of the norms. The published RTMDet weights were trained with torch's 1e-5 and a momentum of 0.1.
        momentum: Likewise.
        extra: How further levels come about, as for :func:`nasneck.necks.fpn`: ``output``, ``input`` or ``pool``.
    """
    style = replace(STYLE, norm=Norm(eps=eps, momentum=momentum))
    layer = CspLayer(blocks, "cspnext", depthwise, expand, style)
    return _pafpn("cspnext_pafpn", inputs, levels, layer, out_kernel=3, extra=extra)


def _pafpn(
    name: str, inputs: LevelRange, levels: LevelRange, layer: CspLayer, *, out_kernel: int, extra: Extra
) -> NeckGraph:
    check_positive(name, "blocks", layer.blocks)
    check_flags(name, depthwise=layer.depthwise)
    check_share(name, "expand", layer.expand)
    nodes, covered = backbone_features(name, inputs, levels, least=2, why="it joins neighbouring levels")
    style = layer.style
    conv = style.separable if layer.depthwise else style
    low, top = covered[0], covered[-1]
    lateral: dict[int, str] = {}
    above = f"c{top}"
    for level in reversed(covered[1:]):
        lateral[level] = f"lat{level}"
        nodes.append(Node(lateral[level], level, "sum", [Edge(above, ())], style(1, f"c{level - 1}")))
        up = Edge(lateral[level], [Resample("nearest", to=f"c{level - 1}")])
        nodes += layer.nodes(f"td{level - 1}", level - 1, [up, Edge(f"c{level - 1}", ())], of=level - 1)
        above = f"td{level - 1}"
    done = {low: f"td{low}"}
    for level in covered[1:]:
        below = f"c{level - 1}"
        down = Edge(done[level - 1], [*conv(3, below, stride=2), Resample("nearest", to=f"c{level}")])
        nodes += layer.nodes(f"bu{level}", level, [down, Edge(lateral[level], ())], of=level)
        done[level] = f"bu{level}"
    out = conv if out_kernel > 1 else style
    nodes += [Node(f"p{level}", level, "sum", [Edge(done[level], ())], out(out_kernel)) for level in covered]
    outputs = {level: f"p{level}" for level in covered}
    return finish(name, nodes, outputs, levels, extra, sources={"input": f"c{top}"})
