"""From a graph back to merging cells: the smallest choices that build a graph of equal key.

The search builds the first repeat cell by cell and tries the choices of each cell in their order. A choice is
followed only if its cell, with all above it, occurs in the graph; the first complete vector whose graph has
the key wanted is therefore the lexicographically smallest. Cells have few places where they fit, so there is
little to back up from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from nasneck.graph import NeckGraph
from nasneck.graph.fusion import Input
from nasneck.graph.liveness import read_nodes
from nasneck.graph.terms import Term, Terms
from nasneck.necks.merging import MergingCell, cell_layers, cell_nodes, find_loose, pyramid_inputs

if TYPE_CHECKING:
    from nasneck.space.merging_cells import MergingCellSpace


@dataclass(frozen=True, slots=True)
class _State:
    """A prefix of a repeat: its maps with their terms and uses, and what of the graph is left to find."""

    cells: tuple[MergingCell, ...]
    maps: tuple[tuple[str, int], ...]
    uses: tuple[int, ...]
    known: dict[str, Term]
    left: Counter[int]
    dead: int


def smallest_cells(space: MergingCellSpace, graph: NeckGraph) -> tuple[MergingCell, ...] | None:
    """Return the cells of the smallest choices that decode to the key of ``graph``, or None."""
    terms = Terms()
    wanted = _cell_terms(terms, graph)
    dead = space.repeats * space.count - wanted.total()
    if dead < 0 or (space.loose and dead):
        return None  # with the loose rule no cell is ever unread
    prelude = pyramid_inputs(space.inputs, space.levels, dialect=space.dialect, extra_from=space.extra_from)
    known: dict[str, Term] = {}
    for node in prelude:
        known[node.name] = terms.of(node, known)
    maps = tuple((node.name, node.level or 0) for node in prelude if not isinstance(node.op, Input))
    start = _State((), maps, (0,) * len(maps), known, wanted, 0)
    # Few unread cells first: a wrong guess that a cell is unread is only found out at the end.
    for budget in range(min(dead, space.count) + 1):
        found = next(_complete(space, graph, terms, replace(start, dead=budget)), None)
        if found is not None:
            return found
    return None


def _cell_terms(terms: Terms, graph: NeckGraph) -> Counter[int]:
    """How often each term of a cell occurs among the nodes that the outputs read."""
    read = read_nodes(graph, graph.outputs.values())
    known: dict[str, Term] = {}
    found: Counter[int] = Counter()
    for node in graph.nodes:
        known[node.name] = terms.of(node, known)
        if node.layers and node.name in read:
            found[known[node.name].number] += 1
    return found


def _complete(
    space: MergingCellSpace, graph: NeckGraph, terms: Terms, state: _State
) -> Iterator[tuple[MergingCell, ...]]:
    """Completions of ``state`` with exactly ``state.dead`` unread cells, in the order of their choices."""
    if len(state.cells) == space.count:
        if state.dead == 0 and space.build(state.cells).key() == graph.key():
            yield state.cells
        return
    if state.dead > space.count - len(state.cells):
        return
    number = len(state.cells)
    output = number >= space.intermediate
    options = product(space.pairs(number), space.open_levels(state.cells), space.fusions)
    for pair, level, op in options:
        following = _follow(space, terms, state, MergingCell(level, op, pair, output))
        if following is not None:
            yield from _complete(space, graph, terms, following)


def _follow(space: MergingCellSpace, terms: Terms, state: _State, cell: MergingCell) -> _State | None:
    """The state after ``cell``, or None if nothing in the graph is like it."""
    uses = [used + (i in cell.inputs) for i, used in enumerate(state.uses)]
    added = find_loose([level for _, level in state.maps], uses, cell) if space.loose else []
    uses = [used + (i in added) for i, used in enumerate(uses)]
    name = f"cell{len(state.cells)}"
    size_of = {level: name for name, level in state.maps[: len(state.maps) - len(state.cells)]}
    layers = cell_layers(dialect=space.dialect, bias=space.bias, separable=space.separable)
    known = dict(state.known)
    for node in cell_nodes(name, cell, state.maps, added, size_of, layers):
        known[node.name] = terms.of(node, known)
    term = known[name].number
    found = state.left[term] > 0
    if not found and state.dead == 0:
        return None
    return _State(
        cells=(*state.cells, cell),
        maps=(*state.maps, (name, cell.level)),
        uses=(*uses, 0),
        known=known,
        left=state.left - Counter([term]) if found else state.left,
        dead=state.dead if found else state.dead - 1,
    )
