"""MnasFPN: Chen et al., "MnasFPN: Learning Latency-aware Pyramid Architecture for Object Detection", CVPR 2020.

The cell is that of tensorflow/models, research/object_detection (ssd_mobilenet_v2_mnasfpn_feature_extractor.py).
Ids 0..3 are P3..P6 and the blocks append 4..8; the last four are the cell's outputs, to each of which the cell's
input of that level is added.

    4: P4 <- 1 + 2     5: P3 <- 0 + 4     6: P4 <- 5 + 4     7: P5 <- 4 + 3     8: P6 <- 4 + 3

Each input is expanded by a 1x1 convolution and norm on the smaller of the two sizes: before it is enlarged, but
after it is pooled. The sum goes through ReLU6, a separable convolution and norm.
"""

from __future__ import annotations

from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, Norm, Op, Pool, Resample
from nasneck.necks.pyramid import LevelRange, backbone_features, check_positive, finish

# Inputs, level above the finest, side of the convolution, width of the expansion.
_BLOCKS = (
    ((1, 2), 1, 3, 256),
    ((0, 4), 0, 3, 128),
    ((5, 4), 1, 3, 128),
    ((4, 3), 2, 5, 128),
    ((4, 3), 3, 3, 96),
)
_LEVELS = 4
_NORM = Norm(eps=0.01, momentum=0.01)


def mnasfpn(inputs: LevelRange = (3, 5), levels: LevelRange = (3, 6), *, repeats: int = 4) -> NeckGraph:
    """MnasFPN; the published width is 48.

    In the first cell only the map that the neck makes itself has a residual: the published backbone's features
    have other widths than the neck.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck. The cells join its four finest, of which the backbone must give
            three; further levels take every second cell of the last.
        repeats: Number of cells.
    """
    check_positive("mnasfpn", "repeats", repeats)
    nodes, covered = backbone_features(
        "mnasfpn", inputs, levels, least=3, why="its cells join four levels, one of which it can make itself"
    )
    every = list(range(levels[0], levels[0] + _LEVELS))
    names = {level: f"c{level}" for level in covered}
    if every[-1] not in names:
        ops = [Pool("max", kernel=3, stride=2, padding="same"), Conv(1, bias=False), _NORM]
        names[every[-1]] = f"p{every[-1]}"
        nodes.append(Node(names[every[-1]], every[-1], "sum", [Edge(names[every[-2]], ops)]))
    current = [names[level] for level in every]
    size_of = dict(zip(every, current, strict=True))
    for repeat in range(repeats):
        maps = list(zip(current, every, strict=True))
        for number, (pair, above, kernel, expansion) in enumerate(_BLOCKS):
            level = every[0] + above
            output = number >= len(_BLOCKS) - _LEVELS
            before = current[above]
            residual = output and not before.startswith("c")
            name = f"r{repeat}_p{level}" if output else f"r{repeat}_mid"
            edges = [_edge(*maps[source], level, expansion, size_of) for source in pair]
            layers = [Act("relu6"), Conv(kernel, separable=True, bias=False), _NORM]
            own = f"{name}_cell" if residual else name
            nodes.append(Node(own, level, "sum", edges, layers))
            if residual:
                nodes.append(Node(name, level, "sum", [Edge(own, ()), Edge(before, ())]))
            maps.append((own, level))
        # Blocks read each other's values before the residuals; the next cell reads those with them.
        current = [f"r{repeat}_p{level}" for level in every]
    outputs = {level: name for level, name in zip(every, current, strict=True) if level <= levels[1]}
    return finish("mnasfpn", nodes, outputs, levels, "pool")


def _edge(source: str, at: int, to: int, expansion: int, size_of: dict[int, str]) -> Edge:
    expand: list[Op] = [Conv(1, width=expansion, bias=False), _NORM]
    if at < to:
        pool = Pool("max", kernel=3, stride=2 ** (to - at), padding="same")
        return Edge(source, [pool, *expand, Resample("nearest", to=size_of[to])])
    return Edge(source, expand if at == to else [*expand, Resample("nearest", to=size_of[to])])
