"""Multi-level feature pyramid: Zhao et al., "M2Det", AAAI 2019, fig. 2, as the authors released it.

shallow ─3x3─┐                                        ┌──────────────────────────> finest of TUM 1 .. 8
             ├─ cat ─> base ─leach 1x1─┬─> TUM 1 ─────┤
deep ─1x1─up─┘                         └─cat─> TUM 2 ─┤       a level's output concatenates what all TUMs
                                            ▲   │     │       give for it; a gate over its channels (SFAM)
                     finest of the TUM before ──┘    ...      may follow

A TUM (thinned U-shaped module) goes down by 3x3 convolutions of stride 2, the last one without padding, and up
again by nearest neighbours, joining the map of each size through a 3x3 convolution; a 1x1 convolution smooths
each of its outputs.
"""

from __future__ import annotations

from nasneck.errors import GraphError
from nasneck.graph import Act, Edge, NeckGraph, Node, Norm, Resample, SqueezeExcite
from nasneck.graph.fusion import Concat
from nasneck.necks.conv_norm_act import ConvNormAct
from nasneck.necks.pyramid import LevelRange, backbone_features, check_flags, check_positive

_STYLE = ConvNormAct(Norm(momentum=0.01), Act("relu"), init="fan_out")


def mlfpn(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 8),
    *,
    tums: int = 8,
    sfam: bool = False,
    shared: bool = True,
    smooth: bool = True,
    valid: bool = True,
) -> NeckGraph:
    """MLFPN of M2Det. Its outputs are ``tums`` times as wide as the neck.

    The authors' VGG has its deep feature on level 4 (``inputs=(3, 4)``); their ResNets lose a stride for that.

    Args:
        inputs: First and last level of the backbone; the finest of the neck's and the last one are read.
        levels: First and last level of the neck, at least three.
        tums: Number of TUMs.
        sfam: Scale-wise feature aggregation: squeeze-and-excitation of every output, with its ReLU narrowed 16
            times. The paper has it, the released configurations do not.
        shared: One set of weights for the 1x1 convolutions before all TUMs, and one for the gates of all levels,
            as the authors' code has it; else each its own.
        smooth: The 1x1 convolutions at the end of a TUM.
        valid: The last way down is a 3x3 convolution without padding, as published (5 to 3 cells); else it has
            stride 2 like the others, so that the coarsest level exists for small images too.

    Raises:
        GraphError: levels that do not fit.
    """
    check_positive("mlfpn", "tums", tums)
    check_flags("mlfpn", sfam=sfam, shared=shared, smooth=smooth, valid=valid)
    nodes, covered = backbone_features("mlfpn", inputs, levels, least=2, why="it joins a shallow and a deep feature")
    if levels[1] - levels[0] < 2:
        raise GraphError(f"mlfpn: a TUM needs at least three levels, not P{levels[0]}..P{levels[1]}")
    low, deep = covered[0], covered[-1]
    up = [*_STYLE(1, "channels*2"), Resample("nearest", to=f"c{low}")]
    nodes.append(Node("base", low, Concat(), [Edge(f"c{low}", _STYLE(3)), Edge(f"c{deep}", up)]))
    every = range(levels[0], levels[1] + 1)
    found: dict[int, list[str]] = {level: [] for level in every}
    for number in range(tums):
        share = "leach0" if shared and number else None
        leach = f"leach{number}"
        nodes.append(Node(leach, low, "sum", [Edge("base", ())], _STYLE(1, "channels/2"), shares=share))
        entry = leach
        if number:
            entry = f"t{number}_in"
            nodes.append(Node(entry, low, Concat(), [Edge(leach, ()), Edge(found[low][-1], ())]))
        made, outs = tum(f"t{number}", entry, every, smooth=smooth, valid=valid)
        nodes += made
        for level in every:
            found[level].append(outs[level])
    for level in every:
        edges = [Edge(source, ()) for source in found[level]]
        gate = [SqueezeExcite("input/16")] if sfam else []
        share = f"joined{low}" if sfam and shared and level > low else None
        name = f"joined{level}" if level == low else f"p{level}"
        nodes.append(Node(name, level, Concat(), edges, gate, shares=share))
    # only the finest level is normalised
    nodes.append(Node(f"p{low}", low, "sum", [Edge(f"joined{low}", ())], [Norm()]))
    return NeckGraph(nodes, outputs={level: f"p{level}" for level in every}, name="mlfpn")


def tum(prefix: str, source: str, every: range, *, smooth: bool, valid: bool) -> tuple[list[Node], dict[int, str]]:
    """The nodes of a thinned U-shaped module over the levels ``every``, and its output on each of them.

    Args:
        prefix: Of the names of its nodes.
        source: What it reads, a map of the finest level.
        every: Its levels.
        smooth: As for :func:`mlfpn`.
        valid: Likewise.
    """
    low, top = every[0], every[-1]
    nodes: list[Node] = []
    encoded = {low: source}
    for level in every[1:]:
        last = level == top
        ops = _STYLE(3, valid=True) if last and valid else _STYLE(3, stride=2)
        encoded[level] = f"{prefix}_e{level}"
        nodes.append(Node(encoded[level], level, "sum", [Edge(encoded[level - 1], ops)]))
    decoded = {top: f"{prefix}_d{top}"}
    nodes.append(Node(decoded[top], top, "sum", [Edge(encoded[top], _STYLE(1))]))
    for level in reversed(every[:-1]):
        decoded[level] = f"{prefix}_d{level}"
        edges = [
            Edge(decoded[level + 1], [Resample("nearest", to=encoded[level])]),
            Edge(encoded[level], _STYLE(3)),
        ]
        nodes.append(Node(decoded[level], level, "sum", edges))
    if not smooth:
        return nodes, decoded
    out = {top: decoded[top]}
    for level in every[:-1]:
        out[level] = f"{prefix}_p{level}"
        nodes.append(Node(out[level], level, "sum", [Edge(decoded[level], ())], _STYLE(1)))
    return nodes, out
