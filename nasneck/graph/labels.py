"""Texts for the parts of a graph that contain all that matters about them and no names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from nasneck.graph.fusion import Attention, Fusion, gate_index
from nasneck.graph.node import Node
from nasneck.graph.ops import Conv, Op, Project, Resample, size_source
from nasneck.graph.spec import to_spec
from nasneck.graph.width import Width

_COARSER_FIRST = Attention(gate="coarser")


def node_label(node: Node) -> str:
    """Level, fusion and layers of ``node``."""
    return f"{node.level} {_fusion_text(node.op)} {ops_label(node.layers, node, {})}"


def ops_label(ops: Iterable[Op], node: Node, levels: Mapping[str, int | None]) -> str:
    """The ops of a layer or edge of ``node``: widths spelled out, and levels in place of names."""
    texts = []
    for op in ops:
        to = None
        if (source := size_source(op)) is not None:
            to = levels[source]
        elif isinstance(op, Resample):
            to = node.level
        texts.append(_op_text(op, node.width, to))
    return f"[{', '.join(texts)}]"


@lru_cache(maxsize=4096)
def _op_text(op: Op, width: Width, to: int | None) -> str:
    spec = to_spec(op)
    if isinstance(op, Conv | Project):
        spec["width"] = op.width if op.width is not None else width
    if isinstance(op, Resample) or size_source(op) is not None:
        spec["to"] = to
    return json.dumps(spec, sort_keys=True)


@lru_cache(maxsize=512)
def _fusion_text(op: Fusion) -> str:
    return json.dumps(to_spec(op), sort_keys=True)


def reads_backwards(op: Fusion, levels: Sequence[int | None]) -> bool:
    """Whether the inputs of ``op``, on ``levels``, stand in reverse in the normal form.

    Attention's gate is found by level, so the order of its inputs counts only where the levels tie; the
    coarser input goes first.
    """
    if not isinstance(op, Attention) or levels[0] == levels[1]:
        return False
    return gate_index(_COARSER_FIRST, (levels[0], levels[1])) == 1
