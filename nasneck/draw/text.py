"""A neck graph as plain text: one line per node, in the order in which they are computed."""

from __future__ import annotations

from nasneck.draw.repeats import Stages, collapse, find_stages
from nasneck.draw.words import (
    fusion_name,
    gate_position,
    input_expression,
    is_input,
    is_pass_through,
    layer_words,
    level_name,
    live_nodes,
    project_notes,
    sized_nodes,
    summary,
    unread_words,
)
from nasneck.graph import NeckGraph, Node, Sum

_COLUMNS = 110


def draw_text(graph: NeckGraph, *, title: str | None = None, all_repeats: bool = False) -> str:
    """Return ``graph`` as text for a terminal or a log, lines of at most 110 columns where names allow.

    ``P4  p4 = td4 + up2(td5) -> relu, conv3x3`` reads: on level 4, node p4 sums td4 and td5 enlarged by two,
    then applies the layers after the arrow.

    Args:
        graph: What to draw.
        title: First word; the graph's name if None.
        all_repeats: Write out every repeat; otherwise repeats that are wired alike are written once.
    """
    whole = graph
    collapsed = None if all_repeats else collapse(graph)
    if collapsed is not None:
        graph = collapsed.graph
    stages = find_stages(graph)
    lines = [f"{whole.name if title is None else title}: {summary(whole)}"]
    if collapsed is not None:
        lines += _wrap(collapsed.note, "")
    width = max(len(node.name) for node in graph.nodes)
    live, sized = live_nodes(graph), sized_nodes(graph)
    stage = None
    for node in graph.nodes:
        now = _heading(node, stages, collapsed.count if collapsed else stages.count)
        if now != stage:
            lines += ["", now]
            stage = now
        lines += _node_lines(node, graph, width, unread=unread_words(node.name, live, sized))
    lines.append("")
    outputs = ", ".join(f"P{level} = {name}" for level, name in whole.outputs.items())
    lines += _wrap(f"outputs: {outputs}", " " * 9)
    if whole.aux:
        lines += _wrap(f"auxiliary outputs: {', '.join(whole.aux)}", " " * 9)
    lines += project_notes(graph)
    return "\n".join(lines) + "\n"


def _heading(node: Node, stages: Stages, count: int) -> str:
    stage = stages.of[node.name]
    if is_input(node):
        return "backbone"
    if stages.count == 0 or stage == -1:
        return "neck" if stages.count == 0 else "before the repeats"
    if stage == stages.count:
        return "after the repeats"
    if stages.count < count:
        return f"repeat 1 of {count}"
    return f"repeat {stage + 1}" + (f" of {count}" if count > 1 else "")


def _node_lines(node: Node, graph: NeckGraph, width: int, *, unread: str) -> list[str]:
    note = f"  [{unread}]" if unread else ""
    head = f"  {level_name(node.level):<4}{node.name:<{width}}"
    if is_input(node):
        return [f"  C{node.level:<3}{node.name}{note}"]
    terms = [input_expression(node, i, graph) for i in range(len(node.inputs))]
    gate = gate_position(node, graph)
    if gate is not None:
        terms[gate] = f"gate {terms[gate]}"
    if isinstance(node.op, Sum) or is_pass_through(node):
        body = " + ".join(terms)
    else:
        body = f"{fusion_name(node.op)}({', '.join(terms)})"
    if node.layers:
        body += f" -> {layer_words(node.layers, node.width)}"
    if node.width != "channels":
        body += f"  [width {node.width}]"
    if node.shares is not None:
        body += f"  [weights of {node.shares}]"
    return _wrap(f"{head} = {body}{note}", " " * (len(head) + 3))


def _wrap(line: str, indent: str) -> list[str]:
    """Break ``line`` at spaces, or else after brackets, so that it fits; spaces inside its head are kept."""
    lines: list[str] = []
    while len(line) > _COLUMNS:
        cut = line.rfind(" ", len(indent) + 1, _COLUMNS + 1)
        if cut <= len(indent):
            cut = line.rfind("(", len(indent) + 1, _COLUMNS) + 1
        if cut <= len(indent):
            break
        lines.append(line[:cut].rstrip())
        line = indent + line[cut:].lstrip()
    return [*lines, line.rstrip()]
