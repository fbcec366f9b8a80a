"""Ops and fusions as JSON: ``{"op": "conv", "kernel": 1}`` with only what differs from the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from nasneck.errors import ConfigError, GraphError
from nasneck.graph.fusion import FUSIONS, Fusion
from nasneck.graph.ops import OPS, Op
from nasneck.settings import build, did_you_mean

T = TypeVar("T")
_NAMES: dict[type, str] = {cls: name for table in (OPS, FUSIONS) for name, cls in table.items()}


def to_spec(value: Op | Fusion) -> dict[str, Any]:
    """JSON-ready form of an op or a fusion."""
    return {"op": _NAMES[type(value)], **_changed(value)}


def op_from_spec(spec: Any, *, where: str) -> Op:
    """Inverse of :func:`to_spec` for ops; a bare name stands for its defaults."""
    return _from_spec(OPS, spec, where, "op")


def fusion_from_spec(spec: Any, *, where: str) -> Fusion:
    """Inverse of :func:`to_spec` for fusions; a bare name stands for its defaults."""
    return _from_spec(FUSIONS, spec, where, "fusion op")


def _changed(value: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for f in fields(value):
        held = getattr(value, f.name)
        if f.default is MISSING or held != f.default:
            out[f.name] = _changed(held) if is_dataclass(held) else held
    return out


def _from_spec(table: Mapping[str, type[T]], spec: Any, where: str, what: str) -> T:
    if isinstance(spec, str):
        spec = {"op": spec}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("op"), str):
        raise GraphError(f"{where}: {spec!r} is not a name or a table with an 'op'")
    name = spec["op"]
    if name not in table:
        raise GraphError(f"{where}: unknown {what} {name!r}{did_you_mean(name, table)}")
    try:
        return build(table[name], {k: v for k, v in spec.items() if k != "op"}, where=f"{where}: {name}")
    except ConfigError as error:
        raise GraphError(str(error)) from None
    except GraphError as error:
        raise GraphError(f"{where}: {error}") from None
