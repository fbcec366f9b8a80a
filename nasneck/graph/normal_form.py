"""The identity of a neck: a normal form that forgets what does not matter, and its digest.

What it does, and no more:

* names do not matter; a size taken from a node, or got by halving down to a node's own level, counts as taken
  from that level;
* nodes that no output reads are dropped;
* sums without layers are flattened into the sums that read them, and a sum's inputs are sorted; an edge with
  weights counts as one thing of its own on the way, so that several readers of such a sum still share it;
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
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nasneck.graph.canonical import Vertex, certificate
from nasneck.graph.fusion import Fusion, Input, Sum
from nasneck.graph.fusion import has_weights as fusion_has_weights
from nasneck.graph.labels import node_label, ops_label, reads_backwards
from nasneck.graph.liveness import read_nodes
from nasneck.graph.node import Node
from nasneck.graph.ops import has_weights

if TYPE_CHECKING:
    from nasneck.graph.neck_graph import NeckGraph

VERSION = "nasneck.key/1"

_Name = tuple[str, ...]  # (node,), or (node, "edge", position) for an edge with weights


@dataclass(frozen=True, slots=True)
class _Arc:
    source: _Name
    label: str  # what happens on the way, empty where an edge with weights is the source
    dissolves: bool  # nothing happens on the way


@dataclass(frozen=True, slots=True)
class _Cell:
    """A node, or an edge with weights between its source and its reader."""

    label: str
    op: Fusion | None
    arcs: tuple[_Arc, ...]
    bare: bool  # a sum without layers
    weights: Hashable  # equal where weights are shared, None without weights


def digest(graph: NeckGraph) -> str:
    """Return the key of ``graph``: 32 hexadecimal digits of the SHA-256 of its normal form."""
    text = certificate(normal_form(graph))
    return hashlib.sha256(f"{VERSION}\n{text}".encode()).hexdigest()[:32]


def normal_form(graph: NeckGraph) -> list[Vertex]:
    """The normal form of ``graph``, up to the numbering of its vertices."""
    marks: dict[str, _Name] = {f"P{level}": (name,) for level, name in graph.outputs.items()}
    marks |= {f"aux{position}": (name,) for position, name in enumerate(graph.aux)}
    read = read_nodes(graph, [name for (name,) in marks.values()])
    levels = {node.name: node.level for node in graph.nodes}
    cells: dict[_Name, _Cell] = {}
    for node in graph.nodes:
        if node.name in read:
            cells |= _cells(node, levels)
    cells = _drop_unread(_flatten_sums(cells), marks)
    cells, marks = _merge_equal(cells, marks)
    return _to_vertices(cells, marks)


def _cells(node: Node, levels: Mapping[str, int | None]) -> dict[_Name, _Cell]:
    """The cell of ``node``, after those of its edges with weights."""
    cells: dict[_Name, _Cell] = {}
    arcs: list[_Arc] = []
    owner = node.shares or node.name
    for position, edge in enumerate(node.inputs):
        label = ops_label(edge.ops or (), node, levels)
        if edge.has_weights:
            name = (node.name, "edge", str(position))
            source = _Arc((edge.source,), "", dissolves=False)
            cells[name] = _Cell(f"edge {label}", None, (source,), bare=False, weights=(owner, position))
            arcs.append(_Arc(name, "", dissolves=False))
        else:
            arcs.append(_Arc((edge.source,), label, dissolves=not edge.ops))
    if reads_backwards(node.op, [levels[edge.source] for edge in node.inputs]):
        arcs.reverse()
    weighted = fusion_has_weights(node.op) or any(has_weights(layer) for layer in node.layers)
    cells[node.name,] = _Cell(
        node_label(node),
        node.op,
        tuple(arcs),
        bare=isinstance(node.op, Sum) and not node.layers,
        weights=(owner,) if weighted else None,
    )
    return cells


def _flatten_sums(cells: Mapping[_Name, _Cell]) -> dict[_Name, _Cell]:
    """Replace an edge without ops from a bare sum to a sum by the edges of the bare sum."""
    done: dict[_Name, _Cell] = {}
    for name, cell in cells.items():  # sources come first, so one pass flattens chains
        if isinstance(cell.op, Sum):
            arcs: list[_Arc] = []
            for arc in cell.arcs:
                inner = done[arc.source]
                arcs += inner.arcs if arc.dissolves and inner.bare else (arc,)
            cell = replace(cell, arcs=tuple(arcs))
        done[name] = cell
    return done


def _drop_unread(cells: Mapping[_Name, _Cell], marks: Mapping[str, _Name]) -> dict[_Name, _Cell]:
    """Cells that an output reads, in computable order."""
    wanted = set(marks.values())
    for name in reversed(list(cells)):
        if name in wanted:
            wanted.update(arc.source for arc in cells[name].arcs)
    return {name: cell for name, cell in cells.items() if name in wanted}


def _merge_equal(
    cells: Mapping[_Name, _Cell], marks: Mapping[str, _Name]
) -> tuple[dict[_Name, _Cell], dict[str, _Name]]:
    """Let one cell stand for all equal ones without parameters."""
    stands_for: dict[_Name, _Name] = {}
    seen: dict[str, _Name] = {}
    merged: dict[_Name, _Cell] = {}
    for name, cell in cells.items():
        arcs = [replace(arc, source=stands_for[arc.source]) for arc in cell.arcs]
        cell = replace(cell, arcs=tuple(arcs))
        stands_for[name] = name
        if cell.weights is None and not isinstance(cell.op, Input):
            inputs = [[arc.source, arc.label] for arc in arcs]
            text = json.dumps([cell.label, inputs if _ordered(cell) else sorted(inputs)])
            stands_for[name] = seen.setdefault(text, name)
        if stands_for[name] == name:
            merged[name] = cell
    return merged, {mark: stands_for[name] for mark, name in marks.items()}


def _to_vertices(cells: Mapping[_Name, _Cell], marks: Mapping[str, _Name]) -> list[Vertex]:
    number = {name: i for i, name in enumerate(cells)}
    users = Counter(cell.weights for cell in cells.values())
    return [
        Vertex(
            label=cell.label,
            arcs=tuple((number[arc.source], arc.label) for arc in cell.arcs),
            ordered=_ordered(cell),
            marks=tuple(sorted(mark for mark, marked in marks.items() if marked == name)),
            group=cell.weights if users[cell.weights] > 1 else None,
        )
        for name, cell in cells.items()
    ]


def _ordered(cell: _Cell) -> bool:
    """Whether the order of the inputs is part of the normal form."""
    return not isinstance(cell.op, Sum)
