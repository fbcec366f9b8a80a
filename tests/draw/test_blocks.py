"""Blocks are read off names and wiring, and drawn as one box."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from nasneck import necks
from nasneck.draw import draw_svg
from nasneck.draw.blocks import block_words, find_blocks, fold
from nasneck.graph import Conv, Edge, NeckGraph, Node, Resample
from nasneck.graph.node import input_node

from .graphs import FIXED

SVG = "{http://www.w3.org/2000/svg}"
BODY = Node("b_body", 3, "sum", [Edge("b_in", ())], [Conv(3)])
OUT = Node("b", 3, "sum", [Edge("b_body", ()), Edge("b_in", ())])
LAST = Node("p3", 3, "sum", [Edge("b", ())], [Conv(1)])


def residual(*, body: Node = BODY, out: Node = OUT, more: tuple[Node, ...] = (LAST,), aux: str = "") -> NeckGraph:
    """A residual block over the sum of two features."""
    entry = Node("b_in", 3, "sum", [Edge("c3", ()), Edge("c4", [Resample("nearest", to="c3")])])
    nodes = [input_node(3), input_node(4), entry, body, out, *more]
    return NeckGraph(nodes, outputs={3: "p3"}, aux=[aux] if aux else [])


def test_a_residual_block() -> None:
    graph = residual()
    blocks = find_blocks(graph)
    assert {name: [node.name for node in members] for name, members in blocks.items()} == {"b": ["b_in", "b_body", "b"]}
    folded = fold(graph, blocks)
    assert [node.name for node in folded.nodes] == ["c3", "c4", "b", "p3"]
    assert folded["b"].inputs == graph["b_in"].inputs
    assert block_words(blocks["b"]) == "in: sum; body: in -> conv3x3; out: sum(body, in)"


@pytest.mark.parametrize(
    "graph",
    [
        residual(aux="b_body"),
        residual(out=Node("b", 3, "sum", [Edge("b_body", ()), Edge("b_in", ()), Edge("c3", ())])),
        residual(more=(Node("p3", 3, "sum", [Edge("b", ()), Edge("b_body", ())]),)),
        residual(more=(Node("p3", 3, "sum", [Edge("b", ()), Edge("c4", [Resample("nearest", to="b_in")])]),)),
        residual(more=(Node("p3", 3, "sum", [Edge("b", ())], [Conv(3)], shares="b_body"),)),
        residual(
            out=Node("b", 3, "sum", [Edge("b_body", ()), Edge("b_in", ())], [Conv(1)]),
            more=(Node("p3", 3, "sum", [Edge("b", ()), Edge("b", ())], [Conv(1)], shares="b"),),
        ),
        residual(
            body=Node("half", 3, "sum", [Edge("b_in", ())], [Conv(3)]),
            out=Node("b", 3, "sum", [Edge("half", ()), Edge("b_in", ())]),
        ),
    ],
    ids=[
        "an output inside",
        "two ways in",
        "read inside",
        "its size is taken",
        "weights shared inside",
        "weights of the last node shared",
        "another's node",
    ],
)
def test_what_is_no_block(graph: NeckGraph) -> None:
    assert find_blocks(graph) == {}
    assert fold(graph, {}) == graph


def test_a_block_within_a_block_is_part_of_it() -> None:
    entry = Node("b_x_in", 3, "sum", [Edge("b_in", ())])
    body = Node("b_x_body", 3, "sum", [Edge("b_x_in", ())], [Conv(3)])
    inner = Node("b_x", 3, "sum", [Edge("b_x_body", ()), Edge("b_x_in", ())])
    out = Node("b", 3, "sum", [Edge("b_x", ()), Edge("b_in", ())])
    graph = residual(body=entry, out=out, more=(body, inner, LAST))
    assert list(find_blocks(graph)) == ["b"]
    assert [node.name for node in fold(graph, find_blocks(graph)).nodes] == ["c3", "c4", "b", "p3"]


@pytest.mark.parametrize("name", FIXED)
def test_necks_without_blocks_stay_as_they_are(name: str) -> None:
    assert find_blocks(FIXED[name]) == {}


@pytest.mark.parametrize(
    ("graph", "owners"),
    [
        (necks.yolox_pafpn(), {"td4", "td3", "bu4", "bu5"}),
        (necks.cspnext_pafpn(blocks=1), {"td4", "td3", "bu4", "bu5"}),
        (necks.spinenet(), {f"b{i}" for i in range(15)}),
        (necks.spinenet(block_repeats=2), {f"b{i}" for i in range(15)}),
    ],
)
def test_blocks_of_the_necks(graph: NeckGraph, owners: set[str]) -> None:
    blocks = find_blocks(graph)
    # the stem's blocks read their feature twice and stay open
    assert {name for name in blocks if not name.startswith("stem")} == owners
    drawn = ET.fromstring(draw_svg(graph))
    names = {g.get("data-node") for g in drawn.iter(f"{SVG}g") if g.get("class") == "node"}
    assert names == {node.name for node in fold(graph, blocks).nodes}
    for g in drawn.iter(f"{SVG}g"):
        if g.get("class") == "node":
            name = g.get("data-node") or ""
            members = blocks.get(name, (graph[name],))
            assert len(g.findall(f"{SVG}rect")) == 1 + (len(members) > 1), "a double frame"
            title = g.find(f"{SVG}title")
            assert title is not None and all(f"{node.name}: " in (title.text or "") for node in members)
    assert "block: in: " in "".join(text.text or "" for text in drawn.iter(f"{SVG}text"))
