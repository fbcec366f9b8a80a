"""Nodes and edges: the parts of a neck graph, before anybody has checked that they fit together."""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nasneck.errors import GraphError
from nasneck.graph.fusion import BINARY, Fusion, Input, PixelWeighted
from nasneck.graph.fusion import has_weights as fusion_has_weights
from nasneck.graph.ops import AdaptivePool, Carafe, Conv, GlobalPool, Op, Pool, Resample, has_weights, widths_of
from nasneck.graph.spec import fusion_from_spec, op_from_spec
from nasneck.graph.width import Width, check_width

OpLike = Op | str | Mapping[str, Any]


@dataclass(frozen=True, slots=True, init=False)
class Edge:
    """One input of a node: where it comes from and what is done to it on the way.

    ``ops`` is None while it is left to the graph: nothing between nodes of one level, else
    ``Resample("auto")`` to the size of the level's first node.
    """

    source: str
    ops: tuple[Op, ...] | None = None

    def __init__(self, source: str, ops: Iterable[OpLike] | None = None) -> None:
        where = f"edge from {source!r}"
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "ops", None if ops is None else tuple(_as_op(op, where) for op in ops))

    @property
    def has_weights(self) -> bool:
        """Whether an op on this edge holds parameters."""
        return any(has_weights(op) for op in self.ops or ())


@dataclass(frozen=True, slots=True, init=False)
class Node:
    """A merge cell: inputs are fused by ``op``, then run through ``layers``.

    Args:
        name: A Python identifier, unique in the graph; parameters are named after it.
        level: Pyramid level (stride 2**level), or None for a map off the pyramid, such as pooled context.
        op: The fusion, as a value, by name with its defaults (``"sum"``) or as in JSON.
        inputs: Edges in order, or names of nodes. A node may be named twice.
        layers: Ops after the fusion, in order, as values or as in JSON. They keep the size.
        width: Output width of the convolutions here that state none.
        shares: Name of an earlier node of the same make whose weights this one uses.

    Raises:
        GraphError: what is wrong with the node on its own.

    Example:
        >>> Node("p4_sum", 4, op="sum", inputs=("p4", "p5"))  # doctest: +ELLIPSIS
        Node(name='p4_sum', level=4, ...)
    """

    name: str
    level: int | None
    op: Fusion
    inputs: tuple[Edge, ...]
    layers: tuple[Op, ...]
    width: Width
    shares: str | None

    def __init__(
        self,
        name: str,
        level: int | None,
        op: Fusion | str | Mapping[str, Any] = "input",
        inputs: Iterable[Edge | str] = (),
        layers: Iterable[OpLike] = (),
        width: Width = "channels",
        shares: str | None = None,
    ) -> None:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise GraphError(f"node name {name!r} is not a Python identifier")
        where = f"node {name!r}"
        if level is not None and (type(level) is not int or not 0 <= level <= 20):
            raise GraphError(f"{where}: level {level!r} is not a whole number of octaves from 0 to 20")
        if isinstance(inputs, str):
            raise GraphError(f"{where}: inputs must be a tuple of edges or names, not one string")
        check_width(width)
        values = {
            "name": name,
            "level": level,
            "op": op if isinstance(op, Fusion) else fusion_from_spec(op, where=where),
            "inputs": tuple(edge if isinstance(edge, Edge) else Edge(edge) for edge in inputs),
            "layers": tuple(_as_op(layer, where) for layer in layers),
            "width": width,
            "shares": shares,
        }
        for field, value in values.items():
            object.__setattr__(self, field, value)
        self._check_arity(where)
        for layer in self.layers:
            if _changes_size(layer):
                raise GraphError(f"{where}: {layer} changes the size of the map; it belongs on an edge")
            if isinstance(layer, GlobalPool) and level is not None:
                raise GraphError(f"{where}: after a global pool it is no map of level {level}; its level is None")

    @property
    def has_weights(self) -> bool:
        """Whether the node, its fusion or its edges hold parameters."""
        own = any(has_weights(layer) for layer in self.layers)
        return own or fusion_has_weights(self.op) or any(edge.has_weights for edge in self.inputs)

    @property
    def widths(self) -> tuple[Width, ...]:
        """Every width that the node, its fusion, its layers or its edges state."""
        ops = [*self.layers, *(op for edge in self.inputs for op in edge.ops or ())]
        hidden = (self.op.hidden,) if isinstance(self.op, PixelWeighted) and self.op.hidden is not None else ()
        return self.width, *hidden, *(width for op in ops for width in widths_of(op))

    def _check_arity(self, where: str) -> None:
        count = len(self.inputs)
        if isinstance(self.op, Input):
            if count or self.layers:
                raise GraphError(f"{where}: a backbone feature has no inputs and no layers")
            if self.level is None:
                raise GraphError(f"{where}: a backbone feature needs a level")
        elif count == 0:
            raise GraphError(f"{where}: it has no inputs; only backbone features (op 'input') may have none")
        elif isinstance(self.op, BINARY) and count != 2:
            raise GraphError(f"{where}: {self.op} takes two inputs, not {count}")


def input_node(level: int, name: str | None = None) -> Node:
    """The backbone feature of ``level``, named ``c<level>`` unless told otherwise."""
    return Node(name or f"c{level}", level)


def _as_op(op: OpLike, where: str) -> Op:
    return op if isinstance(op, Op) else op_from_spec(op, where=where)


def _changes_size(op: Op) -> bool:
    if isinstance(op, Conv):
        return op.stride > 1 or op.padding == "valid"
    if isinstance(op, Pool):
        return op.stride > 1 or op.padding != op.kernel // 2
    return isinstance(op, Resample | Carafe | AdaptivePool)
