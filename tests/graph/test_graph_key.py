"""What the key forgets, what it does not, and that it stays what it is."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from graph_strategies import graphs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nasneck import necks
from nasneck.graph import (
    Act,
    Attention,
    Conv,
    Edge,
    Gate,
    GlobalPool,
    NeckGraph,
    Node,
    Norm,
    Project,
    Resample,
    Softmax,
    Sum,
    input_node,
)
from nasneck.graph.ops import size_source, with_size_source

C3, C4, C5 = input_node(3), input_node(4), input_node(5)
CONV, RELU = Conv(3), Act("relu")
seeds = st.integers(0, 2**32 - 1)


def key(*nodes: Node, out: str = "o", aux: tuple[str, ...] = ()) -> str:
    graph = NeckGraph([C3, C4, C5, *nodes], outputs={next(n for n in nodes if n.name == out).level: out}, aux=aux)
    return graph.key()


def rebuilt(graph: NeckGraph, nodes=None, *, names: dict[str, str] | None = None) -> NeckGraph:
    """``graph`` with other nodes, or with its nodes renamed."""
    names = names or {node.name: node.name for node in graph.nodes}

    def edge(e: Edge) -> Edge:
        return Edge(
            names.get(e.source, e.source),
            [op if (to := size_source(op)) is None else with_size_source(op, names.get(to, to)) for op in e.ops or ()],
        )

    made = [
        Node(
            names.get(n.name, n.name),
            n.level,
            n.op,
            [edge(e) for e in n.inputs],
            n.layers,
            n.width,
            names.get(n.shares, n.shares) if n.shares else None,
        )
        for n in (graph.nodes if nodes is None else nodes)
    ]
    return NeckGraph(
        made,
        outputs={level: names.get(name, name) for level, name in graph.outputs.items()},
        aux=[names.get(name, name) for name in graph.aux],
    )


def sharing(graph: NeckGraph) -> set[str]:
    return {name for node in graph.nodes if node.shares for name in (node.name, node.shares)}


def with_inputs(node: Node, inputs) -> Node:
    return Node(node.name, node.level, node.op, inputs, node.layers, node.width, node.shares)


# -- what does not matter ----------------------------------------------------------------------------


@given(graphs(), seeds)
def test_names_and_the_order_of_definitions_do_not_matter(graph, seed):
    rng = random.Random(seed)
    new = [f"x{i}" for i in range(len(graph))]
    rng.shuffle(new)
    names = dict(zip((node.name for node in graph.nodes), new, strict=True))
    nodes = list(graph.nodes)
    rng.shuffle(nodes)
    other = rebuilt(graph, nodes, names=names)
    assert other != graph
    assert other.key() == graph.key()


@given(graphs(), seeds)
def test_the_order_of_a_sums_inputs_does_not_matter(graph, seed):
    """Also where sums share weights, as long as all of them are turned alike."""
    order: dict[str, list[int]] = {}
    nodes = []
    for node in graph.nodes:
        if isinstance(node.op, Sum):
            owner = node.shares or node.name
            places = list(range(len(node.inputs)))
            random.Random(f"{seed} {owner}").shuffle(places)
            node = with_inputs(node, [node.inputs[i] for i in order.setdefault(owner, places)])
        nodes.append(node)
    assert rebuilt(graph, nodes).key() == graph.key()


@settings(max_examples=12)
@given(graphs())
def test_the_order_of_attentions_inputs_does_not_matter_where_the_levels_differ(graph):
    free = [
        node.name
        for node in graph.nodes
        if isinstance(node.op, Attention)
        and graph[node.inputs[0].source].level != graph[node.inputs[1].source].level
        and node.name not in sharing(graph)
    ]
    assume(free)
    nodes = [with_inputs(n, n.inputs[::-1]) if n.name in free else n for n in graph.nodes]
    assert rebuilt(graph, nodes).key() == graph.key()


@given(graphs(), graphs())
def test_nodes_that_nothing_reads_do_not_matter(graph, other):
    names = {node.name: f"un_{node.name}" for node in other.nodes if node.inputs}
    more = [node for node in rebuilt(other, names=names).nodes if node.inputs]
    assert rebuilt(graph, [*graph.nodes, *more]).key() == graph.key()


@given(graphs(), seeds)
def test_nesting_sums_does_not_matter(graph, seed):
    rng = random.Random(seed)
    sums = [
        node
        for node in graph.nodes
        if isinstance(node.op, Sum) and node.level is not None and node.name not in sharing(graph)
    ]
    assume(sums)
    node = rng.choice(sums)
    anchors = [i for i, e in enumerate(node.inputs) if graph[e.source].level is not None]
    inner = {rng.choice(anchors)} if anchors else set()
    assume(inner)
    inner |= {i for i in range(len(node.inputs)) if rng.random() < 0.5}
    nested = Node("nested", node.level, "sum", [node.inputs[i] for i in sorted(inner)], (), node.width)
    rest = [e for i, e in enumerate(node.inputs) if i not in inner]
    rest.insert(rng.randint(0, len(rest)), Edge("nested", ()))
    nodes = [with_inputs(n, rest) if n is node else n for n in graph.nodes]
    assert rebuilt(graph, [*nodes, nested]).key() == graph.key()


@given(graphs(), seeds)
def test_equal_nodes_without_parameters_may_be_one_or_two(graph, seed):
    rng = random.Random(seed)
    plain = [node for node in graph.nodes if node.inputs and not node.has_weights]
    assume(plain)
    twin = rng.choice(plain)
    nodes, read = [], False
    for node in graph.nodes:
        inputs = []
        for edge in node.inputs:
            if edge.source == twin.name and rng.random() < 0.5:
                edge, read = Edge("twin", edge.ops), True
            inputs.append(edge)
        nodes.append(with_inputs(node, inputs))
        if node.name == twin.name:
            nodes.append(Node("twin", twin.level, twin.op, twin.inputs, twin.layers, twin.width))
    assume(read)
    assert rebuilt(graph, nodes).key() == graph.key()


def test_the_order_of_definitions_does_not_matter_where_edges_are_left_to_the_graph():
    a6, b6 = Node("a6", 6, "sum", ["c5"], [CONV]), Node("b6", 6, "mean", ["c5"], [Norm()])
    o = Node("o", 6, "sum", ["a6", "b6"])
    assert key(a6, b6, o) == key(b6, a6, o)


def test_a_sum_that_is_read_twice_may_be_written_out():
    """Three ways to say the same: one convolution, whose result is summed in two places."""
    a, b = Node("a", 3, "sum", ["s", "c3"], [CONV]), Node("b", 3, "sum", ["s", "c3"], [Norm()])
    o = Node("o", 3, "max", ["a", "b"])
    conv = Edge("c3", [Conv(1)])
    in_one = key(Node("s", 3, "sum", [conv, "c3"]), a, b, o)
    nested = key(Node("w", 3, "sum", [conv]), Node("s", 3, "sum", ["w", "c3"]), a, b, o)
    apart = key(
        Node("w", 3, "sum", [conv]),
        Node("a", 3, "sum", ["w", "c3", "c3"], [CONV]),
        Node("b", 3, "sum", ["w", "c3", "c3"], [Norm()]),
        o,
    )
    assert in_one == nested == apart


def test_merging_equal_nodes_may_make_more_nodes_equal():
    def graph(twice: bool) -> str:
        last = "2" if twice else ""
        nodes = [
            Node("w", 3, "sum", [Edge("c3", [Conv(1)])]),
            Node("r", 3, "sum", ["w", "c3"]),
            Node("s", 3, "max", ["r"]),
        ]
        if twice:
            nodes += [Node("r2", 3, "sum", ["c3", "w"]), Node("s2", 3, "max", ["r2"])]
        nodes += [Node("a", 3, "max", ["s", "r"], [CONV]), Node("b", 3, "max", [f"s{last}", f"r{last}"], [Norm()])]
        return key(*nodes, Node("o", 3, "sum", ["a", "b"]))

    assert graph(False) == graph(True)


def test_where_a_size_is_taken_from_does_not_matter_on_one_level():
    def graph(to: str) -> str:
        return key(
            Node("p4", 4, "sum", ["c4"], [CONV]), Node("o", 4, "sum", ["p4", Edge("c5", [Resample("auto", to=to)])])
        )

    assert graph("c4") == graph("p4")


def test_a_width_may_be_said_on_the_node_or_on_the_op():
    assert key(Node("o", 3, "sum", ["c3"], [Conv(3)], width=64)) == key(
        Node("o", 3, "sum", ["c3"], [Conv(3, width=64)])
    )


# -- what does matter --------------------------------------------------------------------------------

BASE = (
    Node("a", 3, "sum", ["c3", Edge("c4", [Project(), Resample("auto", to="c3")])], [RELU, CONV, Norm()]),
    Node("b", 3, "sum", ["c3"], [RELU, CONV, Norm()]),
    Node("o", 3, "attention", ["a", "b"], [CONV]),
)
A, B, OUT = BASE


@pytest.mark.parametrize(
    "nodes",
    [
        (A, B, Node("o", 3, "attention", ["b", "a"], [CONV])),
        (A, B, Node("o", 3, Attention(pool="avg"), ["a", "b"], [CONV])),
        (A, B, Node("o", 3, Attention(gate="finer"), ["a", "b"], [CONV])),
        (A, B, Node("o", 3, "gate", ["a", "b"], [CONV])),
        (A, B, Node("o", 3, Gate(complement=True), ["a", "b"], [CONV])),
        (A, B, Node("o", 3, "sum", ["a", "b"], [CONV])),
        (A, B, Node("o", 3, "mean", ["a", "b"], [CONV])),
        (A, B, Node("o", 3, "mean", ["b", "a"], [CONV])),
        (A, B, Node("o", 3, "sum", ["a", "b", "b"], [CONV])),
        (A, B, Node("o", 3, "attention", ["a", "b"])),
        (A, B, Node("o", 3, "attention", ["a", "b"], [CONV, RELU])),
        (A, B, Node("o", 3, "attention", ["a", "b"], [RELU, CONV])),
        (A, B, Node("o", 3, "attention", ["a", "b"], [Conv(1)])),
        (A, B, Node("o", 3, "attention", ["a", "b"], [Conv(3, bias=False)])),
        (A, B, Node("o", 3, "attention", ["a", "b"], [Conv(3, init="zero")])),
        (A, B, Node("o", 3, "attention", ["a", "b"], [CONV], width=64)),
        (A, B, Node("o", 3, "attention", ["a", "b"], [CONV], width="channels*2")),
        (
            A,
            Node("b", 3, "sum", ["c3"], [RELU, CONV, Norm()], shares=None),
            Node("o", 3, "attention", ["a", "a"], [CONV]),
        ),
        (A, Node("b", 3, "sum", ["c3"], [RELU, CONV, Norm(eps=1e-3)]), OUT),
        (A, Node("b", 3, "sum", ["c3"], [Act("silu"), CONV, Norm()]), OUT),
        (Node("a", 3, "sum", ["c3", Edge("c4", [Project(bias=False), Resample("auto", to="c3")])], A.layers), B, OUT),
        (Node("a", 3, "sum", ["c3", Edge("c4", [Resample("auto", to="c3"), Project()])], A.layers), B, OUT),
        (Node("a", 3, "sum", ["c3", Edge("c4", [Project(), Resample("nearest", to="c3")])], A.layers), B, OUT),
        (Node("a", 3, "sum", ["c3", Edge("c5", [Project(), Resample("auto", to="c3")])], A.layers), B, OUT),
        (Node("a", 3, "mean", A.inputs, A.layers), B, OUT),
        (Node("a", 3, "sum", ["c3", "c3", Edge("c4", [Project(), Resample("auto", to="c3")])], A.layers), B, OUT),
    ],
)
def test_any_change_of_the_architecture_matters(nodes):
    assert key(*nodes) != key(*BASE)


def test_levels_outputs_and_aux_matter():
    def graph(outputs, aux=()):
        p3, p4 = Node("p3", 3, "sum", ["c3"], [CONV]), Node("p4", 4, "sum", ["c4"], [CONV])
        return NeckGraph([C3, C4, p3, p4], outputs=outputs, aux=aux).key()

    keys = [
        graph({3: "p3", 4: "p4"}),
        graph({3: "p3"}),
        graph({4: "p4"}),
        graph({3: "p3", 4: "c4"}),
        graph({3: "p3", 4: "p4"}, ("p3",)),
        graph({3: "p3", 4: "p4"}, ("p4",)),
        graph({3: "p3", 4: "p4"}, ("p3", "p4")),
        graph({3: "p3", 4: "p4"}, ("p4", "p3")),
    ]
    assert len(set(keys)) == len(keys)


def test_features_that_are_not_read_do_not_matter_but_the_level_of_those_that_are_does():
    def graph(level: int, *others: Node) -> str:
        feature = input_node(level, "c")
        out = Node("o", 6, "sum", [Edge("c", [Pool(), *([Pool()] * (5 - level))])], [CONV])
        return NeckGraph([feature, *others, out], outputs={6: "o"}).key()

    from nasneck.graph import Pool

    assert graph(5) == graph(5, input_node(2))
    assert graph(5) != graph(4)


def test_the_width_of_a_nested_sum_is_its_own():
    def graph(width) -> str:
        s = Node("s", 3, "sum", [Edge("c3", [Conv(1)])], width=width)
        return key(s, Node("o", 3, "sum", ["s", "c3"], [CONV]))

    assert graph(64) != graph(32) != graph("channels")


def test_equal_nodes_with_parameters_stay_apart():
    one = key(Node("a", 3, "sum", ["c3"], [CONV]), Node("o", 3, "sum", ["a", "a"]))
    two = key(Node("a", 3, "sum", ["c3"], [CONV]), Node("b", 3, "sum", ["c3"], [CONV]), Node("o", 3, "sum", ["a", "b"]))
    assert one != two
    once = key(Node("w", 3, "sum", [Edge("c3", [CONV])]), Node("o", 3, "sum", ["w", "w"]))
    twice = key(Node("o", 3, "sum", [Edge("c3", [CONV]), Edge("c3", [CONV])]))
    assert once != twice
    fused = key(Node("w", 3, Softmax(), ["c3", "c3"]), Node("o", 3, "max", ["w", "w"]))
    apart = key(
        Node("w", 3, Softmax(), ["c3", "c3"]), Node("v", 3, Softmax(), ["c3", "c3"]), Node("o", 3, "max", ["w", "v"])
    )
    assert fused != apart


def test_a_convolution_read_through_a_nested_sum_is_not_doubled():
    def graph(two: bool) -> str:
        conv, other = Edge("c3", [Conv(1)]), "r2" if two else "r"
        nodes = [Node("w", 3, "sum", [conv]), Node("r", 3, "sum", ["w", "c3"])]
        if two:
            nodes += [Node("w2", 3, "sum", [conv]), Node("r2", 3, "sum", ["w2", "c3"])]
        nodes += [Node("a", 3, "sum", ["r", "c3"], [CONV]), Node("b", 3, "sum", [other, "c3"], [Norm()])]
        return key(*nodes, Node("o", 3, "sum", ["a", "b"]))

    assert graph(False) != graph(True)


def symmetric(k: int, *, crossed: bool = False, shares: bool = False) -> str:
    """k equal branches of two convolutions, joined; the second ones may read crosswise."""
    nodes = [Node(f"a{i}", 3, "sum", ["c3"], [CONV]) for i in range(k)]
    for i in range(k):
        other = f"a{(i + 1) % k if crossed else i}"
        nodes.append(Node(f"b{i}", 3, "sum", [other], [CONV], shares="b0" if shares and i else None))
    return key(*nodes, Node("o", 3, "sum", [f"b{i}" for i in range(k)]))


def test_twins():
    assert symmetric(3) == symmetric(3, crossed=True)
    assert symmetric(3) != symmetric(3, shares=True)
    a = [Node(f"a{i}", 3, "sum", ["c3"], [CONV]) for i in range(3)]

    def joined(*pairs: str) -> str:
        tops = [Node(f"t{i}", 3, "max", [f"a{p[0]}", f"a{p[1]}"], [CONV]) for i, p in enumerate(pairs)]
        return key(*a, *tops, Node("o", 3, "sum", [t.name for t in tops]))

    assert joined("01", "12", "20") == joined("12", "20", "01") == joined("21", "02", "10")
    assert joined("01", "12", "20") != joined("01", "12", "02")  # a cycle of ordered pairs is not a fan
    assert joined("01", "02", "12") == joined("10", "12", "02") == joined("20", "21", "01")
    assert joined("01", "01", "02") == joined("02", "01", "02") != joined("01", "01", "22")


def test_two_squares_are_not_an_octagon():
    """Graphs that colour refinement alone cannot tell apart."""

    def rings(*lengths: int) -> str:
        nodes, tops, at = [], [], 0
        for length in lengths:
            ring = [f"a{at + i}" for i in range(length)]
            nodes += [Node(name, 3, "sum", ["c3"], [CONV]) for name in ring]
            pairs = zip(ring, [*ring[1:], ring[0]], strict=True)
            tops += [Node(f"t{at + i}", 3, "sum", pair, [CONV]) for i, pair in enumerate(pairs)]
            at += length
        return key(*nodes, *tops, Node("o", 3, "sum", [t.name for t in tops]))

    assert rings(8) != rings(4, 4)
    assert rings(3, 4) == rings(4, 3)


def test_symmetric_graphs_do_not_take_for_ever():
    assert symmetric(12) == symmetric(12, crossed=True)


def test_sharing_is_part_of_the_identity():
    def graph(*shares: int | None) -> str:
        nodes = [
            Node(f"a{i}", 3, "sum", ["c3"], [CONV, Act(kind)], shares=None)
            for i, kind in enumerate(("relu", "silu", "sigmoid"))
        ]
        nodes += [
            Node(f"b{i}", 3, "sum", [f"a{i}"], [CONV], shares=None if s is None else f"b{s}")
            for i, s in enumerate(shares)
        ]
        return key(*nodes, Node("o", 3, "concat", ["b0", "b1", "b2"]))

    keys = [
        graph(None, None, None),
        graph(None, 0, None),
        graph(None, None, 0),
        graph(None, None, 1),
        graph(None, 0, 0),
    ]
    assert len(set(keys)) == 5
    # it does not matter which node of a group is its owner
    last = [
        Node("b2", 3, "sum", ["c3"], [CONV]),
        Node("b0", 3, "sum", ["c4"], [CONV], shares="b2"),
    ]
    first = [
        Node("b2", 3, "sum", ["c3"], [CONV], shares="b0"),
        Node("b0", 3, "sum", ["c4"], [CONV]),
    ]
    o = Node("o", 3, "sum", ["b2", "b0"])
    assert key(*last, o) == key(*first, o)


def test_which_edge_shares_its_weights_matters():
    def graph(shared: str, own: str) -> str:
        kinds = {"x": "relu", "y": "silu", "u": "relu6", "v": "sigmoid"}
        nodes = [Node(name, 3, "sum", ["c3"], [Conv(1), Act(kind)]) for name, kind in kinds.items()]
        nodes += [
            Node("w1", 3, "sum", [Edge(own, [Conv(1)])]),
            Node("w2", 3, "sum", [Edge("v", [Conv(1)])]),
            Node("t1", 3, "sum", [Edge(shared, [Conv(1)]), "w1"], [CONV]),
            Node("t2", 3, "sum", [Edge("u", [Conv(1)]), "w2"], [CONV], shares="t1"),
        ]
        return key(*nodes, Node("o", 3, "max", ["t1", "t2"]))

    assert graph("x", "y") != graph("y", "x")


def test_an_owner_that_nothing_reads_still_joins_its_sharers():
    def graph(shared: bool) -> str:
        nodes = [
            Node("dead", 3, "sum", ["c3"], [CONV]),
            Node("a", 3, "sum", ["c3"], [CONV], shares="dead" if shared else None),
            Node("b", 3, "sum", ["c4"], [CONV], shares="dead" if shared else None),
        ]
        return key(*nodes, Node("o", 3, "sum", ["a", "b"]))

    assert graph(True) != graph(False)


def test_pooled_context_is_not_a_map():
    def graph(mode: str) -> str:
        return key(Node("x", None, "sum", [Edge("c5", [GlobalPool(mode)])]), Node("o", 3, "sum", ["c3", "x"]))

    assert graph("avg") != graph("max")


# -- what it is --------------------------------------------------------------------------------------

GOLDEN = {
    "asff": "0109fe8b45513ac9ebfbc2d28fc8999d",
    "augfpn": "cecbc82ab147f3618adc27bdd8bfe27f",
    "bifpn": "1dada1df4009cabf6664a36c6f285ade",
    "carafe_fpn": "4d0807a71c10bcecb8fbed13cdb80d26",
    "channel_mapper": "9acf7583ffcffd702aa94dddaf66be46",
    "cspnext_pafpn": "634cd0eca598a3adf5d8b8ef68a105d4",
    "efficientdet": "aef7b1ed76a24ce16c3cbdf9724e9807",
    "fpg": "a299adb4eff5c43d01bb2e3a56e29a8a",
    "fpn": "7e213a04c2679a08806e22b53bf398ae",
    "gfpn": "b35357aa239bfd28397d36bb7d8501cc",
    "hrfpn": "3ddaf68d087a83b4926d17e370da9fda",
    "libra": "56db06cddd70e7d331139ad06a933689",
    "mlfpn": "e9ab19ba7772c31648da9e081e83969d",
    "mnasfpn": "b9744c079b982ea7e3d7d55fa90286e2",
    "nas_fcos": "79bda2a96f8b79cdc6637a37cf4401aa",
    "nas_fpn": "ee089bbd1c3f8bf845b3378196bfade6",
    "opanas": "2b20b030a923a7770f2a50eb8b49736a",
    "panet": "83f3598e41ce8598089e0b2444dc6a50",
    "qufpn": "c4c23813671383b1a8080a3c0f36a2fc",
    "spinenet": "5539084d26df814e937cb8736c21d640",
    "ssh": "0690df42cdb4dd6123cb39fc4143473f",
    "weighted_pan": "f10179598d5db5733fadc0402e77f53e",
    "yolox_pafpn": "5909a17c8de5f9f5acd7f7ac86e286f8",
}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_the_keys_of_the_fixed_necks_are_frozen(name):
    """Studies and caches hold keys. If one changes, the version in normal_form has to."""
    assert necks.NECKS[name]().key() == GOLDEN[name]


def test_keys_are_the_same_in_another_process():
    code = "from nasneck import necks\nfor name in sorted(necks.NECKS): print(necks.NECKS[name]().key())"
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [GOLDEN[name] for name in sorted(GOLDEN)]
