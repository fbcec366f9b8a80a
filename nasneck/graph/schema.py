"""Neck graphs as JSON, with a schema version so that old files can be told from foreign ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nasneck.errors import GraphError
from nasneck.graph.fusion import Input
from nasneck.graph.neck_graph import NeckGraph
from nasneck.graph.node import Edge, Node
from nasneck.graph.spec import fusion_from_spec, op_from_spec, to_spec

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = "nasneck.graph/1"
_NODE_FIELDS = {"name", "level", "op", "inputs", "layers", "width", "shares"}


def dumps(graph: NeckGraph, *, indent: int | None = 1) -> str:
    """Return ``graph`` as JSON text."""
    data = {
        "schema": SCHEMA,
        "name": graph.name,
        "nodes": [_node_to_dict(node) for node in graph.nodes],
        "outputs": {str(level): name for level, name in graph.outputs.items()},
    }
    if graph.aux:
        data["aux"] = list(graph.aux)
    return json.dumps(data, indent=indent)


def loads(text: str, *, where: str = "graph") -> NeckGraph:
    """Inverse of :func:`dumps`.

    Raises:
        GraphError: text that is not JSON, not a neck graph, or a graph that is not valid, with ``where``.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise GraphError(f"{where}: not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from None
    except RecursionError:
        raise GraphError(f"{where}: not a neck graph (brackets within brackets without end)") from None
    if not isinstance(data, Mapping) or "schema" not in data:
        raise GraphError(f"{where}: not a neck graph; a JSON object with schema {SCHEMA!r} is wanted")
    if data["schema"] != SCHEMA:
        raise GraphError(f"{where}: schema {data['schema']!r} is not {SCHEMA!r}")
    unknown = set(data) - {"schema", "name", "nodes", "outputs", "aux"}
    if unknown:
        raise GraphError(f"{where}: unknown key {sorted(unknown)[0]!r}")
    try:
        return NeckGraph(
            [_node_from_dict(node) for node in _list_of(data.get("nodes", ()), "nodes")],
            outputs=_outputs(data.get("outputs")),
            aux=_list_of(data.get("aux", ()), "aux"),
            name=str(data.get("name", "neck")),
        )
    except GraphError as error:
        raise GraphError(f"{where}: {error}") from None


def _node_to_dict(node: Node) -> dict[str, Any]:
    data: dict[str, Any] = {"name": node.name, "level": node.level}
    if isinstance(node.op, Input):
        return data | {"op": "input"}
    data["op"] = _short(to_spec(node.op))
    data["inputs"] = [_edge_to_json(edge) for edge in node.inputs]
    if node.layers:
        data["layers"] = [_short(to_spec(layer)) for layer in node.layers]
    if node.width != "channels":
        data["width"] = node.width
    if node.shares is not None:
        data["shares"] = node.shares
    return data


def _edge_to_json(edge: Edge) -> dict[str, Any]:
    # Always with its ops: a bare name would let the level's default resample in again.
    return {"from": edge.source, "ops": [_short(to_spec(op)) for op in edge.ops or ()]}


def _short(spec: dict[str, Any]) -> Any:
    return spec["op"] if len(spec) == 1 else spec


def _node_from_dict(data: Any) -> Node:
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        raise GraphError(f"{data!r} is not a node; an object with a 'name' is wanted")
    where = f"node {data['name']!r}"
    unknown = set(data) - _NODE_FIELDS
    if unknown:
        raise GraphError(f"{where}: unknown key {sorted(unknown)[0]!r} (known: {', '.join(sorted(_NODE_FIELDS))})")
    if "level" not in data:
        raise GraphError(f"{where}: 'level' is missing (null for a map off the pyramid)")
    width, shares = data.get("width", "channels"), data.get("shares")
    if not (shares is None or isinstance(shares, str)):
        raise GraphError(f"{where}: shares {shares!r} is not the name of a node")
    return Node(
        data["name"],
        data["level"],
        op=fusion_from_spec(data.get("op", "input"), where=where),
        inputs=tuple(_edge_from_json(edge, where) for edge in _list_of(data.get("inputs", ()), f"{where}: inputs")),
        layers=tuple(_ops(data.get("layers", ()), f"{where}: layers")),
        width=width,
        shares=shares,
    )


def _edge_from_json(data: Any, where: str) -> Edge:
    if isinstance(data, str):
        return Edge(data)
    if not isinstance(data, Mapping) or not isinstance(data.get("from"), str) or set(data) - {"from", "ops"}:
        raise GraphError(f"{where}: {data!r} is not an edge; a name or an object with 'from' and 'ops' is wanted")
    ops = data.get("ops")
    return Edge(data["from"], None if ops is None else tuple(_ops(ops, f"{where}, input {data['from']!r}")))


def _ops(specs: Any, where: str) -> list[Any]:
    read: Callable[..., Any] = op_from_spec
    return [read(spec, where=where) for spec in _list_of(specs, where)]


def _list_of(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise GraphError(f"{where}: {value!r} is not a list")
    return list(value)


def _outputs(data: Any) -> dict[int, str]:
    if not isinstance(data, Mapping):
        raise GraphError(f"outputs: {data!r} is not an object from level to node name")
    outputs: dict[int, str] = {}
    for level, name in data.items():
        if not re.fullmatch(r"[0-9]{1,2}", level) or not isinstance(name, str):
            raise GraphError(f"outputs: {level!r}: {name!r} is not a level and a node name")
        outputs[int(level)] = name
    return outputs
