"""Texts for the parts of a graph that contain all that matters about them and no names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from nasneck.graph.fusion import Attention, Fusion, gate_index
from nasneck.graph.node import Node
from nasneck.graph.ops import Conv, Op, Project, Resample
from nasneck.graph.spec import to_spec

_COARSER_FIRST = Attention(gate="coarser")


def node_label(node: Node) -> str:
    """Level, fusion and layers of ``node``."""
    return json.dumps([node.level, to_spec(node.op), ops_label(node.layers, node, {})])


def ops_label(ops: Iterable[Op], node: Node, levels: Mapping[str, int | None]) -> str:
    """The ops of a layer or edge of ``node``: widths spelled out, and levels in place of names."""
    specs = []
    for op in ops:
        spec = to_spec(op)
        if isinstance(op, Conv | Project):
            spec["width"] = op.width if op.width is not None else node.width
        if isinstance(op, Resample) and op.to is not None:
            spec["to"] = levels[op.to]
        specs.append(spec)
    return json.dumps(specs, sort_keys=True)


def reads_backwards(op: Fusion, levels: Sequence[int | None]) -> bool:
    """Whether the inputs of ``op``, on ``levels``, stand in reverse in the normal form.

    Attention's gate is found by level, so the order of its inputs counts only where the levels tie; the
    coarser input goes first.
    """
    if not isinstance(op, Attention) or levels[0] == levels[1]:
        return False
    return gate_index(_COARSER_FIRST, (levels[0], levels[1])) == 1
