"""Widths: how many channels a convolution gives, as an expression that ``compile`` resolves.

``"channels"`` is the neck's width, ``"input"`` the width of the map that comes in, ``"c4"`` that of the backbone
feature of level 4, an int is a constant. ``"channels*2"``, ``"channels*0.7"`` and ``"input/4"`` scale them; a
product is rounded down. Concatenation adds its inputs' widths and needs none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache

from nasneck.errors import CompileError, GraphError

Width = str | int

_PATTERN = re.compile(r"(channels|input|c(?:0|[1-9]\d?))(?:(\*)((?:0|[1-9]\d*)(?:\.\d+)?)|(/)([1-9]\d*))?")


def check_width(width: Width) -> None:
    """Raise :class:`GraphError` unless ``width`` is a valid expression."""
    if isinstance(width, int) and not isinstance(width, bool) and width > 0:
        return
    match = _PATTERN.fullmatch(width) if isinstance(width, str) else None
    if match is not None and (match[3] is None or float(match[3]) > 0):
        return
    raise GraphError(
        f"width {width!r} is not valid; use 'channels', 'input' or a feature such as 'c4', each with *N or /N, "
        "or a positive number"
    )


def scaled(base: str, factor: float) -> Width:
    """``base`` times ``factor``, as an expression."""
    return base if factor == 1 else f"{base}*{format(Decimal(repr(factor)), 'f')}"


@lru_cache(maxsize=1024)
def feature_level(width: Width) -> int | None:
    """Level of the backbone feature that ``width`` refers to, if it does."""
    match = _PATTERN.fullmatch(width) if isinstance(width, str) else None
    return int(match[1][1:]) if match is not None and match[1] not in ("channels", "input") else None


def resolve_width(width: Width, *, channels: int, given: int, features: Mapping[int, int]) -> int:
    """Return ``width`` in channels.

    Args:
        width: The expression.
        channels: The neck's width.
        given: Width of the map that comes in.
        features: Width of every backbone feature, by level.

    Raises:
        CompileError: if a division leaves a remainder, or nothing is left of a product.
    """
    if isinstance(width, int):
        return width
    match = _PATTERN.fullmatch(width)
    if match is None:
        raise CompileError(f"width {width!r} is not valid")
    of, times, factor, over, divisor = match.groups()
    level = feature_level(width)
    base = features[level] if level is not None else channels if of == "channels" else given
    if times:
        product = int(base * float(factor))  # rounded as others do, so that their weights fit
        if product < 1:
            raise CompileError(f"width {width!r}: nothing is left of {base} channels")
        return product
    if not over:
        return base
    if base % int(divisor):
        raise CompileError(f"width {width!r}: {base} channels cannot be divided by {divisor}")
    return base // int(divisor)
