"""A neck graph as SVG: no style sheet, ids or scripts, so that many drawings can stand on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from nasneck.draw import shapes
from nasneck.draw.blocks import Blocks, find_blocks, fold
from nasneck.draw.geometry import Box, Layout, Route, mark_name
from nasneck.draw.layout import NAME_SIZE, WIDEST_TEXT, lay_out, text_width
from nasneck.draw.legend import draw_legend
from nasneck.draw.repeats import Stages, collapse, find_stages
from nasneck.draw.style import (
    BAND_LINE,
    EDGE_COLOURS,
    EDGE_DASHES,
    FADED,
    FONT,
    INK,
    INSET,
    MUTED,
    ROW_FILL,
    look_of,
    mixed,
)
from nasneck.draw.words import (
    Mark,
    direction,
    edge_steps,
    edge_units,
    fusion_words,
    gate_position,
    input_expression,
    is_input,
    layer_words,
    level_name,
    live_nodes,
    summary,
)
from nasneck.graph import NeckGraph, Node

_NARROWEST = 620.0


def draw_svg(graph: NeckGraph, *, title: str | None = None, all_repeats: bool = False) -> str:
    """Return ``graph`` as the text of an SVG file, laid out by pyramid level.

    Rows are levels, the coarsest on top; columns are depth. Nodes carry class ``node`` and ``data-node``;
    edges class ``edge``, ``data-source``, ``data-target`` and ``data-position``; marks of outputs class
    ``output`` (``data-level``) or ``aux``. Pointing at any of them tells its details.

    Args:
        graph: What to draw.
        title: Heading; the graph's name if None.
        all_repeats: Draw every repeat and every node; otherwise repeats that are wired alike are drawn once, and
            the nodes of a block as one.
    """
    whole = graph
    collapsed = None if all_repeats else collapse(graph)
    if collapsed is not None:
        graph = collapsed.graph
    blocks = {} if all_repeats else find_blocks(graph)
    unfolded, graph = graph, fold(graph, blocks)
    stages = find_stages(graph)
    labels = {node.name: stages.label(node.name) for node in graph.nodes}
    layout = lay_out(graph, stages, labels)
    width = max(layout.width, _NARROWEST)
    heading = whole.name if title is None else title
    legend, bottom = draw_legend(
        graph,
        blocks,
        top=layout.height + 8,
        width=width,
        note=shapes.typeset(collapsed.note) if collapsed else None,
    )
    live = live_nodes(graph)
    parts = [
        shapes.tooltip(heading),
        shapes.rectangle(0, 0, width, bottom, fill="#ffffff"),
        shapes.label(20, 28, heading, 17, INK, font_weight="bold"),
        shapes.label(20, 46, shapes.typeset(summary(whole)), 11, MUTED),
        *_rows(layout, width),
        *_bands(layout, stages, collapsed.count if collapsed else stages.count),
        *(_edge(graph, route, live) for route in layout.routes),
        *(
            _node(graph, node, labels[node.name], layout.boxes[node.name], live, _tooltip(node, unfolded, blocks))
            for node in graph.nodes
        ),
        *(_mark(name, whole.outputs[level], level, layout.boxes) for level, name in graph.outputs.items()),
        *(_mark(name, of, None, layout.boxes) for name, of in dict(zip(graph.aux, whole.aux, strict=True)).items()),
        *legend,
    ]
    return (
        shapes.element(
            "svg",
            "\n" + "\n".join(parts) + "\n",
            xmlns="http://www.w3.org/2000/svg",
            width=width,
            height=bottom,
            viewBox=f"0 0 {width:.0f} {bottom:.0f}",
            role="img",
            font_family=FONT,
        )
        + "\n"
    )


def _rows(layout: Layout, width: float) -> list[str]:
    parts: list[str] = []
    for row in layout.rows:
        texts = [shapes.rectangle(10, row.top - 7, width - 20, row.bottom - row.top + 14, rx=8, fill=ROW_FILL)]
        if row.level is None:
            texts.append(shapes.label(20, row.middle - 2, "off the", 11, MUTED))
            texts.append(shapes.label(20, row.middle + 11, "pyramid", 11, MUTED))
        else:
            texts.append(shapes.label(20, row.middle + 1, level_name(row.level), 15, INK, font_weight="bold"))
            texts.append(shapes.label(20, row.middle + 14, f"stride {2**row.level}", 10, MUTED))
        level = "off" if row.level is None else row.level
        parts.append(shapes.element("g", "".join(texts), class_="row", data_level=level))
    return parts


def _bands(layout: Layout, stages: Stages, count: int) -> list[str]:
    parts: list[str] = []
    top, bottom = layout.rows[0].top - 34, layout.rows[-1].bottom + 12
    for band in layout.bands:
        text = f"repeat {band.repeat + 1}"
        if stages.count < count:
            text = f"repeat 1 of {count}, all alike"
        frame = shapes.rectangle(
            band.left,
            top,
            band.right - band.left,
            bottom - top,
            rx=10,
            fill="none",
            stroke=BAND_LINE,
            stroke_dasharray="3 3",
        )
        name = shapes.label(band.left + 10, top + 15, text, 11, MUTED, font_weight="bold")
        parts.append(shapes.element("g", frame + name, class_="repeat", data_repeat=band.repeat))
    return parts


def _edge(graph: NeckGraph, route: Route, live: Set[str]) -> str:
    link = route.link
    if link.target not in graph:
        looks = {"fill": "none", "stroke": INK, "stroke_width": 1.4}
        tip = (route.pieces[-1][1], route.pieces[-1][2])
        line = shapes.element("path", d=shapes.route_path(route, stop=5), **looks)
        return shapes.element("g", line + shapes.arrow_head(tip, INK), class_="lead", data_source=link.source)
    node = graph[link.target]
    towards = direction(node, link.position, graph)
    colour = EDGE_COLOURS[towards]
    gates = gate_position(node, graph) == link.position
    stop = 2 * shapes.GATE_RADIUS if gates else 5
    path = shapes.route_path(route, stop=stop)
    parts = [
        shapes.tooltip(_edge_words(graph, node, link.position, gates)),
        shapes.element("path", d=path, fill="none", stroke="#ffffff", stroke_width=9, stroke_opacity=0),
        shapes.element(
            "path", d=path, fill="none", stroke=colour, stroke_width=1.7, stroke_dasharray=EDGE_DASHES[towards]
        ),
    ]
    x, y = route.pieces[-1][1:]
    parts += shapes.gate_sign(x - shapes.GATE_RADIUS, y) if gates else [shapes.arrow_head((x, y), colour)]
    marks: list[Mark] = [unit.mark for unit in edge_units(node, link.position, graph) if unit.mark is not None]
    points = shapes.mark_points(route, len(marks))
    parts += [shapes.glyph(mark, point, colour) for mark, point in zip(marks, points, strict=True)]
    return shapes.element(
        "g",
        "".join(parts),
        class_="edge",
        data_source=link.source,
        data_target=link.target,
        data_position=link.position,
        opacity=None if link.target in live else FADED,
    )


def _node(graph: NeckGraph, node: Node, text: str, box: Box, live: Set[str], details: Sequence[str]) -> str:
    look = look_of(node)
    ends = node.name in graph.outputs.values() or node.name in graph.aux
    dark = is_input(node)
    ink = "#ffffff" if dark else INK
    frame = shapes.rectangle(
        box.left,
        box.top,
        box.width,
        box.height,
        rx=9,
        fill=look.colour if dark else mixed(look.colour, 0.24) if look.heavy else "#ffffff",
        stroke=look.colour,
        stroke_width=2.4 if ends else 1.4,
    )
    if len(details) > 1:  # a block: a second frame inside
        frame += shapes.rectangle(
            box.left + INSET,
            box.top + INSET,
            box.width - 2 * INSET,
            box.height - 2 * INSET,
            rx=9 - INSET,
            fill="none",
            stroke=look.colour,
            stroke_width=0.8,
        )
    plain = dark and text.lower() == look.symbol.lower()
    lines = [
        shapes.label(
            box.x, box.y + (5 if plain else -2), look.symbol, 14, ink, font_weight="bold", text_anchor="middle"
        )
    ]
    if not plain:
        lines.append(shapes.label(box.x, box.y + 12, _cut(text), NAME_SIZE, ink, text_anchor="middle"))
    body = shapes.tooltip("\n".join(details)) + frame + "".join(lines)
    return shapes.element(
        "g",
        body,
        class_="node",
        data_node=node.name,
        data_level=level_name(node.level),
        opacity=None if node.name in live else FADED,
    )


def _mark(name: str, of: str, level: int | None, boxes: Mapping[str, Box]) -> str:
    """The pill at the right end that says which output node ``name`` is; it stands for ``of`` in the whole graph."""
    kind, text = ("aux", "aux") if level is None else ("output", level_name(level))
    fill, ink = ("#ffffff", INK) if level is None else (INK, "#ffffff")
    box = boxes[mark_name(name, level)]
    body = [
        shapes.tooltip(f"{'auxiliary output' if level is None else f'output {text}'}: {of}"),
        shapes.rectangle(box.left, box.top, box.width, box.height, rx=box.height / 2, fill=fill, stroke=INK),
        shapes.label(box.x, box.y + 4.2, text, 12, ink, font_weight="bold", text_anchor="middle"),
    ]
    return shapes.element("g", "".join(body), class_=kind, data_node=of, data_level=level)


def _tooltip(node: Node, graph: NeckGraph, blocks: Blocks) -> list[str]:
    """Words on a node, or on each of a block's, whose edges are those of the unfolded ``graph``."""
    return [_node_words(graph, member) for member in blocks.get(node.name, (node,))]


def _node_words(graph: NeckGraph, node: Node) -> str:
    where = "off the pyramid" if node.level is None else f"level {node.level}, stride {2**node.level}"
    lines = [f"{node.name}: {where}"]
    if is_input(node):
        return f"{lines[0]}\nbackbone feature"
    lines.append(f"{fusion_words(node.op)} of:" if len(node.inputs) > 1 else "reads:")
    lines += [f"  {input_expression(node, i, graph)}" for i in range(len(node.inputs))]
    lines.append(f"then: {layer_words(node.layers, node.width) or 'nothing'}")
    lines.append(f"width: {node.width}")
    if node.shares is not None:
        lines.append(f"weights of {node.shares}")
    return "\n".join(lines)


def _edge_words(graph: NeckGraph, node: Node, position: int, gates: bool) -> str:
    steps = ", ".join(step.text for step in edge_steps(node, position, graph)) or "as it is"
    gate = "\ngates the other input" if gates else ""
    return f"{node.inputs[position].source} to {node.name}, input {position + 1}\n{steps}{gate}"


def _cut(text: str) -> str:
    """``text`` short enough for the widest node."""
    return text if text_width(text, NAME_SIZE) <= WIDEST_TEXT else f"{text[:8]}…{text[-7:]}"
