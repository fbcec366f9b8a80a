"""Layout by pyramid level: a row per level, the coarsest on top, and a column per depth.

Backbone features stand at the left, the marks of the outputs at the right. A repeat starts in a column of
its own, so that repeats can be told apart by vertical bands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nasneck.draw.geometry import Band, Box, Column, Layout, Link, Row, is_mark, mark_name
from nasneck.draw.lines import COLUMN_GAP, run_lines
from nasneck.draw.repeats import STEM, Stages
from nasneck.draw.route import Router
from nasneck.graph import NeckGraph

NODE_HEIGHT = 38.0
MARK_WIDTH, MARK_HEIGHT = 38.0, 22.0
NAME_SIZE, WIDEST_TEXT = 10.0, 104.0
_NODE_WIDTH = 52.0
_RIGHT = 24.0
_TOP, _BAND_HEAD = 62.0, 24.0
_LANE_GAP = 16.0
_PER_INPUT = 10.0
_TRACK = 9.0  # between parallel lines
_TRACKS, _OUTER_TRACKS = 4, 1
_ROUNDS = 8
_OVERLAP, _HIGH = 40.0, 1000.0


def lay_out(graph: NeckGraph, stages: Stages, labels: Mapping[str, str]) -> Layout:
    """Place the nodes of ``graph`` and route its edges.

    Args:
        graph: What to draw.
        stages: Its repeats.
        labels: Node name -> text inside the node, which its width must hold.
    """
    levels = sorted({node.level for node in graph.nodes}, key=lambda level: (level is not None, -(level or 0)))
    boxes = _boxes(graph, levels, _columns(graph, stages), labels)
    links = _links(graph)
    head = _TOP + (_BAND_HEAD if stages.count else 0.0)
    tracks = [_OUTER_TRACKS, *[_TRACKS] * (len(levels) - 1), _OUTER_TRACKS]
    placed = _place(boxes, links, tracks, head, _OVERLAP)
    for _ in range(_ROUNDS):
        if not placed.crowded:
            break
        # Lines that found no room of their own widen the space between rows, and all try again.
        tracks = [count + (gap in placed.crowded) for gap, count in enumerate(tracks)]
        placed = _place(boxes, links, tracks, head, _OVERLAP)
    if placed.crowded:
        placed = _place(boxes, links, tracks, head, _HIGH)
    routes, columns = run_lines(links, placed.paths, placed.boxes)
    return Layout(
        boxes={name: replace(box, x=columns[box.column].middle) for name, box in placed.boxes.items()},
        rows=tuple(Row(level, *strip) for level, strip in zip(levels, placed.strips, strict=True)),
        columns=tuple(columns),
        bands=_bands(boxes, columns, stages),
        routes=routes,
        width=columns[-1].right + _RIGHT,
        height=placed.bottom,
    )


@dataclass(frozen=True, slots=True)
class _Placed:
    """Heights of everything; ``crowded`` are the spaces between rows where lines lie on each other."""

    boxes: dict[str, Box]
    strips: list[tuple[float, float]]
    bottom: float
    paths: dict[Link, list[float]]
    crowded: set[int]


def _place(
    boxes: Mapping[str, Box], links: Sequence[Link], tracks: Sequence[int], top: float, overlap: float
) -> _Placed:
    strips, heights, bottom = _strips(boxes, tracks, top)
    stacked = _stack(boxes, strips)
    router = Router(_free(stacked, strips, heights), [sum(strip) / 2 for strip in strips], overlap)
    paths = {link: router.route(stacked[link.source], stacked[link.target]) for link in _by_span(links, stacked)}
    crowded = {sum(top <= y for top, _ in strips) for _, y in router.overlaps()}
    return _Placed(stacked, strips, bottom, paths, crowded)


def _links(graph: NeckGraph) -> list[Link]:
    links = [Link(edge.source, node.name, i) for node in graph.nodes for i, edge in enumerate(node.inputs)]
    return links + [Link(name, mark_name(name, level), 0) for name, level in _ends(graph)]


def _ends(graph: NeckGraph) -> list[tuple[str, int | None]]:
    """Outputs with their levels, then auxiliary outputs with None."""
    aux: list[tuple[str, int | None]] = [(name, None) for name in dict.fromkeys(graph.aux)]
    return [(name, level) for level, name in graph.outputs.items()] + aux


def _boxes(
    graph: NeckGraph, levels: Sequence[int | None], columns: Mapping[str, int], labels: Mapping[str, str]
) -> dict[str, Box]:
    """Boxes of nodes and marks with sizes, rows and columns, but no place yet."""
    boxes: dict[str, Box] = {}
    for node in graph.nodes:
        width = max(_NODE_WIDTH, min(WIDEST_TEXT, text_width(labels[node.name], NAME_SIZE)) + 10.0)
        height = max(NODE_HEIGHT, 14.0 + _PER_INPUT * len(node.inputs))
        boxes[node.name] = Box(0.0, 0.0, width, height, columns[node.name], levels.index(node.level))
    last = max(columns.values()) + 1
    for name, level in _ends(graph):
        row = boxes[name].row
        boxes[mark_name(name, level)] = Box(0.0, 0.0, MARK_WIDTH, MARK_HEIGHT, last, row)
    return boxes


def _columns(graph: NeckGraph, stages: Stages) -> dict[str, int]:
    """Column of every node: its longest path, but no repeat before the one in front of it ends."""
    found: dict[str, int] = {}
    start = 0
    for stage in range(STEM, stages.count + 1):
        for node in graph.nodes:
            if stages.of[node.name] == stage:
                found[node.name] = max([start, *(found[edge.source] + 1 for edge in node.inputs)])
        start = max(found.values()) + 1
    return found


def text_width(text: str, size: float) -> float:
    """Estimated width of ``text`` in a sans-serif font of ``size``; on the wide side."""
    narrow = sum(character in "iljtf.,:;'|()[] /1" for character in text)
    return size * (0.62 * (len(text) - narrow) + 0.4 * narrow)


def _strips(
    boxes: Mapping[str, Box], tracks: Sequence[int], top: float
) -> tuple[list[tuple[float, float]], list[float], float]:
    """Top and bottom of each row, the heights of the tracks between rows, and the bottom of it all."""
    stacks: dict[tuple[int, int], float] = defaultdict(lambda: -_LANE_GAP)
    for box in boxes.values():
        stacks[box.row, box.column] += box.height + _LANE_GAP
    strips: list[tuple[float, float]] = []
    heights: list[float] = []
    y = top
    for row, count in enumerate(tracks):
        heights += [y + _TRACK * (i + 1) for i in range(count)]
        y += _TRACK * (count + 1)
        if row < len(tracks) - 1:
            tall = max(height for (at, _), height in stacks.items() if at == row)
            strips.append((y, y + tall))
            y += tall
    return strips, heights, y


def _stack(boxes: Mapping[str, Box], strips: Sequence[tuple[float, float]]) -> dict[str, Box]:
    """``boxes`` with their heights; those of one level and depth stand in a stack."""
    stacks: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name, box in boxes.items():
        stacks[box.row, box.column].append(name)
    placed: dict[str, Box] = {}
    for (row, _), names in stacks.items():
        total = sum(boxes[name].height for name in names) + _LANE_GAP * (len(names) - 1)
        y = (sum(strips[row]) - total) / 2
        for name in names:
            placed[name] = replace(boxes[name], y=y + boxes[name].height / 2)
            y += boxes[name].height + _LANE_GAP
    return placed


def _free(
    boxes: Mapping[str, Box], strips: Sequence[tuple[float, float]], tracks: Sequence[float]
) -> list[list[float]]:
    """For each column the heights at which a line may cross it: all tracks, and the middle of empty rows."""
    blocked = {(box.row, box.column) for box in boxes.values()}
    return [
        sorted([*tracks, *(sum(strip) / 2 for row, strip in enumerate(strips) if (row, column) not in blocked)])
        for column in range(max(box.column for box in boxes.values()) + 1)
    ]


def _by_span(links: Sequence[Link], boxes: Mapping[str, Box]) -> list[Link]:
    """Lines to the marks first, then short ones; among equals, lines within a row."""

    def effort(link: Link) -> tuple[bool, int, float]:
        source, target = boxes[link.source], boxes[link.target]
        return not is_mark(link.target), target.column - source.column, abs(target.y - source.y)

    return sorted(links, key=effort)


def _bands(boxes: Mapping[str, Box], columns: Sequence[Column], stages: Stages) -> tuple[Band, ...]:
    bands: list[Band] = []
    for repeat in range(stages.count):
        members = [boxes[name].column for name, stage in stages.of.items() if stage == repeat]
        left, right = columns[min(members)].left, columns[max(members)].right
        bands.append(Band(repeat, left - COLUMN_GAP / 2 + 4, right + COLUMN_GAP / 2 - 4))
    return tuple(bands)
