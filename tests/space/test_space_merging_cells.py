"""The NAS-FPN space: its size, decoding, encoding, the loose rule."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasneck import necks
from nasneck.decision import Decision
from nasneck.errors import SpaceError
from nasneck.graph import Attention, NeckGraph, Node, Sum
from nasneck.graph.liveness import read_nodes
from nasneck.necks.merging import MergingCell, build_pyramid
from nasneck.necks.nas_fpn import published_cells
from nasneck.space import MergingCellSpace, load_space

seeds = st.integers(0, 2**32)
ALL = (3, 4, 5, 6, 7)


def test_the_published_sizes():
    """Pairs of 5, 6, ..., 11 maps, levels 4^2 and 5!, two ops in seven cells: 1.93e15; 3.02e15 with level 3."""
    pairs = 10 * 15 * 21 * 28 * 36 * 45 * 55
    assert load_space("nas_fpn").size() == pairs * 4**2 * 120 * 2**7 == 1_931_334_451_200_000 * 1
    assert load_space("nas_fpn", intermediate_levels=ALL).size() == pairs * 5**2 * 120 * 2**7
    assert f"{load_space('nas_fpn').size():.2e}" == "1.93e+15"
    assert f"{load_space('nas_fpn', intermediate_levels=ALL).size():.2e}" == "3.02e+15"


def test_the_decisions():
    decisions = load_space("nas_fpn").decisions
    assert len(decisions) == 7 * 3 - 1  # the last output cell has its level without a choice
    assert decisions[:4] == (
        Decision("cell0.inputs", 10, "inputs"),
        Decision("cell0.level", 4, "level"),
        Decision("cell0.op", 2, "op"),
        Decision("cell1.inputs", 15, "inputs"),
    )
    assert [d.choices for d in decisions if d.kind == "level"] == [4, 4, 5, 4, 3, 2]
    assert len({d.name for d in decisions}) == len(decisions)


@settings(max_examples=60)
@given(seeds, st.booleans(), st.integers(1, 3))
def test_every_vector_is_a_graph(seed, loose, repeats):
    space = load_space("nas_fpn", repeats=repeats, loose=loose, ops=("sum", "attention", "max", "fast_normalized"))
    choices = space.sample(random.Random(seed))
    assert space.check(choices) == choices
    graph = space.decode(choices)
    assert graph.input_levels == (3, 4, 5) and graph.output_levels == ALL
    cells = [node for node in graph.nodes if node.layers]
    assert len(cells) == 7 * repeats
    read = read_nodes(graph, graph.outputs.values())
    if loose:
        assert {node.name for node in graph.nodes if node.inputs} <= read
    for node in cells:
        assert len(node.inputs) >= 2
    assert space.decode(choices) == graph


@settings(max_examples=60)
@given(seeds)
def test_cells_and_choices_are_inverse(seed):
    space = load_space("nas_fpn")
    choices = space.sample(random.Random(seed))
    cells = space.cells(choices)
    assert space.choices(cells) == choices
    assert [cell.output for cell in cells] == [False] * 2 + [True] * 5
    assert sorted(cell.level for cell in cells if cell.output) == list(ALL)
    assert all(cell.inputs[0] < cell.inputs[1] < 5 + i for i, cell in enumerate(cells))


@settings(max_examples=12)
@given(seeds, st.booleans())
def test_encode_finds_a_vector_of_equal_key(seed, wide):
    space = load_space("nas_fpn", repeats=2, intermediate_levels=ALL if wide else (4, 5, 6, 7))
    choices = space.sample(random.Random(seed))
    graph = space.decode(choices)
    found = space.encode(graph)
    assert space.decode(found).key() == graph.key()
    assert found <= choices
    assert space.encode(space.decode(found)) == found


TINY = [
    {"levels": (3, 4), "intermediate": 1, "repeats": 1, "loose": True},
    {"levels": (3, 4), "intermediate": 1, "repeats": 1, "loose": False},
    {"levels": (3, 4), "intermediate": 1, "repeats": 2, "loose": True},
    {"levels": (3, 4), "intermediate": 1, "repeats": 2, "loose": False},
    {"levels": (3, 4), "intermediate": 2, "repeats": 2, "loose": False, "ops": ("sum",)},
    {"levels": (4, 6), "inputs": (3, 5), "intermediate": 0, "repeats": 2, "loose": False, "ops": ("sum",)},
    {"levels": (4, 6), "inputs": (3, 5), "intermediate": 0, "repeats": 3, "loose": True, "ops": ("attention",)},
    {"levels": (3, 4), "intermediate": 1, "repeats": 2, "dialect": "mmdet", "bias": False, "separable": True},
    {"levels": (5, 6), "intermediate": 1, "repeats": 2, "loose": True, "ops": ("max", "sum")},
]


@pytest.mark.parametrize("options", TINY, ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items()))
def test_encode_finds_the_smallest_of_all_vectors(options):
    """Every vector of a small space is decoded; encode of any of them is the first with its key."""
    space = MergingCellSpace(**options)
    assert space.size() < 6000
    vectors = itertools.product(*(range(decision.choices) for decision in space.decisions))
    first: dict[str, tuple[int, ...]] = {}
    example: dict[str, NeckGraph] = {}
    for choices in vectors:
        graph = space.decode(choices)
        if first.setdefault(graph.key(), choices) != choices or graph.key() not in example:
            example[graph.key()] = graph  # the last one that is met
    assert 1 < len(first) < space.size()
    keys = random.Random(0).sample(sorted(first), min(len(first), 150))
    for key in keys:
        assert space.encode(example[key]) == first[key]


@pytest.mark.parametrize("repeats", [1, 3, 7])
@pytest.mark.parametrize("dialect", ["reference", "mmdet"])
def test_the_published_network_is_in_the_space(repeats, dialect):
    space = load_space("nas_fpn", repeats=repeats, dialect=dialect)
    if dialect == "mmdet":
        with pytest.raises(SpaceError, match="not in the space"):  # its attention is another op
            space.encode(necks.nas_fpn(repeats=repeats, dialect="mmdet"))
        return
    graph = necks.nas_fpn(repeats=repeats)
    assert graph in space
    assert space.decode(space.encode(graph)).key() == graph.key()
    direct = space.choices(published_cells())
    assert space.decode(direct).key() == graph.key()
    assert space.encode(graph) <= direct


def test_what_choices_mean_is_frozen():
    """Stored studies hold choices. Three numbers a cell: pair, level, op; the last cell has no level to choose."""
    space = load_space("nas_fpn")
    published = (5, 0, 1, 8, 0, 0, 5, 0, 0, 27, 0, 0, 35, 0, 1, 41, 1, 1, 54, 1)
    assert space.choices(published_cells()) == published == space.encode(necks.nas_fpn(repeats=3))
    assert space.cells(published) == published_cells()


def test_encode_does_not_care_for_names():
    space = load_space("nas_fpn", repeats=1)
    graph = space.decode(space.sample(random.Random(3)))
    names = {node.name: f"x{i}" for i, node in enumerate(graph.nodes)}
    text = graph.to_json()
    for old, new in sorted(names.items(), key=lambda item: -len(item[0])):
        text = text.replace(f'"{old}"', f'"{new}"')
    renamed = NeckGraph.from_json(text)
    assert renamed != graph and space.encode(renamed) == space.encode(graph)


@pytest.mark.parametrize(
    "graph",
    [
        necks.fpn(),
        necks.panet(),
        necks.bifpn(),
        necks.nas_fpn(repeats=2),
        necks.nas_fpn(repeats=3, bias=False),
        necks.nas_fpn((2, 5), (2, 6), repeats=3),
        necks.nas_fpn((2, 5), (3, 7), repeats=3, extra_from="c5"),
        load_space("nas_fpn", ops=("max",)).decode([0] * 13),
        load_space("nas_fpn", intermediate=1).decode([0] * 17),
    ],
    ids=str,
)
def test_graphs_outside_are_refused(graph):
    space = load_space("nas_fpn")
    assert graph not in space
    with pytest.raises(SpaceError, match=r"NeckGraph\(.*\) is not in the space 'nas_fpn' \(inputs \(3, 5\), levels"):
        space.encode(graph)
    assert "nas_fpn" not in space


def test_one_more_weightless_node_is_outside():
    space = load_space("nas_fpn", repeats=1)
    graph = necks.nas_fpn(repeats=1)
    more = Node("p3_more", 3, "max", [graph.outputs[3]])
    other = NeckGraph([*graph.nodes, more], outputs={**graph.outputs, 3: "p3_more"})
    assert other not in space
    aux = NeckGraph(graph.nodes, outputs=graph.outputs, aux=("p3",))
    assert aux not in space


def test_samples_are_legal_uniform_and_of_the_seed():
    space = load_space("nas_fpn")
    drawn = [space.sample(random.Random(seed)) for seed in range(400)]
    assert drawn[0] == space.sample(random.Random(0)) and len(set(drawn)) == 400
    assert {choices[2] for choices in drawn} == {0, 1}
    assert {choices[0] for choices in drawn} == set(range(10))


# -- loose maps --------------------------------------------------------------------------------------


def pyramid(*cells: tuple[int, tuple[int, int], bool], loose: bool = True, repeats: int = 1) -> NeckGraph:
    made = [MergingCell(level, Sum(), pair, output) for level, pair, output in cells]
    return build_pyramid(made, inputs=(3, 5), levels=(3, 5), repeats=repeats, loose=loose)


def read_by(graph: NeckGraph, name: str) -> list[str]:
    return [edge.source for edge in graph[name].inputs]


def test_a_map_that_only_a_later_cell_reads_is_still_loose():
    """Ids 0, 1, 2 are P3, P4, P5. P5 has no reader yet when the first output of its level is built."""
    graph = pyramid((5, (0, 1), True), (4, (2, 3), True), (3, (0, 4), True))
    assert read_by(graph, "r0_p5") == ["p3", "p4", "p5"]  # p5 joins, although cell 1 reads it later
    assert read_by(graph, "r0_p4") == ["p5", "r0_p5"]
    assert read_by(graph, "r0_p3") == ["p3", "r0_p4"]


def test_a_cell_counts_its_own_inputs_first():
    graph = pyramid((5, (1, 2), True), (4, (0, 3), True), (3, (0, 4), True))
    assert read_by(graph, "r0_p5") == ["p4", "p5"]


def test_intermediate_cells_join_nothing_and_are_loose_themselves():
    graph = pyramid((4, (0, 2), False), (4, (0, 2), True), (3, (0, 2), True), (5, (0, 2), True))
    assert read_by(graph, "r0_mid0") == ["p3", "p5"]
    assert read_by(graph, "r0_p4") == ["p3", "p5", "p4", "r0_mid0"]


def test_loose_maps_are_counted_anew_in_every_repeat():
    cells = ((5, (0, 1), True), (4, (0, 1), True), (3, (0, 1), True))
    graph = pyramid(*cells, repeats=2)
    assert read_by(graph, "r0_p5") == ["p3", "p4", "p5"]
    assert read_by(graph, "r1_p5") == ["r0_p3", "r0_p4", "r0_p5"]


def test_without_the_rule_nothing_joins():
    graph = pyramid((5, (0, 1), True), (4, (0, 1), True), (3, (0, 1), True), loose=False)
    assert read_by(graph, "r0_p5") == ["p3", "p4"]
    assert "p5" not in read_nodes(graph, graph.outputs.values())


def test_loose_maps_join_attention_after_the_fusion():
    cells = [
        MergingCell(5, Attention(), (0, 1), True),
        MergingCell(4, Sum(), (0, 1), True),
        MergingCell(3, Sum(), (0, 1), True),
    ]
    graph = build_pyramid(cells, inputs=(3, 5), levels=(3, 5), repeats=1)
    assert read_by(graph, "r0_p5") == ["r0_p5_merge", "p5"]
    assert graph["r0_p5"].op == Sum() and graph["r0_p5_merge"].op == Attention() and not graph["r0_p5_merge"].layers


# -- settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (5, 5)}, r"levels=\(5, 5\): a first and a coarser last level are wanted"),
        ({"levels": (7, 3)}, "a first and a coarser last level"),
        ({"intermediate": -1}, "intermediate=-1 is negative"),
        ({"intermediate_levels": (4, 8)}, r"intermediate level 8 is not one of \[3, 4, 5, 6, 7\]"),
        ({"intermediate_levels": (4, 4)}, "intermediate_levels=.* each once"),
        ({"ops": ()}, r"ops=\(\): at least one name is wanted, each once"),
        ({"ops": ("sum", "sum")}, "each once"),
        ({"ops": ("summ",)}, r"unknown op 'summ'; did you mean 'sum'\? \(known: attention, fast_normalized, gate, max"),
        ({"ops": ("concat",)}, "unknown op 'concat'"),
        ({"ops": ("input",)}, "unknown op 'input'"),
        ({"repeats": 0}, "space 'nas_fpn' cannot be decoded: .*repeats=0 is not a whole number of at least 1"),
        ({"inputs": (4, 6)}, "cannot be decoded: .*its finest level P3 has no features"),
        ({"dialect": "google"}, "dialect='google' is not one of 'reference', 'mmdet'"),
    ],
)
def test_settings_that_make_no_space(options, message):
    with pytest.raises(SpaceError, match=message):
        MergingCellSpace(**options)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([0] * 19, "19 choices given, but the space has 20 decisions"),
        ([10] + [0] * 19, r"choice 10 for decision 'cell0.inputs' is not in 0..9"),
        ([-1] + [0] * 19, "choice -1 for decision 'cell0.inputs'"),
        ([True] + [0] * 19, "choice True"),
        ([0.5] + [0] * 19, "choice 0.5"),
    ],
)
def test_wrong_choices(choices, message):
    with pytest.raises(SpaceError, match=message):
        load_space("nas_fpn").decode(choices)


def test_cells_outside_the_space_have_no_choices():
    space = load_space("nas_fpn")
    cells = list(published_cells())
    with pytest.raises(SpaceError, match=r"cell 0: .* is not in the space 'nas_fpn'"):
        space.choices([MergingCell(3, Attention(), (1, 3), False), *cells[1:]])
    with pytest.raises(SpaceError, match="cell 0"):
        space.choices(published_cells(dialect="mmdet"))


def test_decisions_with_one_choice_fall_away():
    space = MergingCellSpace(levels=(3, 4), intermediate=0, ops=("sum",))
    assert [d.name for d in space.decisions] == ["cell0.level", "cell1.inputs"]
    assert space.size() == 2 * 3


def test_repr():
    assert repr(load_space("nas_fpn")) == "MergingCellSpace('nas_fpn', 20 decisions, 1.93e+15 vectors)"
