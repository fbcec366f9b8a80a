"""Geometry: nothing overlaps, rows follow levels, lines pass no box and do not lie on each other."""

from __future__ import annotations

import random
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasneck import load_space
from nasneck.draw.geometry import Box, Layout, Route, mark_name
from nasneck.draw.layout import lay_out
from nasneck.draw.repeats import find_stages
from nasneck.graph import NeckGraph

from .graphs import DRAWN, FIXED, everything

GRAPHS = {**DRAWN, "everything": everything()}
SPACES = {
    "published": load_space("nas_fpn", repeats=1),
    "two repeats": load_space("nas_fpn", repeats=2),
    "many cells": load_space("nas_fpn", repeats=1, intermediate=6, intermediate_levels=()),
    "few levels": load_space("nas_fpn", repeats=1, levels=(3, 5), intermediate_levels=()),
    "not loose": load_space("nas_fpn", repeats=1, intermediate=4, loose=False),
}


def laid_out(graph: NeckGraph) -> Layout:
    stages = find_stages(graph)
    return lay_out(graph, stages, {node.name: stages.label(node.name) for node in graph.nodes})


def points(route: Route) -> list[tuple[float, float]]:
    """The route as drawn, finely sampled: flat pieces and cubics with level ends between them."""
    found: list[tuple[float, float]] = []
    for left, right, y in route.pieces:
        if found:
            (x0, y0), steps = found[-1], 24
            middle = (x0 + left) / 2
            for i in range(1, steps):
                t = i / steps
                a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
                found.append((a * x0 + (b + c) * middle + d * left, (a + b) * y0 + (c + d) * y))
        found += [(left, y), *((left + (right - left) * i / 8, y) for i in range(1, 9))]
    return found


def inside(point: tuple[float, float], box: Box) -> bool:
    near = 0.01  # a line may touch the box at which it ends
    return box.left + near < point[0] < box.right - near and box.top + near < point[1] < box.bottom - near


def check(graph: NeckGraph) -> None:
    layout = laid_out(graph)
    marks = {mark_name(name, level) for level, name in graph.outputs.items()}
    marks |= {mark_name(name, None) for name in graph.aux}
    assert set(layout.boxes) == {node.name for node in graph.nodes} | marks

    for (one, a), (two, b) in combinations(layout.boxes.items(), 2):
        apart = a.right < b.left or b.right < a.left or a.bottom < b.top or b.bottom < a.top
        assert apart, f"{one} and {two} overlap"

    levels = [row.level for row in layout.rows]
    on_pyramid = [level for level in levels if level is not None]
    assert on_pyramid == sorted({n.level for n in graph.nodes if n.level is not None}, reverse=True)
    assert None not in levels[1:]
    assert all(above.bottom < below.top for above, below in pairwise(layout.rows))
    for node in graph.nodes:
        row, box = layout.rows[levels.index(node.level)], layout.boxes[node.name]
        assert row.top <= box.top and box.bottom <= row.bottom
        for edge in node.inputs:
            assert layout.boxes[edge.source].right < box.left
        assert box.right < min(layout.boxes[mark].left for mark in marks)
        assert not node.inputs or box.left > layout.columns[0].right
    assert len({layout.boxes[mark].x for mark in marks}) == 1

    wanted = [(edge.source, node.name, i) for node in graph.nodes for i, edge in enumerate(node.inputs)]
    found = [(r.link.source, r.link.target, r.link.position) for r in layout.routes if r.link.target not in marks]
    assert found == wanted
    for route in layout.routes:
        source, target = layout.boxes[route.link.source], layout.boxes[route.link.target]
        line = points(route)
        assert line[0][0] == pytest.approx(source.right) and source.top < line[0][1] < source.bottom
        assert line[-1][0] == pytest.approx(target.left) and target.top < line[-1][1] < target.bottom
        assert all(a[0] <= b[0] + 1e-9 for a, b in pairwise(line)), "a line runs backwards"
        for name, box in layout.boxes.items():
            assert not any(inside(point, box) for point in line), f"{route.link} runs through {name}"
        assert all(0 < x < layout.width and 0 < y < layout.height for x, y in line)

    for a, b in combinations(layout.routes, 2):
        for left, right, y in a.pieces:
            for other_left, other_right, other_y in b.pieces:
                if abs(y - other_y) < 1.0:
                    assert min(right, other_right) - max(left, other_left) < 20, f"{a.link} lies on {b.link}"

    for a, b in pairwise(layout.bands):
        assert a.right < b.left
    stages = find_stages(graph)
    for band in layout.bands:
        for node in graph.nodes:
            box = layout.boxes[node.name]
            member = stages.of[node.name] == band.repeat
            assert (band.left < box.left and box.right < band.right) == member


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_fixed_necks(graph: NeckGraph) -> None:
    check(graph)


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_searched_necks(name: str, seed: int) -> None:
    space = SPACES[name]
    check(space.decode(space.sample(random.Random(seed))))


@pytest.mark.parametrize("seed", [1037, 1101])
def test_lines_turn_in_an_order_that_keeps_them_apart(seed: int) -> None:
    """Drawings in which a line leaves its source at the very height at which another reaches its target."""
    check(SPACES["not loose"].decode(SPACES["not loose"].sample(random.Random(seed))))


def test_straight_lines_stay_straight() -> None:
    layout = laid_out(FIXED["fpn"])
    routes = {(route.link.source, route.link.target): route for route in layout.routes}
    for pair in (("c3", "td3"), ("c4", "td4"), ("td3", "p3"), ("p5", mark_name("p5", 5))):
        assert {y for _, _, y in routes[pair].pieces} == {layout.boxes[pair[0]].y}


def test_same_level_skips_arc_around_the_node_between() -> None:
    layout = laid_out(FIXED["bifpn 1"])
    route = next(r for r in layout.routes if (r.link.source, r.link.target) == ("c4", "r0_p4"))
    between = layout.boxes["r0_p4_td"]
    over = [y for left, right, y in route.pieces if left <= between.x <= right]
    assert len(over) == 1 and not between.top <= over[0] <= between.bottom
