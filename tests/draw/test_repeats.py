"""Repeats are read off the names, and drawn once where they are wired alike."""

from __future__ import annotations

import random

import pytest

from nasneck import load_space, necks
from nasneck.draw.repeats import STEM, collapse, find_stages
from nasneck.graph import Conv, Edge, NeckGraph, Node
from nasneck.graph.node import input_node


def chain(*, kernels: tuple[int, ...], shares: bool = False) -> NeckGraph:
    """A stem, one node per repeat with the kernels given, and a tail."""
    nodes = [input_node(3), Node("stem", 3, "sum", (Edge("c3", ()),))]
    for i, kernel in enumerate(kernels):
        source = f"r{i - 1}_x" if i else "stem"
        owner = "r0_x" if shares and i else None
        nodes.append(Node(f"r{i}_x", 3, "sum", (Edge(source, ()),), (Conv(kernel),), shares=owner))
    nodes.append(Node("tail", 3, "sum", (Edge(f"r{len(kernels) - 1}_x", ()),)))
    return NeckGraph(nodes, outputs={3: "tail"})


def test_stages_are_stem_repeats_and_tail() -> None:
    stages = find_stages(chain(kernels=(3, 3)))
    assert stages.count == 2
    assert dict(stages.of) == {"c3": STEM, "stem": STEM, "r0_x": 0, "r1_x": 1, "tail": 2}
    assert stages.label("r1_x") == "x"


def test_arbitrary_names_have_no_repeats() -> None:
    stages = find_stages(necks.fpn())
    assert stages.count == 0
    assert set(stages.of.values()) == {STEM}


def test_names_that_run_backwards_are_no_repeats() -> None:
    nodes = [
        input_node(3),
        Node("r1_x", 3, "sum", (Edge("c3", ()),)),
        Node("r0_x", 3, "sum", (Edge("r1_x", ()),)),
    ]
    assert find_stages(NeckGraph(nodes, outputs={3: "r0_x"})).count == 0


@pytest.mark.parametrize("repeats", [2, 3, 7])
def test_one_repeat_stands_for_all(repeats: int) -> None:
    for neck in (necks.nas_fpn, necks.bifpn):
        collapsed = collapse(neck(repeats=repeats))
        assert collapsed is not None
        assert collapsed.graph == neck(repeats=1)
        assert collapsed.count == repeats
        assert not collapsed.shared


def test_only_bifpn_drops_projections_after_the_first_repeat() -> None:
    of_bifpn, of_nas_fpn = collapse(necks.bifpn(repeats=3)), collapse(necks.nas_fpn(repeats=3))
    assert of_bifpn is not None and of_bifpn.note.endswith("without the 1x1 projections")
    assert of_nas_fpn is not None and of_nas_fpn.note.endswith("read the outputs of the one before")


def test_searched_graphs_collapse_too() -> None:
    one, three = load_space("nas_fpn", repeats=1), load_space("nas_fpn", repeats=3)
    for seed in range(10):
        choices = one.sample(random.Random(seed))
        collapsed = collapse(three.decode(choices))
        assert collapsed is not None
        assert collapsed.graph == one.decode(choices)


def test_tail_reads_the_repeat_that_is_drawn() -> None:
    collapsed = collapse(chain(kernels=(3, 3, 3)))
    assert collapsed is not None
    assert [node.name for node in collapsed.graph.nodes] == ["c3", "stem", "r0_x", "tail"]
    assert collapsed.graph["tail"].inputs[0].source == "r0_x"


def test_shared_weights_are_told() -> None:
    collapsed = collapse(chain(kernels=(3, 3), shares=True))
    assert collapsed is not None
    assert "weights shared" in collapsed.note


def test_repeats_that_differ_are_kept() -> None:
    assert collapse(chain(kernels=(3, 5))) is None
    assert collapse(chain(kernels=(3,))) is None
    assert collapse(necks.fpn()) is None


def test_crossed_wiring_is_not_alike() -> None:
    """The second repeat reads its two inputs the other way round."""
    nodes = [input_node(3), Node("a", 3, "sum", (Edge("c3", ()),)), Node("b", 3, "max", (Edge("c3", ()),))]
    sources = {"a": "a", "b": "b"}
    for repeat, swapped in enumerate((False, False, True)):
        read = {"a": sources["b"], "b": sources["a"]} if swapped else sources
        for name in "ab":
            nodes.append(Node(f"r{repeat}_{name}", 3, "sum", (Edge(read[name], ()),), (Conv(3),)))
        sources = {name: f"r{repeat}_{name}" for name in "ab"}
    nodes.append(Node("end", 3, "sum", (Edge(sources["a"], ()), Edge(sources["b"], ()))))
    assert collapse(NeckGraph(nodes, outputs={3: "end"})) is None


def test_a_hidden_output_forbids_it() -> None:
    graph = chain(kernels=(3, 3))
    assert collapse(NeckGraph(graph.nodes, outputs=graph.outputs, aux=("r0_x",))) is None
