"""The SVG: valid XML with every node and edge once, escaped texts, the same bytes for the same graph."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from collections import Counter
from math import dist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasneck import load_space, necks
from nasneck.draw import draw_svg
from nasneck.draw.geometry import Link, Route
from nasneck.draw.shapes import mark_points
from nasneck.draw.words import edge_units
from nasneck.graph import Act, Edge, NeckGraph, Node, Norm, Pool
from nasneck.graph.node import input_node

from .graphs import DRAWN, everything

SVG = "{http://www.w3.org/2000/svg}"
GRAPHS = {**DRAWN, "everything": everything()}


def groups(svg: str, kind: str) -> list[ET.Element]:
    return [g for g in ET.fromstring(svg).iter(f"{SVG}g") if g.get("class") == kind]


def words(svg: str) -> str:
    return "\n".join(text.text or "" for text in ET.fromstring(svg).iter(f"{SVG}text"))


def check(graph: NeckGraph) -> None:
    svg = draw_svg(graph, all_repeats=True)
    assert Counter(g.get("data-node") for g in groups(svg, "node")) == Counter(n.name for n in graph.nodes)
    edges = Counter((g.get("data-source"), g.get("data-target"), g.get("data-position")) for g in groups(svg, "edge"))
    assert edges == Counter((e.source, n.name, str(i)) for n in graph.nodes for i, e in enumerate(n.inputs))
    outputs = {g.get("data-level"): g.get("data-node") for g in groups(svg, "output")}
    assert outputs == {str(level): name for level, name in graph.outputs.items()}
    assert [g.get("data-node") for g in groups(svg, "aux")] == list(graph.aux)
    levels = sorted({n.level for n in graph.nodes if n.level is not None}, reverse=True)
    off = ["off"] if any(n.level is None for n in graph.nodes) else []
    assert [g.get("data-level") for g in groups(svg, "row")] == off + [str(level) for level in levels]
    assert svg == draw_svg(NeckGraph.from_json(graph.to_json()), all_repeats=True)
    assert "NaN" not in svg and "nan" not in svg and "inf" not in svg.replace("info", "")


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_fixed_necks(graph: NeckGraph) -> None:
    check(graph)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), repeats=st.integers(1, 2))
def test_searched_necks(seed: int, repeats: int) -> None:
    space = load_space("nas_fpn", repeats=repeats)
    check(space.decode(space.sample(random.Random(seed))))


def test_alike_repeats_are_drawn_once() -> None:
    seven, one = draw_svg(necks.nas_fpn(repeats=7)), draw_svg(necks.nas_fpn(repeats=1))
    assert len(groups(seven, "node")) == len(groups(one, "node")) == 17
    assert len(groups(draw_svg(necks.nas_fpn(repeats=7), all_repeats=True), "repeat")) == 7
    assert len(groups(seven, "repeat")) == 1
    assert "repeat 1 of 7" in words(seven) and "× 7: all repeats are wired alike" in words(seven)
    titles = [g.find(f"{SVG}title") for g in groups(seven, "output")]
    assert next(t.text for t in titles if t is not None) == "output P3: r6_p3"


def test_texts_are_escaped() -> None:
    svg = draw_svg(everything())
    root = ET.fromstring(svg)
    assert 'a <b> & "c"' in words(svg)
    title = root.find(f"{SVG}title")
    assert title is not None and title.text == 'a <b> & "c"'
    assert "<script>" in words(draw_svg(necks.fpn(), title="<script>"))


def test_gates_are_marked_once_per_attention() -> None:
    svg = draw_svg(necks.nas_fpn(repeats=1))
    gated = {
        (g.get("data-source"), g.get("data-target"))
        for g in groups(svg, "edge")
        if any(text.text == "σ" for text in g.iter(f"{SVG}text"))
    }
    coarser = {("p6", "r0_mid0"), ("r0_p4", "r0_p5_merge"), ("r0_p5", "r0_p7_merge"), ("r0_p7", "r0_p6")}
    assert gated == coarser


def test_colours_and_dashes_tell_up_from_down() -> None:
    looks = {}
    for g in groups(draw_svg(necks.bifpn(repeats=1)), "edge"):
        line = g.findall(f"{SVG}path")[-1]
        looks[g.get("data-source"), g.get("data-target")] = (line.get("stroke"), line.get("stroke-dasharray"))
    up, down, same = looks["p7", "r0_p6_td"], looks["r0_p3", "r0_p4"], looks["p6", "r0_p6"]
    assert up == ("#1d4ed8", None) and down == ("#c2410c", "6 3") and same == ("#6b7280", None)
    assert looks["r0_p5_td", "r0_p4_td"] == up and looks["c5", "p6"] == down


def test_edges_show_what_happens_on_the_way() -> None:
    """Squares for projections, triangles for pools; the arrow head is a polygon too."""
    glyphs = {
        (g.get("data-source"), g.get("data-target")): (len(g.findall(f"{SVG}rect")), len(g.findall(f"{SVG}polygon")))
        for g in groups(draw_svg(necks.bifpn(repeats=1)), "edge")
    }
    assert glyphs["c5", "p6"] == (1, 2)
    assert glyphs["c4", "r0_p4"] == (1, 1)
    assert glyphs["r0_p3", "r0_p4"] == (0, 2)
    assert glyphs["p7", "r0_p7"] == (0, 1)


def test_a_convolution_with_norm_and_activation_is_one_glyph() -> None:
    graph = necks.fpg(stacks=5)
    assert [unit.text for unit in edge_units(graph["s4_p4"], 0, graph)] == ["relu, conv3x3/2, norm"]
    graph = necks.asff()
    units = [unit for unit in edge_units(graph["p5"], 2, graph) if unit.mark is not None]
    assert [(unit.mark, unit.plain) for unit in units] == [
        ("pool", "maxpool3x3/2"),
        ("conv", "conv3x3/2, norm, leaky_relu"),
    ]
    assert units[1].text == "conv3x3/2[c5], norm, leaky_relu", "with its width in words"
    alone = NeckGraph(
        [input_node(3), Node("p3", 3, "sum", [Edge("c3", [Norm(), Act("relu"), Pool("max", 3, 1), Norm()])])],
        outputs={3: "p3"},
    )
    marks = [(unit.mark, unit.text) for unit in edge_units(alone["p3"], 0, alone)]
    assert marks == [("other", "norm, relu"), ("pool", "maxpool3x3"), ("other", "norm")]


def test_glyphs_stand_on_their_line() -> None:
    """In the middle of an S-curve or of a flat piece, one after the other."""
    link = Link("a", "b", 0)
    steep = Route(link, ((0.0, 10.0, 0.0), (50.0, 60.0, 200.0)))
    points = mark_points(steep, 3)
    assert points[1] == (30.0, 100.0)
    assert all(abs((y - 100) - 10 * (x - 30)) < 1e-9 for x, y in points), "along the slope of the curve there"
    assert dist(points[0], points[1]) == pytest.approx(11)
    assert [y for _, y in points] == sorted(y for _, y in points)
    flat = Route(link, ((0.0, 10.0, 0.0), (50.0, 90.0, 40.0), (120.0, 130.0, 80.0)))
    assert mark_points(flat, 2) == [(64.5, 40.0), (75.5, 40.0)]
    straight = Route(link, ((0.0, 10.0, 5.0), (50.0, 60.0, 5.0)))
    assert mark_points(straight, 1) == [(30.0, 5.0)]


def test_legend_says_what_is_faded() -> None:
    assert "faded: only its size is read" in words(draw_svg(necks.hrfpn()))
    assert "faded: no output reads it" in words(draw_svg(necks.mlfpn(tums=1)))


def test_legend_leaves_widths_out() -> None:
    text = words(draw_svg(necks.yolox_pafpn(blocks=1)))
    assert "conv1×1, norm, silu" in text and "[" not in text
    assert "project: conv1×1 + norm + leaky_relu, only where the width changes" in words(draw_svg(necks.asff()))


def test_legend_lists_what_occurs() -> None:
    of_fpn, of_nas_fpn = words(draw_svg(necks.fpn())), words(draw_svg(necks.nas_fpn(repeats=1)))
    assert "global-pooling attention" in of_nas_fpn and "gates the other input" in of_nas_fpn
    assert "attention" not in of_fpn and "gates" not in of_fpn
    assert "conv3×3/2" in of_fpn and "conv3×3/2" not in of_nas_fpn
    assert "faded" in words(draw_svg(everything())) and "faded" not in of_fpn


def test_drawings_can_share_a_page() -> None:
    """No ids, style sheets or scripts, which would leak into a page that holds several drawings."""
    root = ET.fromstring(draw_svg(everything()))
    assert all(element.get("id") is None for element in root.iter())
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "g", "rect", "path", "polygon", "circle", "text", "title"}


def test_the_ground_is_white() -> None:
    root = ET.fromstring(draw_svg(necks.fpn()))
    ground = root.find(f"{SVG}rect")
    assert ground is not None and ground.get("fill") == "#ffffff"
    assert (ground.get("width"), ground.get("height")) == (root.get("width"), root.get("height"))


def test_texts_fit_their_nodes() -> None:
    for g in groups(draw_svg(everything()), "node"):
        box = g.find(f"{SVG}rect")
        assert box is not None
        for text in g.findall(f"{SVG}text"):
            assert len(text.text or "") * float(text.get("font-size", "0")) * 0.55 <= float(box.get("width", "0"))
