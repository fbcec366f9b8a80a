"""Feature pyramid network: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, fig. 3.

c5 ─1x1─> td5 ────────> p5 ─> p6 ─> p7
           │ up
c4 ─1x1─> td4 ─3x3────> p4
           │ up
c3 ─1x1─> td3 ─3x3────> p3
"""

from __future__ import annotations

from nasneck.graph import Conv, Edge, NeckGraph, Node, Norm, Project, Resample
from nasneck.necks.pyramid import Extra, LevelRange, backbone_features, check_flags, finish


def fpn(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 7),
    *,
    extra: Extra = "output",
    extra_relu: bool = True,
    norm: bool = False,
) -> NeckGraph:
    """FPN as torchvision computes it, which equals mmdet's.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck.
        extra: How levels above the backbone's come about. ``output`` is RetinaNet's P6 and P7 (3x3 stride 2
            on the last output), ``input`` the same on the last backbone feature (torchvision's
            ``LastLevelP6P7(2048, 256)``), ``pool`` is torchvision's ``LastLevelMaxPool``, ``lateral`` is
            mmdet's ``on_lateral``.
        extra_relu: ReLU between the extra convolutions (torchvision yes, mmdet by default no).
        norm: Normalise after every lateral and output convolution, which then have no bias.
    """
    check_flags("fpn", extra_relu=extra_relu, norm=norm)
    features, covered = backbone_features("fpn", inputs, levels)
    core = top_down(covered, norm=norm)
    outputs = {level: f"p{level}" for level in covered}
    sources: dict[Extra, str] = {"input": f"c{covered[-1]}", "lateral": f"td{covered[-1]}"}
    return finish("fpn", [*features, *core], outputs, levels, extra, relu=extra_relu, sources=sources)


def top_down(covered: list[int], *, norm: bool, out: str = "p") -> list[Node]:
    """The nodes ``td<level>`` (lateral plus the coarser map) and ``<out><level>`` (3x3 convolution)."""
    slot = Norm() if norm else None
    nodes: list[Node] = []
    for level in reversed(covered):
        lateral = Edge(f"c{level}", (Project(bias=not norm, norm=slot),))
        edges = [lateral]
        if level != covered[-1]:
            edges.append(Edge(f"td{level + 1}", (Resample("auto", to=f"c{level}"),)))
        nodes.append(Node(f"td{level}", level, "sum", edges))
    for level in covered:
        layers = (Conv(3, bias=not norm), Norm()) if norm else (Conv(3),)
        nodes.append(Node(f"{out}{level}", level, "sum", (Edge(f"td{level}", ()),), layers))
    return nodes
