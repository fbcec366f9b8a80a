"""The NAS-FPN search space: Ghiasi et al., "NAS-FPN", CVPR 2019, section 3.1.

A repeat over n levels has some intermediate cells and then n output cells, one per level. Every cell
decides, in this order (the paper's): its two distinct inputs among all earlier maps, its level, its fusion.
The order in which the output cells are built is searched, because a later cell may read an earlier one.

    cell0.inputs  index of an unordered pair of map ids (a < b), in lexicographic order
    cell0.level   intermediate cells: index into their levels
                  output cells: index among the levels still without output (Lehmer code of the order);
                  the last one has no choice and no decision
    cell0.op      index into the ops
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from nasneck.decision import Choices, Decision
from nasneck.errors import GraphError, SpaceError
from nasneck.graph import NeckGraph
from nasneck.graph.fusion import FUSIONS, Concat, Fusion, Input
from nasneck.graph.spec import fusion_from_spec
from nasneck.necks.merging import Dialect, ExtraFrom, MergingCell, build_pyramid
from nasneck.settings import did_you_mean
from nasneck.space.base import SearchSpace
from nasneck.space.encode import smallest_cells


@dataclass(frozen=True, repr=False)
class MergingCellSpace(SearchSpace):
    """Pyramids of merging cells.

    Args:
        name: Name of the space.
        inputs: First and last level of the backbone.
        levels: First and last level of the neck.
        intermediate: Number of intermediate cells, built before the outputs.
        intermediate_levels: Levels open to them; empty for all. Google's released space leaves out the
            finest.
        ops: Names of the fusions to choose from.
        repeats: Times the cells are applied, with weights of their own.
        loose: Whether output cells join the maps of their level that nothing has read.
        dialect, extra_from, bias, separable: As for :func:`nasneck.necks.merging.build_pyramid`.

    Raises:
        SpaceError: settings that leave nothing to search or name something unknown.
    """

    name: str = "nas_fpn"
    inputs: tuple[int, int] = (3, 5)
    levels: tuple[int, int] = (3, 7)
    intermediate: int = 2
    intermediate_levels: tuple[int, ...] = ()
    ops: tuple[str, ...] = ("sum", "attention")
    repeats: int = 3
    loose: bool = True
    dialect: Dialect = "reference"
    extra_from: ExtraFrom = "p5"
    bias: bool = True
    separable: bool = False
    decisions: tuple[Decision, ...] = field(init=False, repr=False, compare=False)
    fusions: tuple[Fusion, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        low, high = self.levels
        if not self.intermediate_levels:
            object.__setattr__(self, "intermediate_levels", tuple(range(low, high + 1)))
        self._check()
        object.__setattr__(self, "fusions", tuple(fusion_from_spec(op, where="ops") for op in self.ops))
        object.__setattr__(self, "decisions", tuple(self._decide()))
        try:
            self.decode([0] * len(self.decisions))
        except GraphError as error:
            raise SpaceError(f"space {self.name!r} cannot be decoded: {error}") from None

    def decode(self, choices: Sequence[int]) -> NeckGraph:
        """Return the graph of ``choices``, with ``repeats`` repeats."""
        return self.build(self.cells(choices))

    def encode(self, graph: NeckGraph) -> Choices:
        """Return the lexicographically smallest choices that give the key of ``graph``."""
        cells = smallest_cells(self, graph)
        if cells is None:
            raise SpaceError(f"{graph!r} is not in the space {self.name!r} ({self.describe()})")
        return self.choices(cells)

    def build(self, cells: Sequence[MergingCell]) -> NeckGraph:
        """Return the graph of ``cells`` under the settings of this space."""
        return build_pyramid(
            cells,
            inputs=self.inputs,
            levels=self.levels,
            repeats=self.repeats,
            dialect=self.dialect,
            extra_from=self.extra_from,
            loose=self.loose,
            bias=self.bias,
            separable=self.separable,
            name=self.name,
        )

    def cells(self, choices: Sequence[int]) -> tuple[MergingCell, ...]:
        """Return the cells of one repeat that ``choices`` stand for."""
        left = iter(self.check(choices))
        cells: list[MergingCell] = []
        for i in range(self.count):
            output = i >= self.intermediate
            pairs, levels = self.pairs(i), self.open_levels(cells)
            inputs = pairs[next(left) if len(pairs) > 1 else 0]
            level = levels[next(left) if len(levels) > 1 else 0]
            op = self.fusions[next(left) if len(self.fusions) > 1 else 0]
            cells.append(MergingCell(level, op, inputs, output))
        return tuple(cells)

    def choices(self, cells: Sequence[MergingCell]) -> Choices:
        """Inverse of :meth:`cells`.

        Raises:
            SpaceError: cells that the decisions cannot express.
        """
        found: list[int] = []
        for i, cell in enumerate(cells[: self.count]):
            pairs, levels = self.pairs(i), self.open_levels(cells[:i])
            pair = min(cell.inputs), max(cell.inputs)
            if pair not in pairs or cell.level not in levels or cell.op not in self.fusions:
                raise SpaceError(f"cell {i}: {cell} is not in the space {self.name!r} ({self.describe()})")
            if len(pairs) > 1:
                found.append(pairs.index(pair))
            if len(levels) > 1:
                found.append(levels.index(cell.level))
            if len(self.fusions) > 1:
                found.append(self.fusions.index(cell.op))
        return self.check(found)

    def pairs(self, cell: int) -> list[tuple[int, int]]:
        """Pairs of map ids open to cell number ``cell``, in the order of their choices."""
        return list(combinations(range(len(self._output_levels) + cell), 2))

    def open_levels(self, before: Sequence[MergingCell]) -> list[int]:
        """Levels open to the cell that follows ``before``, in the order of their choices."""
        if len(before) < self.intermediate:
            return list(self.intermediate_levels)
        taken = {cell.level for cell in before if cell.output}
        return [level for level in self._output_levels if level not in taken]

    @property
    def count(self) -> int:
        """Number of cells in a repeat."""
        return self.intermediate + len(self._output_levels)

    def describe(self) -> str:
        """The settings that decide which graphs are in the space, as text."""
        values: dict[str, Any] = {
            "inputs": self.inputs,
            "levels": self.levels,
            "intermediate": self.intermediate,
            "intermediate levels": self.intermediate_levels,
            "ops": self.ops,
            "repeats": self.repeats,
        }
        return ", ".join(f"{name} {value}" for name, value in values.items())

    @property
    def _output_levels(self) -> range:
        return range(self.levels[0], self.levels[1] + 1)

    def _decide(self) -> list[Decision]:
        decisions: list[Decision] = []
        for i in range(self.count):
            output = i >= self.intermediate
            levels = self.count - i if output else len(self.intermediate_levels)
            numbers = {"inputs": len(self.pairs(i)), "level": levels, "op": len(self.fusions)}
            decisions += [Decision(f"cell{i}.{kind}", n, kind) for kind, n in numbers.items() if n > 1]
        return decisions

    def _check(self) -> None:
        if self.levels[1] <= self.levels[0]:
            raise SpaceError(f"levels={self.levels!r}: a first and a coarser last level are wanted")
        if self.intermediate < 0:
            raise SpaceError(f"intermediate={self.intermediate} is negative")
        unknown = [level for level in self.intermediate_levels if level not in self._output_levels]
        if unknown:
            raise SpaceError(f"intermediate level {unknown[0]} is not one of {list(self._output_levels)}")
        if len(set(self.intermediate_levels)) < len(self.intermediate_levels):
            raise SpaceError(f"intermediate_levels={self.intermediate_levels!r}: each once")
        if not self.ops or len(set(self.ops)) < len(self.ops):
            raise SpaceError(f"ops={self.ops!r}: at least one name is wanted, each once")
        known = [name for name, op in FUSIONS.items() if op not in (Input, Concat)]
        for op in self.ops:
            if op not in known:
                raise SpaceError(f"unknown op {op!r}{did_you_mean(op, known)}")
