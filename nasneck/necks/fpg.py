"""Feature pyramid grids: Chen et al., "Feature Pyramid Grids", arXiv 2004.03580, 2020.

Several bottom-up pathways side by side. A node joins, each by a ReLU, convolution and norm of its own,

    same      the level below in its own pathway, brought down by a 3x3 convolution of stride 2;
    lateral   its level in the pathway before, 1x1;
    down      the level above in the pathway before, enlarged, 3x3;
    skip      its level in the first pathway (the laterals), 1x1.

Low levels join late: on the finest level of five the first four pathways just pass their map on, on the next
one the first three, and so on.
"""

from __future__ import annotations

from nasneck.errors import GraphError
from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, Norm, Op, Pool, Resample
from nasneck.necks.pyramid import LevelRange, backbone_features, check_flags, check_positive, check_range


def fpg(
    inputs: LevelRange = (3, 5), levels: LevelRange = (3, 7), *, stacks: int = 9, extra_convs: bool = True
) -> NeckGraph:
    """FPG in the form that mmdet publishes weights of: all pathways bottom-up.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck.
        stacks: Number of pathways, more than there are levels above the finest.
        extra_convs: Make levels above the backbone's by 3x3 convolutions of stride 2 (mmdet's RetinaNet), not by
            taking every second cell (its Faster R-CNN).

    Raises:
        GraphError: too few pathways for a level to join.
    """
    check_positive("fpg", "stacks", stacks)
    check_flags("fpg", extra_convs=extra_convs)
    check_range("fpg", "levels", levels)
    if stacks <= levels[1] - levels[0]:
        raise GraphError(
            f"fpg: the finest level P{levels[0]} would never join another in stacks={stacks} pathways; "
            f"P{levels[0]}..P{levels[1]} need at least {levels[1] - levels[0] + 1}"
        )
    nodes, covered = backbone_features("fpg", inputs, levels)
    every = range(levels[0], levels[1] + 1)
    for level in every:
        if level in covered:
            edge = Edge(f"c{level}", [Conv(1)])
        else:
            edge = Edge(f"lat{level - 1}", [Conv(3, stride=2) if extra_convs else Pool("max", 1, 2, padding=0)])
        nodes.append(Node(f"lat{level}", level, "sum", [edge]))
    current = {level: f"lat{level}" for level in every}
    for stack in range(stacks):
        before = dict(current)
        for level in every:
            if stack < levels[1] - level:
                continue  # this level passes its map on
            edges = [
                *([_down(current[level - 1], level)] if level > every[0] else []),
                Edge(before[level], _transition(1)),
                *([_up(before[level + 1], level)] if level < every[-1] else []),
                Edge(f"lat{level}", _transition(1)),
            ]
            current[level] = f"s{stack}_p{level}"
            nodes.append(Node(current[level], level, "sum", edges))
    for level in every:
        nodes.append(Node(f"p{level}", level, "sum", [Edge(current[level], [Act("relu"), Conv(3)])]))
    return NeckGraph(nodes, outputs={level: f"p{level}" for level in every}, name="fpg")


def _transition(kernel: int, *, stride: int = 1) -> list[Op]:
    return [Act("relu"), Conv(kernel, stride=stride, bias=False), Norm()]


def _down(source: str, level: int) -> Edge:
    return Edge(source, [*_transition(3, stride=2), Resample("nearest", to=f"lat{level}")])


def _up(source: str, level: int) -> Edge:
    return Edge(source, [Resample("nearest", to=f"lat{level}"), *_transition(3)])
