"""Checks that an op or a fusion holds what its annotations say, however it was made."""

from __future__ import annotations

import typing
from dataclasses import fields
from functools import lru_cache
from typing import Any

from nasneck.errors import ConfigError, GraphError
from nasneck.settings import convert


def check_fields(value: Any) -> None:
    """Make every field of the frozen dataclass ``value`` exactly of its type, whole numbers floats.

    Equal ops must be written equally: ``1``, ``1.0`` and ``True`` compare equal, but are different JSON.

    Raises:
        GraphError: a field of another type, or a name that is not among the known ones.
    """
    cls = type(value)
    names = _names(cls)
    held = [getattr(value, name) for name in names]
    try:
        found = _converted(cls, *held)
    except TypeError:  # a list, say, cannot be looked up
        found = _converted.__wrapped__(cls, *held)
    for name, old, new in zip(names, held, found, strict=True):
        if new is not old:
            object.__setattr__(value, name, new)


@lru_cache(maxsize=4096, typed=True)
def _converted(cls: type, *held: Any) -> tuple[Any, ...]:
    hints = typing.get_type_hints(cls)
    try:
        return tuple(
            convert(hints[name], item, where=f"{cls.__name__}: {name}")
            for name, item in zip(_names(cls), held, strict=True)
        )
    except ConfigError as error:
        raise GraphError(str(error)) from None


@lru_cache(maxsize=64)
def _names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))
