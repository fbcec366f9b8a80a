"""From heights to lines: where they meet boxes, where they bend, and how wide the gaps must be for that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from nasneck.draw.geometry import Box, Column, Link, Route

COLUMN_GAP = 46.0
_LEFT = 84.0
_BEND_WIDTH = 34.0  # of one S-curve among several
_APART = 8.0  # between S-curves side by side
_STEEP = 24.0  # S-curves that climb less need no room of their own
_MEET, _MEET_MARGIN = 12.0, 7.0
_NEARLY = 1e-6
_TOUCHING = 3.0
_LYING = 8  # crossings that lying on another line is as bad as

Heights = Mapping[Link, Sequence[float]]


def run_lines(
    links: Sequence[Link], paths: Heights, boxes: Mapping[str, Box]
) -> tuple[tuple[Route, ...], list[Column]]:
    """Return the routes of ``links`` and the columns.

    Args:
        links: Lines to run.
        paths: Heights of each line at the columns between its ends.
        boxes: Boxes; their ``x`` is not read.
    """
    heights = _with_ends(links, paths, boxes)
    turns = {gap: _turns(gap, heights, boxes) for gap in range(max(box.column for box in boxes.values()))}
    columns = _place_columns(boxes, turns)
    routes: list[Route] = []
    for link in links:
        source, target = boxes[link.source], boxes[link.target]
        lefts = [columns[c].left for c in range(source.column, target.column + 1)]
        rights = [columns[c].right for c in range(source.column, target.column + 1)]
        for i, gap in enumerate(range(source.column, target.column)):
            turn = turns[gap].get(link)
            if turn is not None:
                middle = (columns[gap].right + columns[gap + 1].left) / 2 + turn
                rights[i], lefts[i + 1] = middle - _BEND_WIDTH / 2, middle + _BEND_WIDTH / 2
        lefts[0] = columns[source.column].middle + source.width / 2
        rights[-1] = columns[target.column].middle - target.width / 2
        routes.append(Route(link, tuple(zip(lefts, rights, heights[link], strict=True))))
    return tuple(routes), columns


def _with_ends(links: Sequence[Link], paths: Heights, boxes: Mapping[str, Box]) -> dict[Link, list[float]]:
    """Heights of every line with those at which it leaves its source and reaches its target."""

    def first(link: Link) -> float:
        return paths[link][0] if paths[link] else boxes[link.target].y

    def last(link: Link) -> float:
        return paths[link][-1] if paths[link] else boxes[link.source].y

    leaving = _spread(links, lambda link: link.source, first, boxes)
    arriving = _spread(links, lambda link: link.target, last, boxes)
    return {
        link: [boxes[link.source].y + leaving[link], *paths[link], boxes[link.target].y + arriving[link]]
        for link in links
    }


def _spread(
    links: Sequence[Link],
    end: Callable[[Link], str],
    towards: Callable[[Link], float],
    boxes: Mapping[str, Box],
) -> dict[Link, float]:
    """Offsets from the box's centre at which several lines meet one side of a box.

    Lines keep the order of the heights ``towards`` which they run; one that runs straight stays straight.
    """
    meeting: dict[str, list[Link]] = defaultdict(list)
    for link in links:
        meeting[end(link)].append(link)
    offsets: dict[Link, float] = {}
    for name, group in meeting.items():
        box = boxes[name]
        group.sort(key=lambda link: (towards(link), link.source, link.target, link.position))
        straight = [i for i, link in enumerate(group) if abs(towards(link) - box.y) < _NEARLY]
        anchor = straight[0] if len(straight) == 1 else (len(group) - 1) / 2
        most = max(anchor, len(group) - 1 - anchor)
        step = min(_MEET, (box.height / 2 - _MEET_MARGIN) / most) if most else 0.0
        for i, link in enumerate(group):
            offsets[link] = (i - anchor) * step
    return offsets


@dataclass(frozen=True, slots=True)
class _Turn:
    """A line that goes from height ``start`` to ``end`` within a gap."""

    start: float
    end: float
    link: Link


def _turns(gap: int, heights: Heights, boxes: Mapping[str, Box]) -> dict[Link, float]:
    """How far from the middle of ``gap`` each steep line turns that has others beside it."""
    steep: list[_Turn] = []
    for link, ys in heights.items():
        i = gap - boxes[link.source].column
        if 0 <= i < len(ys) - 1 and abs(ys[i] - ys[i + 1]) > _STEEP:
            steep.append(_Turn(ys[i], ys[i + 1], link))
    turns: dict[Link, float] = {}
    for group in _beside_each_other(steep):
        for i, turn in enumerate(_ordered(group)):
            turns[turn.link] = (i - (len(group) - 1) / 2) * _APART
    return turns


def _ordered(group: Sequence[_Turn]) -> list[_Turn]:
    """``group`` from left to right: one turn moves at a time, as long as that makes them clash less."""
    turns = sorted(group, key=lambda turn: (turn.start, turn.end))
    # How much worse it is that the first of two turns left of the second than the other way round.
    worse = [[_clash(left, right) - _clash(right, left) for right in turns] for left in turns]
    order, better = list(range(len(turns))), True
    while better:
        better = False
        for old, new in permutations(range(len(order)), 2):
            moving = order[old]
            passed = order[new:old] if new < old else order[old + 1 : new + 1]
            change = sum(worse[moving][other] for other in passed) * (1 if new < old else -1)
            if change < 0:
                order.insert(new, order.pop(old))
                better = True
    return [turns[i] for i in order]


def _clash(left: _Turn, right: _Turn) -> int:
    """How badly two lines meet if ``left`` turns first: crossings, or lying on each other."""
    crossings = _between(right.start, left) + _between(left.end, right)
    return crossings + _LYING * (abs(left.end - right.start) < _TOUCHING)


def _between(y: float, turn: _Turn) -> bool:
    return min(turn.start, turn.end) < y < max(turn.start, turn.end)


def _beside_each_other(steep: Sequence[_Turn]) -> list[list[_Turn]]:
    """Groups of two and more lines whose heights overlap."""
    groups: list[list[_Turn]] = []
    bottom = float("-inf")
    for turn in sorted(steep, key=lambda turn: min(turn.start, turn.end)):
        if min(turn.start, turn.end) > bottom:
            groups.append([])
        groups[-1].append(turn)
        bottom = max(bottom, turn.start, turn.end)
    return [group for group in groups if len(group) > 1]


def _place_columns(boxes: Mapping[str, Box], turns: Mapping[int, Mapping[Link, float]]) -> list[Column]:
    widths = [0.0] * (max(box.column for box in boxes.values()) + 1)
    for box in boxes.values():
        widths[box.column] = max(widths[box.column], box.width)
    columns: list[Column] = []
    left = _LEFT
    for column, width in enumerate(widths):
        columns.append(Column(left, left + width))
        offsets = turns.get(column, {}).values()
        needed = _BEND_WIDTH + 2 * max(offsets, default=0.0) + 10.0
        left += width + max(COLUMN_GAP, needed)
    return columns
