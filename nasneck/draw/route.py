"""Routes: which way each line takes between the boxes.

A line that spans several columns needs a height at each column between, off the boxes there. The heights
are a shortest path over the columns; its cost counts detours, bends, crossings, and lying on another line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nasneck.draw.geometry import Box

_PER_PIXEL = 0.5
_BEND = 12.0
_CROSSING = 7.0
_FOREIGN_ROW = 8.0  # along the centre of a row that the line neither leaves nor reaches
_MIDDLE_OVERLAP = 1000.0
_NEARLY = 1e-6


@dataclass(slots=True)
class Router:
    """Finds heights for one line after another and remembers those taken.

    Args:
        free: Column -> heights at which a line may cross it, top down.
        middles: Heights of the rows' centres.
        overlap: Cost of lying on another line between rows.
    """

    free: Sequence[Sequence[float]]
    middles: Sequence[float]
    overlap: float
    _taken: dict[tuple[int, float], int] = field(default_factory=lambda: defaultdict(int))
    _segments: dict[int, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def route(self, source: Box, target: Box) -> list[float]:
        """Return the heights at the columns between ``source`` and ``target``, and take them."""
        columns = range(source.column + 1, target.column)
        low, high = min(source.y, target.y), max(source.y, target.y)
        reach = self._reach(low, high)
        best: dict[float, tuple[float, list[float]]] = {source.y: (0.0, [])}
        for column in columns:
            heights = [y for y in self.free[column] if reach[0] <= y <= reach[1]]
            best = {y: self._cheapest(best, y, column, source.y, target.y) for y in heights}
        _, path = self._cheapest(best, target.y, target.column, source.y, target.y)
        heights = path[:-1]
        for column, y in zip(columns, heights, strict=True):
            self._taken[column, y] += 1
        points = [source.y, *path]
        for i, column in enumerate(range(source.column, target.column)):
            self._segments[column].append((points[i], points[i + 1]))
        return heights

    def overlaps(self) -> list[tuple[int, float]]:
        """Columns and heights at which several lines lie on each other."""
        return [place for place, lines in self._taken.items() if lines > 1]

    def _reach(self, low: float, high: float) -> tuple[float, float]:
        """Heights worth looking at: from one row above to one row below the ends."""
        above = [y for y in self.middles if y < low - _NEARLY]
        below = [y for y in self.middles if y > high + _NEARLY]
        return (max(above) if above else float("-inf")), (min(below) if below else float("inf"))

    def _cheapest(
        self,
        best: Mapping[float, tuple[float, list[float]]],
        y: float,
        column: int,
        start: float,
        end: float,
    ) -> tuple[float, list[float]]:
        """Cheapest way from the column before to height ``y`` at ``column``: its cost and heights."""
        # Space between rows can be widened for lines that lie on each other, the middle of a row cannot.
        middle = y in self.middles
        here = self._taken.get((column, y), 0) * (_MIDDLE_OVERLAP if middle else self.overlap)
        if middle and y not in (start, end):
            here += _FOREIGN_ROW
        segments = self._segments.get(column - 1, ())
        steps = [
            (cost + here + _PER_PIXEL * abs(y - before) + (_BEND if before != y else 0.0), i, before)
            for i, (before, (cost, _)) in enumerate(best.items())
        ]
        found: tuple[float, int, float] | None = None
        for total, i, before in sorted(steps):  # crossings take long to count and only add to the cost
            if found is not None and total > found[0]:
                break
            total += _CROSSING * sum((before - a) * (y - b) < 0 for a, b in segments)
            found = (total, i, before) if found is None else min(found, (total, i, before))
        if found is None:
            raise RuntimeError(f"column {column} has no free height")
        total, _, before = found
        return total, [*best[before][1], y]
