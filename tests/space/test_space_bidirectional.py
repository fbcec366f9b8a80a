"""The space of two paths: its size, decoding, encoding, and what is in it."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasneck import compile_neck, necks
from nasneck.errors import GraphError, SpaceError
from nasneck.experiment import Choice
from nasneck.graph import Attention, Conv, FastNormalized, NeckGraph, Node, Sum
from nasneck.graph.liveness import read_nodes
from nasneck.necks.bidirectional import build_bidirectional, slots
from nasneck.necks.paths import PathNode
from nasneck.proxy import NeckConfig
from nasneck.search_space import build_space
from nasneck.space import BidirectionalSpace, load_space

seeds = st.integers(0, 2**32)
WIDE = {"ops": ("fast_normalized", "sum", "attention", "max"), "convs": ("separable3", "conv3", "separable5", "conv1")}
CONV = Conv(3, separable=True, bias=False, init="glorot")


def read_by(graph: NeckGraph, name: str) -> list[str]:
    return [edge.source for edge in graph[name].inputs]


def zeros(space: BidirectionalSpace, **chosen: int) -> list[int]:
    """All zeros but for the decisions named, dots written as two underscores."""
    names = [decision.name for decision in space.decisions]
    choices = [0] * len(names)
    for name, choice in chosen.items():
        choices[names.index(name.replace("__", "."))] = choice
    return choices


def shipped(**overrides: object) -> BidirectionalSpace:
    space = load_space("bifpn", **overrides)
    assert isinstance(space, BidirectionalSpace)
    return space


# -- decisions ---------------------------------------------------------------------------------------


def test_the_size():
    """Top-down nodes have 3 subsets of two sources, bottom-up ones 7 of three, the last 3 of two."""
    edges = 3**3 * 3 * 7**3 * 3
    extras = (2 * 4 * 4) * 3 * (3 * 4 * 4) * 3
    assert shipped().size() == 4 * 2 * edges * extras * (3 * 2) ** 8
    assert f"{shipped().size():.2e}" == "1.55e+16"


def test_the_decisions():
    space = shipped()
    assert [d.name for d in space.decisions[:7]] == [
        "repeats",
        "width",
        "p6_td.inputs",
        "p6_td.extra",
        "p6_td.op",
        "p6_td.conv",
        "p5_td.inputs",
    ]
    assert [d.choices for d in space.decisions if d.kind == "inputs"] == [3, 3, 3, 3, 7, 7, 7, 3]
    assert [d.choices for d in space.decisions if d.kind == "extra"] == [2, 4, 4, 3, 3, 4, 4, 3]
    few = shipped(ops=("sum",), convs=("conv3",), extras=(), repeat_choices=(2,), widths=("channels",))
    assert {d.kind for d in few.decisions} == {"inputs"}
    assert few.decode([0] * 8).output_levels == (3, 4, 5, 6, 7)


def test_repeats_are_told_only_where_they_are_not_searched():
    assert shipped().repeats is None
    assert shipped(repeat_choices=(2,)).repeats == 2


def test_what_choices_mean_is_frozen():
    """Stored studies hold choices."""
    space = shipped(repeat_choices=(1,))
    graph = space.decode(
        zeros(
            space,
            width=1,
            p6_td__inputs=2,
            p6_td__extra=1,
            p5_td__extra=1,
            p5_td__op=1,
            p5_td__conv=1,
            p4_td__inputs=1,
            p4_td__extra=2,
            p4_td__op=2,
            p3__extra=2,
            p4__inputs=1,
            p4__extra=1,
            p5__inputs=4,
            p5__extra=1,
            p6__extra=3,
            p6__op=2,
            p7__inputs=1,
        )
    )
    assert {node.width for node in graph.nodes if node.inputs} == {"channels/2"}
    assert {name: read_by(graph, name) for name in list(graph.dag.nodes) if name.startswith("r0")} == {
        "r0_p6_td": ["p7", "c5"],  # subset 2: the coarser map alone; finer
        "r0_p5_td": ["c5", "r0_p6_td", "p7"],  # far
        "r0_p4_td": ["c4", "c5"],  # subset 1: the input alone; coarser
        "r0_p3": ["c3", "r0_p4_td", "c4"],  # far would be 1, coarser is 2
        "r0_p4": ["c4", "r0_p4_td", "c5"],  # subset 1: without the finer map; far is none here
        "r0_p5": ["c5", "r0_p3"],
        "r0_p6_merge": ["p6", "r0_p6_td"],
        "r0_p6": ["r0_p6_merge", "r0_p5", "c5"],
        "r0_p7": ["p7"],
    }


# -- decoding ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_every_vector_is_a_graph(seed):
    space = shipped(**WIDE)
    choices = space.sample(random.Random(seed))
    graph = space.decode(choices)
    assert graph.input_levels == (3, 4, 5) and graph.output_levels == (3, 4, 5, 6, 7)
    assert len([node for node in graph.nodes if node.layers]) == 8 * space.repeat_choices[choices[0]]
    assert len({node.width for node in graph.nodes if node.inputs}) == 1
    for node in graph.nodes:
        sources = [edge.source for edge in node.inputs]
        assert len(set(sources)) == len(sources), "no map is read twice by one node"
        if len(sources) == 1:
            assert node.op == Sum(), "no weights that have no effect"
    assert space.decode(choices) == graph


@pytest.mark.parametrize("seed", range(8))
def test_compiled_candidates_learn_everywhere(seed):
    """Shapes of the outputs, and gradients in all parameters, also of vectors with unread nodes."""
    space = shipped(**WIDE, repeat_choices=(1, 2))
    rng = random.Random(seed)
    graph = space.decode(space.sample(rng))
    torch.manual_seed(seed)
    neck = compile_neck(graph, {3: 12, 4: 8, 5: 16}, 8)
    sizes = {3: (33, 24), 4: (17, 12), 5: (9, 6)}
    outputs = neck([torch.randn(2, neck.in_channels[level], *sizes[level]) for level in (3, 4, 5)])
    width = 8 if graph[graph.outputs[3]].width == "channels" else 4
    found = [tuple(map_.shape) for map_ in outputs]
    assert found == [(2, width, *size) for size in ((33, 24), (17, 12), (9, 6), (5, 3), (3, 2))]
    sum((map_ * torch.randn_like(map_)).sum() for map_ in outputs).backward()
    for name, parameter in neck.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_unread_nodes_do_not_count():
    space = shipped(repeat_choices=(1,))
    # Nobody reads P4's top-down node: P3 takes its input, P4 its input and P3.
    unread = {"p3__inputs": 1, "p4__inputs": 2}
    graph = space.decode(zeros(space, **unread))
    assert "r0_p4_td" not in read_nodes(graph, graph.outputs.values())
    same = space.decode(zeros(space, **unread, p4_td__op=1, p4_td__conv=1, p4_td__extra=3))
    assert same.key() == graph.key() and same != graph


# -- encoding ----------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seeds, st.booleans())
def test_encode_finds_a_vector_of_equal_key(seed, wide):
    space = shipped(**(WIDE if wide else {}))
    choices = space.sample(random.Random(seed))
    graph = space.decode(choices)
    found = space.encode(graph)
    assert space.decode(found).key() == graph.key()
    assert found <= choices
    assert space.encode(space.decode(found)) == found


NARROW = {"ops": ("fast_normalized",), "convs": ("conv3",), "extras": (), "widths": ("channels",)}
TINY = [
    {"levels": (3, 4), "repeat_choices": (1, 2, 3), "ops": ("softmax", "attention")},
    {"levels": (5, 6), "repeat_choices": (2, 1), "ops": ("sum", "fast_normalized")},
    {**NARROW, "levels": (3, 5), "extras": ("far", "coarser"), "repeat_choices": (2,)},
    {**NARROW, "levels": (3, 5), "repeat_choices": (1, 2, 3), "widths": ("channels/2", "channels")},
    {**NARROW, "levels": (3, 5), "repeat_choices": (2,), "ops": ("attention", "fast_normalized")},
]
LARGER = [
    {**NARROW, "levels": (4, 6), "repeat_choices": (3, 1), "extras": ("finer",), "ops": ("sum",)},
    {**NARROW, "levels": (3, 6), "repeat_choices": (2,), "ops": ("sum",)},
]


@pytest.mark.parametrize(
    "options",
    [*TINY, *(pytest.param(options, marks=pytest.mark.long) for options in LARGER)],
    ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items()),
)
def test_encode_finds_the_smallest_of_all_vectors(options):
    """Every vector of a small space is decoded; encode of any of them is the first with its key."""
    space = BidirectionalSpace(**options)
    assert 500 < space.size() < 6000
    first: dict[str, tuple[int, ...]] = {}
    example: dict[str, NeckGraph] = {}
    for choices in itertools.product(*(range(decision.choices) for decision in space.decisions)):
        graph = space.decode(choices)
        first.setdefault(graph.key(), choices)
        example[graph.key()] = graph  # the last one that is met
    assert 1 < len(first) < space.size()
    # Those with many vectors first: there is something to choose.
    keys = sorted(first, key=lambda key: example[key] == space.decode(first[key]))[:60]
    keys += random.Random(0).sample(sorted(first), min(len(first), 60))
    for key in keys:
        assert space.encode(example[key]) == first[key]


@pytest.mark.parametrize("repeats", [1, 2, 3, 4])
@pytest.mark.parametrize(("inputs", "levels"), [((3, 5), (3, 7)), ((2, 5), (2, 6)), ((3, 5), (4, 5))])
def test_the_published_network_is_in_the_space(repeats, inputs, levels):
    space = build_space(Choice("bifpn"), NeckConfig(inputs=inputs, levels=levels))
    graph = necks.bifpn(inputs, levels, repeats=repeats)
    assert graph in space
    assert space.encode(graph) == (repeats - 1, *[0] * (len(space.decisions) - 1))
    assert space.decode(space.encode(graph)).key() == graph.key()


def test_other_fusions_of_the_published_network_are_in_the_space():
    space = shipped(ops=("fast_normalized", "softmax", "sum"))
    for fusion in space.ops:
        for separable in (True, False):
            assert necks.bifpn(repeats=2, fusion=fusion, separable=separable) in space
    assert necks.bifpn(repeats=2, fusion="softmax") not in shipped()


@pytest.mark.parametrize(
    "graph",
    [
        necks.fpn(),
        necks.panet(),
        necks.nas_fpn(),
        necks.bifpn(repeats=5),
        necks.bifpn(bias=True),
        necks.bifpn(padding="same"),
        necks.bifpn((2, 5), (2, 6)),
        necks.bifpn((3, 5), (3, 6)),
        shipped(convs=("conv1",)).decode([0] * 26),
        shipped(widths=("channels*2",)).decode([0] * 33),
    ],
    ids=str,
)
def test_graphs_outside_are_refused(graph):
    space = shipped()
    assert graph not in space
    with pytest.raises(SpaceError, match=r"NeckGraph\(.*\) is not in the space 'bifpn' \(inputs \(3, 5\), levels"):
        space.encode(graph)


def test_one_more_weightless_node_is_outside():
    graph = necks.bifpn(repeats=1)
    more = Node("p3_more", 3, "max", [graph.outputs[3]])
    assert NeckGraph([*graph.nodes, more], outputs={**graph.outputs, 3: "p3_more"}) not in shipped()
    assert NeckGraph(graph.nodes, outputs=graph.outputs, aux=("p6",)) not in shipped()


# -- the builder -------------------------------------------------------------------------------------


def test_the_builder_makes_the_published_network():
    fusion = FastNormalized()
    nodes = [
        PathNode("down", 4, (("input", 4), ("down", 5)), fusion, CONV),
        PathNode("out", 3, (("input", 3), ("down", 4)), fusion, CONV),
        PathNode("out", 4, (("input", 4), ("down", 4), ("out", 3)), fusion, CONV),
        PathNode("out", 5, (("input", 5), ("out", 4)), fusion, CONV),
    ]
    built = build_bidirectional(nodes, inputs=(3, 5), levels=(3, 5), repeats=2)
    assert built == necks.bifpn((3, 5), (3, 5), repeats=2), "to the names"


def test_attention_of_three_joins_two_and_adds_the_third():
    nodes = [
        PathNode("out", 3, (("input", 3), ("down", 4)), Sum(), CONV),
        PathNode("out", 4, (("input", 4), ("out", 3), ("input", 3)), Attention(), CONV),
    ]
    graph = build_bidirectional(nodes, inputs=(3, 4), levels=(3, 4), repeats=1)
    merged, node = graph["r0_p4_merge"], graph["r0_p4"]
    assert merged.op == Attention() and not merged.layers and read_by(graph, "r0_p4_merge") == ["c4", "r0_p3"]
    assert node.op == Sum() and node.layers and read_by(graph, "r0_p4") == ["r0_p4_merge", "c3"]


def test_an_edge_down_halves_once_an_octave():
    graph = shipped().decode(zeros(shipped(), p5__extra=1))  # far: P5 reads P3 of the repeat
    (edge,) = [edge for edge in graph["r0_p5"].inputs if edge.source == "r0_p3"]
    assert [type(op).__name__ for op in edge.ops or ()] == ["Pool", "Pool", "Resample"]
    (edge,) = [edge for edge in graph["r0_p5"].inputs if edge.source == "r0_p4"]
    assert [type(op).__name__ for op in edge.ops or ()] == ["Pool", "Resample"]


def test_wrong_nodes_are_refused():
    two = [PathNode(*slot, (("input", slot[1]),), Sum(), CONV) for slot in slots((3, 4))]
    for nodes, options, message in (
        (two[:1], {}, "the nodes are"),
        (two[::-1], {}, "the nodes are"),
        (two, {"repeats": 0}, "repeats=0 is not a whole number of at least 1"),
        (two, {"levels": (3, 3)}, "two paths need at least two levels"),
        ([PathNode("out", 3, (("out", 4),), Sum(), CONV), two[1]], {}, r"node 'r0_p3' reads \('out', 4\), which is"),
        ([PathNode("out", 3, (), Sum(), CONV), two[1]], {}, "reads nothing"),
    ):
        with pytest.raises(GraphError, match=message):
            build_bidirectional(nodes, **{"inputs": (3, 4), "levels": (3, 4), "repeats": 1, **options})


# -- settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (5, 5)}, r"levels=\(5, 5\): a first and a coarser last level are wanted"),
        ({"ops": ("summ",)}, r"unknown name 'summ' in ops; did you mean 'sum'\?"),
        ({"ops": ("gate",)}, "unknown name 'gate' in ops"),
        ({"ops": ()}, r"ops=\(\): at least one is wanted, each once"),
        ({"convs": ("conv3", "conv3")}, "convs=.*: at least one is wanted, each once"),
        ({"convs": ("conv7",)}, r"unknown name 'conv7' in convs.*\(known: conv1, conv3, separable3, separable5\)"),
        ({"extras": ("near",)}, "unknown name 'near' in extras"),
        ({"repeat_choices": ()}, "repeat_choices"),
        ({"repeat_choices": (1, 0)}, "0 is not at least 1"),
        ({"widths": ("chanels",)}, "space 'bidirectional' cannot be decoded: width 'chanels' is not valid"),
        ({"inputs": (4, 6)}, "cannot be decoded: .*its finest level P3 has no features"),
    ],
)
def test_settings_that_make_no_space(options, message):
    with pytest.raises(SpaceError, match=message):
        BidirectionalSpace(**options)
