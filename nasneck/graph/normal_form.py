"""The identity of a neck: a normal form that forgets what does not matter, and its digest.

What it does, and no more:

* names do not matter; a size taken from a node counts as taken from that node's level;
* nodes that no output reads are dropped;
* sums without layers are flattened into the sums that read them, and a sum's inputs are sorted;
* attention's inputs are sorted by source level, unless the levels tie: then the first gates and order counts;
* equal nodes without parameters are merged; equal nodes with parameters of their own stay apart;
* which nodes share weights, and the auxiliary outputs, are part of it.

The rest is graph isomorphism, settled by ``canonical``. networkx's Weisfeiler-Lehman hash cannot do it: it
ignores the order of inputs, and with edge attributes the direction too.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nasneck.graph.canonical import Vertex, certificate
from nasneck.graph.fusion import Input, Sum
from nasneck.graph.labels import node_label, ops_label, reads_backwards
from nasneck.graph.liveness import read_nodes
from nasneck.graph.node import Node
from nasneck.graph.ops import Op

if TYPE_CHECKING:
    from nasneck.graph.neck_graph import NeckGraph

VERSION = "nasneck.key/1"


@dataclass(frozen=True, slots=True)
class _Arc:
    source: str
    ops: tuple[Op, ...]
    slot: int | None  # position, where weights on this edge are shared position by position


@dataclass(frozen=True, slots=True)
class _Cell:
    node: Node
    arcs: tuple[_Arc, ...]


def digest(graph: NeckGraph) -> str:
    """Return the key of ``graph``: 32 hexadecimal digits of the SHA-256 of its normal form."""
    text = certificate(normal_form(graph))
    return hashlib.sha256(f"{VERSION}\n{text}".encode()).hexdigest()[:32]


def normal_form(graph: NeckGraph) -> list[Vertex]:
    """The normal form of ``graph``, up to the numbering of its vertices."""
    marks = {f"P{level}": name for level, name in graph.outputs.items()}
    marks |= {f"aux{position}": name for position, name in enumerate(graph.aux)}
    levels = {node.name: node.level for node in graph.nodes}
    read = read_nodes(graph, marks.values())
    cells = {node.name: _cell(node) for node in graph.nodes if node.name in read}
    cells = _drop_unread(_flatten_sums(cells, marks), marks)
    cells, marks = _merge_equal(cells, marks, levels)
    return _to_vertices(cells, marks, levels)


def _cell(node: Node) -> _Cell:
    arcs = (
        _Arc(edge.source, edge.ops or (), position if edge.has_weights else None)
        for position, edge in enumerate(node.inputs)
    )
    return _Cell(node, tuple(arcs))


def _drop_unread(cells: Mapping[str, _Cell], marks: Mapping[str, str]) -> dict[str, _Cell]:
    """Cells that an output reads, in computable order."""
    wanted = set(marks.values())
    for name in reversed(list(cells)):
        if name in wanted:
            wanted.update(arc.source for arc in cells[name].arcs)
    return {name: cell for name, cell in cells.items() if name in wanted}


def _flatten_sums(cells: Mapping[str, _Cell], marks: Mapping[str, str]) -> dict[str, _Cell]:
    """Replace an edge without ops from a bare sum to a sum by the edges of the bare sum."""
    outputs = set(marks.values())
    readers = Counter(arc.source for cell in cells.values() for arc in cell.arcs)
    sharing = _sharing(cells.values())

    def dissolves(source: _Cell) -> bool:
        node = source.node
        if not isinstance(node.op, Sum) or node.layers:
            return False
        if not node.has_weights:
            return True
        # Weights on its edges would be doubled by a second reader and lost to a node that shares them.
        return (
            readers[node.name] == 1 and node.name not in outputs and not sharing[node.shares or node.name] > 1
        )

    done: dict[str, _Cell] = {}
    for name, cell in cells.items():  # sources come first, so one pass flattens chains
        if isinstance(cell.node.op, Sum):
            arcs: list[_Arc] = []
            for arc in cell.arcs:
                inner = done[arc.source]
                arcs += inner.arcs if not arc.ops and dissolves(inner) else (arc,)
            cell = replace(cell, arcs=tuple(arcs))
        done[name] = cell
    return done


def _merge_equal(
    cells: Mapping[str, _Cell], marks: Mapping[str, str], levels: Mapping[str, int | None]
) -> tuple[dict[str, _Cell], dict[str, str]]:
    """Let one cell stand for all equal ones without parameters."""
    stands_for: dict[str, str] = {}
    seen: dict[str, str] = {}
    merged: dict[str, _Cell] = {}
    for name, cell in cells.items():
        arcs = tuple(replace(arc, source=stands_for[arc.source]) for arc in cell.arcs)
        cell = replace(cell, arcs=arcs)
        stands_for[name] = name
        if not cell.node.has_weights and not _weighted(arcs) and not isinstance(cell.node.op, Input):
            inputs = [[arc.source, _arc_label(arc, cell.node, levels)] for arc in _in_order(cell, levels)]
            text = json.dumps([node_label(cell.node), inputs if _ordered(cell) else sorted(inputs)])
            stands_for[name] = seen.setdefault(text, name)
        if stands_for[name] == name:
            merged[name] = cell
    return merged, {mark: stands_for[name] for mark, name in marks.items()}


def _to_vertices(
    cells: Mapping[str, _Cell], marks: Mapping[str, str], levels: Mapping[str, int | None]
) -> list[Vertex]:
    number = {name: i for i, name in enumerate(cells)}
    sharing = _sharing(cells.values())
    vertices = []
    for name, cell in cells.items():
        owner = cell.node.shares or name
        shared = sharing[owner] > 1
        arcs = tuple(
            (number[arc.source], _arc_label(arc, cell.node, levels, slots=shared))
            for arc in _in_order(cell, levels)
        )
        vertices.append(
            Vertex(
                label=node_label(cell.node),
                arcs=arcs,
                ordered=_ordered(cell),
                marks=tuple(sorted(mark for mark, read in marks.items() if read == name)),
                group=owner if shared else None,
            )
        )
    return vertices


def _sharing(cells: Iterable[_Cell]) -> Counter[str]:
    """Number of cells that use the weights of each owner."""
    return Counter(cell.node.shares or cell.node.name for cell in cells)


def _weighted(arcs: Iterable[_Arc]) -> bool:
    return any(arc.slot is not None for arc in arcs)


def _ordered(cell: _Cell) -> bool:
    """Whether the order of the inputs, as :func:`_in_order` gives them, is part of the normal form."""
    return not isinstance(cell.node.op, Sum)


def _in_order(cell: _Cell, levels: Mapping[str, int | None]) -> tuple[_Arc, ...]:
    backwards = reads_backwards(cell.node.op, [levels[arc.source] for arc in cell.arcs])
    return cell.arcs[::-1] if backwards else cell.arcs


def _arc_label(arc: _Arc, node: Node, levels: Mapping[str, int | None], *, slots: bool = False) -> str:
    return json.dumps([ops_label(arc.ops, node, levels), arc.slot if slots else None])
