"""Pyramids of merging cells: the form of every network in the NAS-FPN search space.

Ghiasi et al., "NAS-FPN", CVPR 2019, section 3. A repeat takes one map per level, finest first, with ids
0..n-1; each cell joins two earlier maps at a level of its own and appends the next id; the output cells, one
per level, are the next repeat's input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from nasneck.errors import GraphError
from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, Norm, Op, Pool, Project, Resample
from nasneck.graph.fusion import Fusion, Sum
from nasneck.necks.pyramid import LevelRange, backbone_features, check_choice, check_positive, check_range

Dialect = Literal["reference", "mmdet"]
ExtraFrom = Literal["p5", "c5"]
Rounding = Literal["ceil", "floor"]


@dataclass(frozen=True, slots=True)
class MergingCell:
    """One cell: the ids of its two maps, its level, its fusion, and whether it is an output."""

    level: int
    op: Fusion
    inputs: tuple[int, int]
    output: bool


def build_pyramid(
    cells: Sequence[MergingCell],
    *,
    inputs: LevelRange,
    levels: LevelRange,
    repeats: int,
    dialect: Dialect = "reference",
    extra_from: ExtraFrom = "p5",
    loose: bool = True,
    bias: bool = True,
    separable: bool = False,
    rounding: Rounding = "ceil",
    name: str = "merging cells",
) -> NeckGraph:
    """Return the graph of ``repeats`` times the same ``cells`` with weights of their own.

    Args:
        cells: The cells of one repeat, in the order in which they are built.
        inputs: First and last level of the backbone.
        levels: First and last level of the neck.
        repeats: Times the cells are applied.
        dialect: ``reference`` or mmdet's way of making the extra levels, with its norm constants.
        extra_from: In the reference dialect, whether levels above the backbone's are pooled from the
            projected top map (Google's public code) or from the backbone feature, each with its own 1x1
            convolution (the paper, after SimpleDet).
        loose: Whether an output cell also sums the maps of its level that nothing has read so far. The count
            is taken while building, as Google's code does: a map that only a later cell reads is still loose.
        bias: Bias in the cells' convolutions (without effect before a norm, but counted).
        separable: Separable convolutions in the cells (NAS-FPNLite).
        rounding: In mmdet's dialect, whether the extra levels have half the cells rounded up, so that small
            images keep them, or rounded down, as mmdet has it.
        name: Name of the graph.

    Raises:
        GraphError: cells that do not make a pyramid of ``levels``.
    """
    check_positive(name, "repeats", repeats)
    check_range(name, "levels", levels)
    _check_cells(cells, range(levels[0], levels[1] + 1))
    nodes = pyramid_inputs(inputs, levels, dialect=dialect, extra_from=extra_from, rounding=rounding, neck=name)
    size_of = {level: f"p{level}" for level in range(levels[0], levels[1] + 1)}
    current: Mapping[int, str] = size_of
    layers = cell_layers(dialect=dialect, bias=bias, separable=separable)
    for repeat in range(repeats):
        current = _add_repeat(nodes, cells, current, size_of, layers, prefix=f"r{repeat}_", loose=loose)
    return NeckGraph(nodes, outputs=current, name=name)


@lru_cache(maxsize=64)
def cell_layers(*, dialect: Dialect, bias: bool, separable: bool) -> tuple[Op, ...]:
    """What follows the fusion in every cell."""
    return Act("relu"), Conv(3, bias=bias, separable=separable), _norm(dialect)


def pyramid_inputs(
    inputs: LevelRange,
    levels: LevelRange,
    *,
    dialect: Dialect,
    extra_from: ExtraFrom,
    rounding: Rounding = "ceil",
    neck: str = "merging cells",
) -> list[Node]:
    """The backbone features and the maps ``p<level>``, one a level, that the first repeat reads.

    A feature that already has the neck's width stays as it is in the reference dialect (tensorflow/tpu,
    ``resample_feature_map``); mmdet always projects.
    """
    check_choice(neck, "dialect", dialect, ("reference", "mmdet"))
    check_choice(neck, "extra_from", extra_from, ("p5", "c5"))
    check_choice(neck, "rounding", rounding, ("ceil", "floor"))
    if extra_from == "c5" and dialect == "mmdet":
        raise GraphError(f"{neck}: mmdet makes its extra levels from P5; extra_from='c5' is the reference dialect's")
    if rounding == "floor" and dialect != "mmdet":
        raise GraphError(f"{neck}: rounding='floor' is mmdet's; the {dialect} dialect has no such form")
    norm = _norm(dialect)
    always = Project(bias=False, norm=norm)
    project = always if dialect == "mmdet" else Project(bias=False, norm=norm, when="if_different")
    nodes, covered = backbone_features(neck, inputs, levels)
    nodes += [Node(f"p{level}", level, "sum", (Edge(f"c{level}", (project,)),)) for level in covered]
    for level in range(covered[-1] + 1, levels[1] + 1):
        if dialect == "mmdet":
            pool = Pool("max", kernel=2, stride=2, padding=0, ceil=rounding == "ceil")
            edge = Edge(f"p{level - 1}", (always, pool))
        elif extra_from == "c5":
            edge = Edge(f"c{covered[-1]}", (Resample("auto"), project))
        else:
            edge = Edge(f"p{level - 1}", (Resample("auto"),))
        nodes.append(Node(f"p{level}", level, "sum", (edge,)))
    return nodes


def _add_repeat(
    nodes: list[Node],
    cells: Iterable[MergingCell],
    current: Mapping[int, str],
    size_of: Mapping[int, str],
    layers: tuple[Op, ...],
    *,
    prefix: str,
    loose: bool,
) -> dict[int, str]:
    maps = [(name, level) for level, name in sorted(current.items())]  # by id
    uses = [0] * len(maps)
    outputs: dict[int, str] = {}
    for i, cell in enumerate(cells):
        for source in cell.inputs:
            uses[source] += 1
        name = f"{prefix}p{cell.level}" if cell.output else f"{prefix}mid{i}"
        added = find_loose([level for _, level in maps], uses, cell) if loose else []
        for source in added:
            uses[source] += 1
        nodes += cell_nodes(name, cell, maps, added, size_of, layers)
        maps.append((name, cell.level))
        uses.append(0)
        if cell.output:
            outputs[cell.level] = name
    return outputs


def cell_nodes(
    name: str,
    cell: MergingCell,
    maps: Sequence[tuple[str, int]],
    added: Sequence[int],
    size_of: Mapping[int, str],
    layers: tuple[Op, ...],
) -> list[Node]:
    """The nodes of one cell: itself, and before it the bare fusion if loose maps are summed to that.

    Args:
        name: Name of the cell's node.
        cell: The cell.
        maps: Name and level of every map so far, by id.
        added: Ids of the loose maps that it adds.
        size_of: Node that has the size of each level.
        layers: What follows the fusion.
    """
    pair = [_edge(*maps[source], cell.level, size_of) for source in cell.inputs]
    rest = [_edge(*maps[source], cell.level, size_of) for source in added]
    if not rest or isinstance(cell.op, Sum):
        return [Node(name, cell.level, cell.op, [*pair, *rest], layers)]
    merged = Node(f"{name}_merge", cell.level, cell.op, pair)
    return [merged, Node(name, cell.level, Sum(), [Edge(merged.name, ()), *rest], layers)]


def find_loose(levels: Sequence[int], uses: Sequence[int], cell: MergingCell) -> list[int]:
    """Ids of the maps that ``cell`` adds because nothing has read them so far.

    ``levels`` and ``uses`` describe the maps built before it; its own two inputs must be counted already.
    """
    if not cell.output:
        return []
    return [i for i, (level, used) in enumerate(zip(levels, uses, strict=True)) if used == 0 and level == cell.level]


def _norm(dialect: Dialect) -> Norm:
    # the Model Garden's constants (tensorflow/models, decoders/nasfpn.py); mmdet has torch's
    return Norm() if dialect == "mmdet" else Norm(eps=1e-3, momentum=0.01)


def _edge(source: str, at: int, to: int, size_of: Mapping[int, str]) -> Edge:
    return Edge(source, () if at == to else (Resample("auto", to=size_of[to]),))


def _check_cells(cells: Sequence[MergingCell], levels: range) -> None:
    for i, cell in enumerate(cells):
        known = len(levels) + i
        first, second = cell.inputs
        if not 0 <= first < known or not 0 <= second < known or first == second:
            raise GraphError(f"cell {i}: inputs {cell.inputs} are not two different ids below {known}")
        if cell.level not in levels:
            raise GraphError(f"cell {i}: level {cell.level} is not one of P{levels[0]}..P{levels[-1]}")
    found = sorted(cell.level for cell in cells if cell.output)
    if found != list(levels):
        raise GraphError(f"the output cells lie on levels {found}; one on each of {list(levels)} is wanted")
