"""Widths: how many channels a convolution gives, as an expression that ``compile`` resolves.

``"channels"`` is the neck's width, ``"input"`` the width of the map that comes in, an int is a constant;
``"channels*2"`` and ``"input/4"`` scale the first two. Concatenation adds its inputs' widths and needs none.
"""

from __future__ import annotations

import re

from nasneck.errors import CompileError, GraphError

Width = str | int

_PATTERN = re.compile(r"(channels|input)(?:([*/])([1-9]\d*))?")


def check_width(width: Width) -> None:
    """Raise :class:`GraphError` unless ``width`` is a valid expression."""
    if isinstance(width, int) and not isinstance(width, bool) and width > 0:
        return
    if isinstance(width, str) and _PATTERN.fullmatch(width):
        return
    raise GraphError(
        f"width {width!r} is not valid; use 'channels', 'input', either with *N or /N, or a positive number"
    )


def resolve_width(width: Width, *, channels: int, given: int) -> int:
    """Return ``width`` in channels.

    Args:
        width: The expression.
        channels: The neck's width.
        given: Width of the map that comes in.

    Raises:
        CompileError: if a division leaves a remainder.
    """
    if isinstance(width, int):
        return width
    match = _PATTERN.fullmatch(width)
    if match is None:
        raise CompileError(f"width {width!r} is not valid")
    of, operator, factor = match.groups()
    base = channels if of == "channels" else given
    if operator is None:
        return base
    if operator == "*":
        return base * int(factor)
    if base % int(factor):
        raise CompileError(f"width {width!r}: {base} channels cannot be divided by {factor}")
    return base // int(factor)
