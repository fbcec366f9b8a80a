"""SpineNet's scale-permuted blocks: Du et al., "SpineNet", CVPR 2020, fig. 3 and table 1.

SpineNet is a backbone that mixes resolutions as it goes; what comes after its stem is a graph like a neck's and
stands here as one: it reads the stem's feature of level 2 and gives P3..P7. Block specifications are those of
tensorflow/models, official/vision/modeling/backbones/spinenet.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from nasneck.errors import GraphError
from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, Norm, Op, Pool, Project, Resample
from nasneck.necks.paths import Padding
from nasneck.necks.pyramid import (
    LevelRange,
    backbone_features,
    check_choice,
    check_positive,
    check_share,
    sizes_by_subsampling,
)

_NORM = Norm(eps=1e-3, momentum=0.01)
_RELU = Act("relu")
_STEM = 2  # its level

# Level, whether a bottleneck (else a residual block), inputs by id, whether an output. Ids 0 and 1 are the stem's
# two blocks; the last block, the output of level 2, is left out as no published detector reads it.
_BLOCKS = (
    (2, True, (0, 1), False),
    (4, False, (0, 1), False),
    (3, True, (2, 3), False),
    (4, True, (2, 4), False),
    (6, False, (3, 5), False),
    (4, True, (3, 5), False),
    (5, False, (6, 7), False),
    (7, False, (6, 8), False),
    (5, True, (8, 9), False),
    (5, True, (8, 10), False),
    (4, True, (5, 10), True),
    (3, True, (4, 10), True),
    (5, True, (7, 12), True),
    (7, True, (5, 14), True),
    (6, True, (12, 14), True),
)
# Base widths of the blocks relative to the outputs (64, 128, 256 of 256 channels).
_BASE = {2: Fraction(1, 4), 3: Fraction(1, 2)}


@dataclass(frozen=True, slots=True)
class _Block:
    name: str
    level: int
    base: Fraction
    bottleneck: bool

    @property
    def width(self) -> Fraction:
        return self.base * (4 if self.bottleneck else 1)


def spinenet(
    inputs: LevelRange = (2, 2),
    levels: LevelRange = (3, 7),
    *,
    block_repeats: int = 1,
    alpha: float = 0.5,
    padding: Padding = "symmetric",
) -> NeckGraph:
    """The scale-permuted part of SpineNet-49, with its stem's two bottleneck blocks.

    All widths follow the neck's, which is 256 as published.

    Args:
        inputs: Levels of the backbone, level 2 among them; only that one is read (64 channels as published).
        levels: First and last level of the neck, within P3..P7.
        block_repeats: Blocks one after another in place of each (SpineNet-96: 2, -143: 3).
        alpha: Width inside the resampling, relative to the block's base width (SpineNet-143: 1).
        padding: Of convolutions and pools with a stride: ``symmetric``, or ``same`` for TensorFlow's.

    Raises:
        GraphError: levels outside of these.
    """
    check_positive("spinenet", "block_repeats", block_repeats)
    check_choice("spinenet", "padding", padding, ("symmetric", "same"))
    check_share("spinenet", "alpha", alpha)
    if not (inputs[0] <= _STEM <= inputs[1] and 3 <= levels[0] <= levels[1] <= 7):
        raise GraphError(
            f"spinenet: it reads C2 and gives levels within P3..P7; inputs={inputs!r}, levels={levels!r} do not fit"
        )
    nodes, _ = backbone_features("spinenet", inputs, (_STEM, levels[1]))
    # Upsampling may come before any block of its level.
    nodes += sizes_by_subsampling(_STEM, range(_STEM + 1, _highest_reached_from_above() + 1))[0]
    build = _Builder(nodes, block_repeats, Fraction(alpha).limit_denominator(1000), tf=padding == "same")
    blocks = [build.stem("stem0", "c2", project=True), build.stem("stem1", "stem0", project=False)]
    read = [0, 0]
    outputs: dict[int, str] = {}
    for number, (level, bottleneck, pair, output) in enumerate(_BLOCKS):
        block = _Block(f"b{number}", level, _BASE.get(level, Fraction(1)), bottleneck)
        edges = []
        for source in pair:
            edges.append(build.resampled(blocks[source], block))
            read[source] += 1
        if output:  # blocks that nothing has read join the output of their level
            for other, known in enumerate(blocks):
                if not read[other] and (known.level, known.width) == (level, block.width):
                    edges.append(Edge(known.name, ()))
                    read[other] += 1
        build.block(block, edges)
        blocks.append(block)
        read.append(0)
        if output and levels[0] <= level <= levels[1]:
            outputs[level] = f"p{level}"
            nodes.append(Node(f"p{level}", level, "sum", [Edge(block.name, ())], [Conv(1, bias=False), _NORM, _RELU]))
    return NeckGraph(nodes, outputs=outputs, name="spinenet")


class _Builder:
    """Adds blocks to ``nodes``."""

    def __init__(self, nodes: list[Node], repeats: int, alpha: Fraction, *, tf: bool) -> None:
        self.nodes, self.repeats, self.alpha, self.tf = nodes, repeats, alpha, tf

    def stem(self, name: str, source: str, *, project: bool) -> _Block:
        block = _Block(name, _STEM, _BASE[_STEM], True)
        self._chain(block, source, project=project)
        return block

    def block(self, block: _Block, edges: list[Edge]) -> None:
        joined = f"{block.name}_in"
        self.nodes.append(Node(joined, block.level, "sum", edges, [_RELU]))
        self._chain(block, joined, project=False)

    def resampled(self, source: _Block, block: _Block) -> Edge:
        """``source`` at the size and width of ``block``: narrowed, resized, widened."""
        inner = _width(source.base * self.alpha)
        ops: list[Op] = [Conv(1, width=inner, bias=False), _NORM, _RELU]
        octaves = block.level - source.level
        if octaves > 0:
            padding = "same_tf" if self.tf else "same"
            ops += [Conv(3, stride=2, width=inner, bias=False, padding=padding), _NORM, _RELU]
            ops += [Pool("max", kernel=3, stride=2, padding="same" if self.tf else 1)] * (octaves - 1)
        elif octaves < 0:
            ops.append(Resample("nearest", to=_size(block.level)))
        return Edge(source.name, [*ops, Conv(1, width=_width(block.width), bias=False), _NORM])

    def _chain(self, block: _Block, source: str, *, project: bool) -> None:
        base, width = _width(block.base), _width(block.width)
        for repeat in range(self.repeats):
            last = repeat == self.repeats - 1
            name = block.name if last else f"{block.name}_{repeat}"
            three = [Conv(3, width=base, bias=False), _NORM]
            if block.bottleneck:
                body: list[Op] = [Conv(1, width=base, bias=False), _NORM, _RELU, *three, _RELU]
                body += [Conv(1, width=width, bias=False), _NORM]
            else:
                body = [*three, _RELU, *three]
            self.nodes.append(Node(f"{name}_body", block.level, "sum", [Edge(source, ())], body))
            short = [Project(width, bias=False, norm=_NORM, when="if_different")] if project and repeat == 0 else []
            self.nodes.append(Node(name, block.level, "sum", [Edge(f"{name}_body", ()), Edge(source, short)], [_RELU]))
            source = name


def _highest_reached_from_above() -> int:
    """The coarsest level that some block brings a coarser one to."""
    levels = [_STEM, _STEM, *(level for level, _, _, _ in _BLOCKS)]
    return max(level for level, _, pair, _ in _BLOCKS if any(levels[source] > level for source in pair))


def _size(level: int) -> str:
    return "c2" if level == _STEM else f"size{level}"


def _width(share: Fraction) -> str:
    if share.denominator == 1:
        return "channels" if share == 1 else f"channels*{share.numerator}"
    return f"channels/{share.denominator}" if share.numerator == 1 else f"channels*{float(share):g}"
