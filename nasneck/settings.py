"""Frozen dataclasses from TOML or JSON tables, checked field by field.

``build(ProxyConfig, table, where="quickstart.toml: [proxy]")`` names the file, the table and the key of
whatever does not fit, so that a user can mend the file without reading our code.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from nasneck.errors import ConfigError

T = TypeVar("T")


def build(cls: type[T], table: Mapping[str, Any], *, where: str) -> T:
    """Make a ``cls`` (a dataclass) of ``table``; nested tables become nested dataclasses.

    Raises:
        ConfigError: an unknown or missing key, or a value of the wrong type, with where it stands.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: expected a table of settings, got {table!r}")
    hints = typing.get_type_hints(cls)
    declared: dict[str, Field[Any]] = {f.name: f for f in fields(cls) if f.init}  # type: ignore[arg-type]
    for key in table:
        if key not in declared:
            raise ConfigError(f"{where}: unknown setting {key!r}{did_you_mean(key, declared)}")
    values: dict[str, Any] = {}
    for name, spec in declared.items():
        if name in table:
            values[name] = convert(hints[name], table[name], where=f"{where}: {name}")
        elif spec.default is MISSING and spec.default_factory is MISSING:
            raise ConfigError(f"{where}: setting {name!r} is missing")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def convert(hint: Any, value: Any, *, where: str) -> Any:
    """Return ``value`` as the type ``hint``; ints become floats where floats are wanted, lists tuples."""
    if hint is Any:
        return value
    if is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        return build(hint, value, where=where)  # type: ignore[arg-type]
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        if any(type(value) is type(arg) and value == arg for arg in args):
            return value
        raise ConfigError(f"{where}: {value!r} is not one of {', '.join(map(repr, args))}")
    if origin in (Union, types.UnionType):
        options = [a for a in args if a is not type(None)]
        if value is None and len(options) < len(args):
            return None
        errors = []
        for option in options:
            try:
                return convert(option, value, where=where)
            except ConfigError as error:
                errors.append(error)
        raise errors[0] if len(errors) == 1 else ConfigError(f"{where}: {value!r} is not {_name(hint)}")
    if origin is tuple:
        return _tuple(hint, args, value, where)
    if origin in (dict, Mapping):
        if isinstance(value, Mapping):
            key, item = args
            return {
                convert(key, _key(key, k), where=where): convert(item, v, where=f"{where}.{k}")
                for k, v in value.items()
            }
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif hint in (int, str, bool):
        if type(value) is hint:
            return value
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    raise ConfigError(f"{where}: {value!r} is not {_name(hint)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: a near name if there is one, and all known ones."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known: {', '.join(known)})" if known else hint


def _tuple(hint: Any, args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: {value!r} is not {_name(hint)}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(convert(args[0], v, where=f"{where}[{i}]") for i, v in enumerate(value))
    if len(value) != len(args):
        raise ConfigError(f"{where}: {value!r} has {len(value)} items; {len(args)} are wanted")
    return tuple(convert(a, v, where=f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True)))


def _key(hint: Any, key: Any) -> Any:
    # TOML and JSON keys are strings; level tables want ints.
    return int(key) if hint is int and isinstance(key, str) and re.fullmatch(r"-?[0-9]+", key) else key


def _name(hint: Any) -> str:
    plain = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    return plain.get(hint) or str(hint).replace("typing.", "")
