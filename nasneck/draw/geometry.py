"""Values of a laid-out drawing: boxes, rows, columns and routes, in pixels from the top left corner."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """A node, or the mark of an output at the right end. ``x`` and ``y`` are its centre."""

    x: float
    y: float
    width: float
    height: float
    column: int
    row: int

    @property
    def left(self) -> float:
        """Left side."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """Right side."""
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        """Upper side."""
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        """Lower side."""
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Row:
    """The strip of one level; ``level`` None is the strip of maps off the pyramid."""

    level: int | None
    top: float
    bottom: float

    @property
    def middle(self) -> float:
        """Height of its centre line."""
        return (self.top + self.bottom) / 2


@dataclass(frozen=True, slots=True)
class Column:
    """All boxes of one depth."""

    left: float
    right: float

    @property
    def middle(self) -> float:
        """Its centre line."""
        return (self.left + self.right) / 2


@dataclass(frozen=True, slots=True)
class Band:
    """Background of one repeat, from ``left`` to ``right``."""

    repeat: int
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Link:
    """A line to draw: input ``position`` of ``target``, or the line from an output to its mark."""

    source: str
    target: str
    position: int


@dataclass(frozen=True, slots=True)
class Route:
    """Where a link runs: flat pieces (left, right, y), one per column from the source's to the target's.

    The first starts at the source's right side, the last ends at the target's left side; pieces may reach
    into the gaps between columns. From piece to piece the line takes an S-curve in such a gap, where no box
    lies, so a route crosses no box.
    """

    link: Link
    pieces: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawing without its looks. Marks of outputs are boxes named by :func:`mark_name`."""

    boxes: dict[str, Box]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    bands: tuple[Band, ...]
    routes: tuple[Route, ...]
    width: float
    height: float


def mark_name(name: str, level: int | None) -> str:
    """Name of the box that marks node ``name`` as the output of ``level``, or as auxiliary (None)."""
    return f"aux:{name}" if level is None else f"out{level}:{name}"


def is_mark(name: str) -> bool:
    """Whether ``name`` is that of a mark; nodes are identifiers."""
    return ":" in name
