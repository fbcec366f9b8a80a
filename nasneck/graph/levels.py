"""Which level a map lies on as it runs along an edge, and whether it arrives where its reader lies.

A level may be None (off the pyramid: pooled context) or FREE (after a valid convolution, whose result the
reader's level names).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nasneck.errors import GraphError
from nasneck.graph.fusion import Concat, PixelWeighted
from nasneck.graph.node import Edge, Node
from nasneck.graph.ops import AdaptivePool, Carafe, Conv, GlobalPool, Op, Pool, Resample

FREE: Final = "free"
Level = int | None | str


def check_edge_levels(edge: Edge, node: Node, table: Mapping[str, Node]) -> None:
    """Raise :class:`GraphError` unless ``edge`` brings its source to the level of ``node``."""
    where = f"node {node.name!r}, input {edge.source!r}"
    source = table[edge.source]
    at: Level = source.level
    for op in edge.ops or ():
        at = _after(op, at, node, table, where)
    if at == node.level or at == FREE or (at is None and _is_one_cell(source, edge, table)):
        return
    if source.level == at:
        wanted = "off the pyramid" if node.level is None else f"on level {node.level}"
        found = "off the pyramid" if at is None else f"on level {at}"
        raise GraphError(f"{where}: the node lies {wanted} and its input {found}; add a resample to the edge")
    raise GraphError(f"{where}: the edge's ops lead from level {source.level} to {at}, not to {node.level}")


def check_sizes(node: Node, table: Mapping[str, Node]) -> None:
    """Raise :class:`GraphError` where single cells cannot broadcast to what ``node`` should be."""
    single = [edge.source for edge in node.inputs if _is_one_cell(table[edge.source], edge, table)]
    if not single:
        return
    if len(single) == len(node.inputs):
        if node.level is not None:
            raise GraphError(
                f"node {node.name!r}: all its inputs are single cells, so it has not the size of level "
                f"{node.level}; put it off the pyramid (level None)"
            )
    elif isinstance(node.op, Concat | PixelWeighted):
        raise GraphError(
            f"node {node.name!r}: {type(node.op).__name__.lower()} does not broadcast the single cell "
            f"{single[0]!r}; resample it to the node's size"
        )


def _after(op: Op, at: Level, node: Node, table: Mapping[str, Node], where: str) -> Level:
    if isinstance(op, Carafe):
        return _reassembled(op, at, table, where)
    if isinstance(op, Resample):
        return _resampled(op, at, node, table, where)
    if isinstance(op, AdaptivePool | GlobalPool):
        return None
    if isinstance(op, Conv) and op.padding == "valid":
        return FREE
    if isinstance(op, Conv | Pool) and op.stride > 1:
        if not isinstance(at, int):
            raise GraphError(f"{where}: {op} has a stride, but the map lies on no level")
        return at + op.stride.bit_length() - 1
    return at


def _resampled(op: Resample, at: Level, node: Node, table: Mapping[str, Node], where: str) -> Level:
    if op.to is None:
        if not (isinstance(at, int) and isinstance(node.level, int) and at < node.level):
            raise GraphError(f"{where}: a resample without 'to' only goes down, from level {at} to {node.level}")
        return node.level
    target = table[op.to].level
    if target is None:
        raise GraphError(f"{where}: {op.to!r} lies off the pyramid and tells no size; name a node on a level")
    if op.mode == "auto" and not isinstance(at, int):
        raise GraphError(f"{where}: resample 'auto' needs levels on both sides; use 'nearest' or 'bilinear'")
    return target


def _reassembled(op: Carafe, at: Level, table: Mapping[str, Node], where: str) -> Level:
    target = table[op.to].level
    if not (isinstance(at, int) and isinstance(target, int) and target < at):
        raise GraphError(f"{where}: carafe only goes up, not from level {at} to {target} of {op.to!r}")
    return target


def _is_one_cell(source: Node, edge: Edge, table: Mapping[str, Node]) -> bool:
    """Whether what runs along ``edge`` is a single cell, which broadcasts to any size."""
    for op in reversed(edge.ops or ()):
        if isinstance(op, GlobalPool):
            return True
        if isinstance(op, AdaptivePool | Resample | Carafe):
            return False
    if source.level is not None:
        return False
    if any(isinstance(layer, GlobalPool) for layer in source.layers):
        return True
    return bool(source.inputs) and all(_is_one_cell(table[e.source], e, table) for e in source.inputs)
