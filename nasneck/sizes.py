"""Sizes of a neck's maps, worked out from the sizes of the features; and where nothing is left of a map. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from nasneck.graph import AdaptivePool, Conv, GlobalPool, Input, NeckGraph, Node, Op, Pool, Resample
from nasneck.graph.ops import size_source
from nasneck.plan import live_nodes

Size = tuple[int, int]
_LARGEST = 4096  # side of the images that are tried, in pixels


class _Vanished(Exception):
    """Nothing is left of a map; the message says of which and why."""


def map_sizes(graph: NeckGraph, features: Mapping[int, Size]) -> dict[str, Size]:
    """Height and width of the map of every node that matters to an output; (1, 1) where pooled to a single cell.

    Args:
        graph: The neck.
        features: Height and width of the backbone's features, by level.

    Raises:
        ValueError: a map of which nothing is left, or a feature whose size is not given.
    """
    try:
        return _sizes(graph, features)
    except _Vanished as error:
        raise ValueError(str(error)) from None


def vanishing(graph: NeckGraph, features: Mapping[int, Size]) -> str | None:
    """Which map has no cell left, why, and what images would do; None if all have some."""
    try:
        _sizes(graph, features)
    except _Vanished as error:
        least = _least_side(graph)
        more = "" if least is None else f"; images need sides of at least {least} pixels"
        return f"{graph.name}: {error}{more}"
    return None


def _sizes(graph: NeckGraph, features: Mapping[int, Size]) -> dict[str, Size]:
    found: dict[str, Size] = {}
    for level, name in graph.input_names.items():
        if level not in features:
            raise ValueError(f"{graph.name}: no size of C{level} is given")
        found[name] = features[level]
    nodes, sizes = live_nodes(graph, [*graph.outputs.values(), *graph.aux])
    for node in nodes:
        if isinstance(node.op, Input):
            continue
        inputs = [_along(edge.source, edge.ops or (), node, graph, found, sizes) for edge in node.inputs]
        size = max(h for h, _ in inputs), max(w for _, w in inputs)  # single cells broadcast
        found[node.name] = (1, 1) if any(isinstance(layer, GlobalPool) for layer in node.layers) else size
    return found


def _along(
    source: str,
    ops: tuple[Op, ...],
    node: Node,
    graph: NeckGraph,
    found: Mapping[str, Size],
    sizes: Mapping[tuple[str, str], str],
) -> Size:
    size, at = found[source], graph[source].level
    for op in ops:
        before = size
        to = size_source(op)
        if to is not None:
            like = sizes[node.name, to]
            size, at = found[like], graph[to].level
        elif isinstance(op, Resample):
            octaves = (node.level or 0) - (at or 0)
            size, at = (-(-size[0] // 2**octaves), -(-size[1] // 2**octaves)), node.level
        else:
            size = _after(op, size[0]), _after(op, size[1])
            if isinstance(op, Conv | Pool) and at is not None:
                at += op.stride.bit_length() - 1
        if min(size) < 1:
            raise _Vanished(
                f"nothing is left of the map of node {node.name!r} (level {node.level}): {_needs(op)}, "
                f"and {source!r} (level {graph[source].level}) has {before[0]}x{before[1]}"
            )
    return size


def _after(op: Op, n: int) -> int:
    if isinstance(op, GlobalPool):
        return 1
    if isinstance(op, AdaptivePool):
        return max(1, int(n * op.ratio))
    if isinstance(op, Conv):
        if op.padding != "valid":
            return -(-n // op.stride)
        return (n - op.dilation * (op.kernel - 1) - 1) // op.stride + 1
    if isinstance(op, Pool):
        if op.padding == "same":
            return -(-n // op.stride)
        room = n + 2 * op.padding - op.kernel
        count = (-(-room // op.stride) if op.ceil else room // op.stride) + 1
        # a window that begins beyond the map does not count
        return count - 1 if op.ceil and (count - 1) * op.stride >= n + op.padding else count
    return n


def _needs(op: Op) -> str:
    if isinstance(op, Conv):
        side = op.dilation * (op.kernel - 1) + 1
        return f"a {op.kernel}x{op.kernel} convolution without padding needs at least {side}x{side} cells"
    assert isinstance(op, Pool)
    return f"a {op.kernel}x{op.kernel} pool that rounds down needs at least {op.kernel}x{op.kernel} cells"


def _least_side(graph: NeckGraph) -> int | None:
    """The smallest square image that leaves something of every map, where each level halves and rounds up."""

    def fits(side: int) -> bool:
        try:
            _sizes(graph, {level: (-(-side // 2**level),) * 2 for level in graph.input_levels})  # type: ignore[misc]
        except _Vanished:
            return False
        return True

    return next((side for side in range(1, _LARGEST + 1) if fits(side)), None)
