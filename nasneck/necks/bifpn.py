"""Weighted bidirectional FPN: Tan et al., "EfficientDet", CVPR 2020, fig. 2d and section 3.

One repeat over P3..P7 (nodes with their ids in google/automl, efficientdet/tf2/fpn_configs.py):

    P7 (4) ───────────────────────────> P7" (12)
      └───────┐                           ▲
    P6 (3) ─> P6' (5) ────────────────> P6" (11)     each node: weighted fusion, SiLU,
               │                          ▲          separable 3x3 convolution, norm
    P5 (2) ─> P5' (6) ────────────────> P5" (10)
               │                          ▲          P4"..P6" read the repeat's input too
    P4 (1) ─> P4' (7) ────────────────> P4" (9)
               └──────────┐               ▲
    P3 (0) ────────────> P3" (8) ─────────┘
"""

from __future__ import annotations

from typing import Literal

from nasneck.errors import GraphError
from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, Norm, Op, Pool, Project, Resample
from nasneck.necks.pyramid import LevelRange, backbone_features, check_range

_NORM = Norm(eps=1e-3, momentum=0.01)


def bifpn(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 7),
    *,
    repeats: int = 3,
    fusion: Literal["fast_normalized", "softmax", "sum"] = "fast_normalized",
    separable: bool = True,
    bias: bool = False,
    padding: Literal["symmetric", "same"] = "symmetric",
) -> NeckGraph:
    """BiFPN as in EfficientDet.

    In the first repeat every edge from a backbone feature has its own 1x1 convolution and norm, so a feature
    read twice is projected twice; the convolution comes before pooling.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck.
        repeats: Times the bidirectional layer is applied, with weights of its own.
        fusion: ``fast_normalized`` (D0-D5), ``softmax``, or ``sum`` (D6, D7).
        separable: Separable 3x3 convolutions (else full ones).
        bias: Biases on the convolutions before norms, as TensorFlow's weights have them.
        padding: Of the 3x3 max pools of stride 2: ``symmetric`` (effdet's own weights) or TensorFlow's
            ``same``.
    """
    if repeats < 1:
        raise GraphError(f"repeats={repeats} is not at least 1")
    if fusion not in ("fast_normalized", "softmax", "sum"):
        raise GraphError(f"fusion={fusion!r} is not 'fast_normalized', 'softmax' or 'sum'")
    if padding not in ("symmetric", "same"):
        raise GraphError(f"padding={padding!r} is not 'symmetric' or 'same'")
    check_range("levels", levels)
    if levels[0] == levels[1]:
        raise GraphError(f"a BiFPN needs at least two levels, not P{levels[0]} alone")
    pool = Pool("max", kernel=3, stride=2, padding="same" if padding == "same" else 1)
    project = Project(bias=bias, norm=_NORM, when="if_different", init="glorot")
    nodes, covered = backbone_features(inputs, levels)
    current = {level: f"c{level}" for level in covered}
    for level in range(covered[-1] + 1, levels[1] + 1):
        first = level == covered[-1] + 1
        ops: tuple[Op, ...] = (project, pool) if first else (pool,)
        nodes.append(Node(f"p{level}", level, "sum", (Edge(current[level - 1], ops),)))
        current[level] = f"p{level}"
    size_of = dict(current)
    layers = (Act("silu"), Conv(3, separable=separable, bias=bias, init="glorot"), _NORM)

    def edge(source: str, at: int, to: int) -> Edge:
        ops: list[Op] = [project] if source.startswith("c") else []
        if at < to:
            # The pool gives ceil(n / 2) cells; backbones that round down are met by the resample.
            ops += [pool, Resample("nearest", to=size_of[to])]
        elif at > to:
            ops.append(Resample("nearest", to=size_of[to]))
        return Edge(source, ops)

    low, high = levels
    for repeat in range(repeats):
        at: dict[int, str] = {high: current[high]}  # what the top-down path holds on each level
        for level in range(high - 1, low - 1, -1):
            name = f"r{repeat}_p{level}" if level == low else f"r{repeat}_p{level}_td"
            inputs_ = (edge(current[level], level, level), edge(at[level + 1], level + 1, level))
            nodes.append(Node(name, level, fusion, inputs_, layers))
            at[level] = name
        done = {low: at[low]}
        for level in range(low + 1, high + 1):
            inputs_ = [edge(current[level], level, level)]
            if level != high:
                inputs_.append(edge(at[level], level, level))
            inputs_.append(edge(done[level - 1], level - 1, level))
            nodes.append(Node(f"r{repeat}_p{level}", level, fusion, inputs_, layers))
            done[level] = f"r{repeat}_p{level}"
        current = done
    return NeckGraph(nodes, outputs=current, name="bifpn")
