"""The legend under a drawing: only what occurs in it."""

from __future__ import annotations

from collections.abc import Iterator

from nasneck.draw import shapes
from nasneck.draw.blocks import Blocks, block_words
from nasneck.draw.layout import text_width
from nasneck.draw.style import (
    EDGE_COLOURS,
    EDGE_DASHES,
    EDGE_WORDS,
    FADED,
    INK,
    INSET,
    MUTED,
    PASS_COLOUR,
    Look,
    look_of,
    mixed,
)
from nasneck.draw.words import (
    Mark,
    direction,
    edge_units,
    gate_position,
    is_input,
    layer_words,
    live_nodes,
    project_notes,
    sized_nodes,
    unread_words,
)
from nasneck.graph import NeckGraph

_LEFT, _LINE, _WRAPPED, _SIZE = 20.0, 24.0, 16.0, 11.0
_SAMPLE, _BETWEEN = 40.0, 20.0
_BOX = 34.0


def draw_legend(
    graph: NeckGraph, blocks: Blocks, *, top: float, width: float, note: str | None
) -> tuple[list[str], float]:
    """Return the legend's elements and the height at which it ends.

    Args:
        graph: What is drawn.
        blocks: Its nodes that stand for several.
        top: Where the legend starts.
        width: Width of the drawing, at which lines break.
        note: A line to put first.
    """
    parts: list[str] = []
    y = top + _LINE / 2
    if note is not None:
        for line in _lines(note, width - 2 * _LEFT):
            parts.append(shapes.label(_LEFT, y + 4, line, _SIZE, INK, class_="note"))
            y += _WRAPPED
        y += 10
    for keys in (_nodes(graph, blocks), _blocks(blocks), [*_edges(graph), *_marks(graph)]):
        x, keys = _LEFT, list(keys)
        for sample, words in keys:
            lines = list(_lines(words, width - 2 * _LEFT - _SAMPLE))
            room = _SAMPLE + max(text_width(line, _SIZE) for line in lines)
            if x > _LEFT and x + room > width - _LEFT:
                x, y = _LEFT, y + _LINE
            body = shapes.element("g", "".join(sample), transform=f"translate({x:.1f} {y:.1f})")
            for i, line in enumerate(lines):
                body += shapes.label(x + _SAMPLE, y + 4 + _WRAPPED * i, line, _SIZE, MUTED)
            parts.append(shapes.element("g", body, class_="key"))
            x, y = x + room + _BETWEEN, y + _WRAPPED * (len(lines) - 1)
        y += _LINE if keys else 0.0
    return parts, y


def _nodes(graph: NeckGraph, blocks: Blocks) -> Iterator[tuple[list[str], str]]:
    looks: dict[tuple[str, str], Look] = {}
    layers: dict[str, None] = {}
    light = False
    for node in graph.nodes:
        look = look_of(node)
        if is_input(node):
            continue
        light = light or not look.heavy
        if looks.setdefault((look.symbol, look.words), look).heavy < look.heavy:
            looks[look.symbol, look.words] = look
        if node.layers and node.name not in blocks:
            layers[shapes.typeset(layer_words(node.layers, None))] = None
    for look in looks.values():
        yield _box(look.symbol, look.colour, heavy=look.heavy), look.words
    if layers:
        yield _box("", PASS_COLOUR, heavy=True), f"filled: followed by {' | '.join(layers)}"
    if light:
        yield _box("", PASS_COLOUR, heavy=False), "white: no layers, no weights of its own"
    live, sized = live_nodes(graph), sized_nodes(graph)
    unread = dict.fromkeys(unread_words(node.name, live, sized) for node in graph.nodes if node.name not in live)
    if unread:
        sample = [shapes.element("g", "".join(_box("", PASS_COLOUR, heavy=True)), opacity=FADED)]
        yield sample, f"faded: {' or '.join(unread)}"


def _blocks(blocks: Blocks) -> Iterator[tuple[list[str], str]]:
    words = dict.fromkeys(block_words(members) for members in blocks.values())
    for text in words:
        inner = shapes.rectangle(
            INSET, INSET - 9, _BOX - 2 * INSET, 18 - 2 * INSET, rx=2, fill="none", stroke=PASS_COLOUR, stroke_width=0.8
        )
        yield [*_box("", PASS_COLOUR, heavy=True), inner], f"block: {shapes.typeset(text)}"


def _box(symbol: str, colour: str, *, heavy: bool) -> list[str]:
    fill = mixed(colour, 0.24) if heavy else "#ffffff"
    frame = shapes.rectangle(0, -9, _BOX, 18, rx=5, fill=fill, stroke=colour, stroke_width=1.4)
    text = shapes.label(_BOX / 2, 4, symbol, 11, INK, font_weight="bold", text_anchor="middle") if symbol else ""
    return [frame, text]


def _edges(graph: NeckGraph) -> Iterator[tuple[list[str], str]]:
    found = {direction(node, i, graph) for node in graph.nodes for i in range(len(node.inputs))}
    for towards, colour in EDGE_COLOURS.items():
        if towards in found:
            line = shapes.element(
                "path",
                d="M0 0H29",
                fill="none",
                stroke=colour,
                stroke_width=1.7,
                stroke_dasharray=EDGE_DASHES[towards],
            )
            yield [line, shapes.arrow_head((_BOX, 0.0), colour)], EDGE_WORDS[towards]
    if any(gate_position(node, graph) is not None for node in graph.nodes):
        yield shapes.gate_sign(_BOX / 2, 0.0), "gates the other input"


def _marks(graph: NeckGraph) -> Iterator[tuple[list[str], str]]:
    texts: dict[Mark, dict[str, None]] = {}
    notes = project_notes(graph)
    for node in graph.nodes:
        for i in range(len(node.inputs)):
            for unit in edge_units(node, i, graph):
                if unit.mark is not None:
                    words = notes if unit.plain == "project" else [unit.plain]
                    texts.setdefault(unit.mark, {}).update(dict.fromkeys(words))
    for mark, words in texts.items():
        text = shapes.typeset(" | ".join(words))
        yield [shapes.glyph(mark, (_BOX / 2, 0.0), INK)], text


def _lines(text: str, width: float) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and text_width(f"{line} {word}", _SIZE) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line
