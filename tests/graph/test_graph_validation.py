"""What is not a neck is refused in one line that says what, where and what would be right."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from nasneck.errors import GraphError
from nasneck.graph import (
    Act,
    AdaptivePool,
    Attention,
    Conv,
    Edge,
    GlobalPool,
    NeckGraph,
    Node,
    Norm,
    PixelWeighted,
    Pool,
    Project,
    Resample,
    SqueezeExcite,
    input_node,
)

C3, C4, C5 = input_node(3), input_node(4), input_node(5)


def small() -> NeckGraph:
    return NeckGraph([C3, C4, Node("p3", 3, "sum", ["c3", "c4"], [Conv(3)])], outputs={3: "p3"}, name="small")


def make(*nodes: Node, outputs=None, **options) -> NeckGraph:
    return NeckGraph([C3, C4, C5, *nodes], outputs=outputs or {3: "o"}, **options)


def test_a_cycle_is_named():
    a = Node("a", 3, "sum", ["c3", "b"])
    b = Node("b", 3, "sum", ["a"])
    with pytest.raises(GraphError, match=r"^the graph has a cycle: (a -> b -> a|b -> a -> b)$"):
        make(a, b, outputs={3: "a"})


def test_a_node_that_reads_itself_is_a_cycle():
    with pytest.raises(GraphError, match=r"cycle: a -> a$"):
        make(Node("a", 3, "sum", ["a"]), outputs={3: "a"})


def test_a_cycle_through_a_size():
    a = Node("a", 4, "sum", [Edge("c3", [Resample("nearest", to="b")])])
    b = Node("b", 4, "sum", ["a"])
    with pytest.raises(GraphError, match="cycle"):
        make(a, b, outputs={4: "b"})


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([Node("o", 3, "sum", ["c3", "c9"])], r"node 'o' reads 'c9', which does not exist \(known: c3, c4, c5, o\)"),
        ([Node("o", 3, "sum", [Edge("c4", [Resample("auto", to="c2")])])], "node 'o' reads 'c2', which does not"),
        ([Node("o", 3, "sum", ["c3"]), Node("o", 3, "max", ["c3"])], "two nodes are named 'o'; names must be unique"),
        ([input_node(3, "again"), Node("o", 3, "sum", ["c3"])], r"two backbone features lie on one level .*3, 3"),
        (
            [Node("o", 3, "sum", [Edge("c3", ()), Edge("c4", ())])],
            "node 'o', input 'c4': .*level 3 .*level 4; add a resample",
        ),
        (
            [Node("o", 3, "sum", [Edge("c4", [Conv(3, stride=2)])])],
            "input 'c4': the edge's ops lead from level 4 to 5, not to 3",
        ),
        ([Node("o", 3, "sum", [Edge("c3", [Resample("nearest", to="c4")])])], "lead from level 3 to 4, not to 3"),
        ([Node("o", 3, "sum", [Edge("c4", [Resample("auto")])])], "without 'to' only goes down, from level 4 to 3"),
        ([Node("o", 3, "sum", [Edge("c3", [GlobalPool(), Pool()])])], "has a stride, but the map lies on no level"),
        ([Node("o", 3, "sum", [Edge("c3", [AdaptivePool(0.5)])])], "lead from level 3 to None, not to 3"),
        (
            [Node("x", None, "sum", [Edge("c3", [AdaptivePool(0.5)])]), Node("o", 3, "sum", ["c3", "x"])],
            "node 'o', input 'x': the node lies on level 3 and its input off the pyramid; add a resample",
        ),
        (
            [Node("x", None, "sum", ["c3"]), Node("o", 3, "sum", ["c3"])],
            "node 'x', input 'c3': the node lies off the pyramid and its input on level 3",
        ),
        (
            [
                Node("x", None, "sum", [Edge("c3", [AdaptivePool(0.5)])]),
                Node("o", 3, "sum", [Edge("x", [Resample("auto", to="c3")])]),
            ],
            "resample 'auto' needs levels on both sides",
        ),
        (
            [
                Node("x", None, "sum", [Edge("c3", [AdaptivePool(0.5)])]),
                Node("o", 3, "sum", [Edge("c4", [Resample("nearest", to="x")])]),
            ],
            "'x' lies off the pyramid and tells no size",
        ),
        (
            [Node("x", None, "sum", [Edge("c3", [GlobalPool()])]), Node("o", 3, "sum", ["x"])],
            "node 'o': all its inputs are single cells",
        ),
        (
            [Node("x", None, "sum", [Edge("c3", [GlobalPool()])]), Node("o", 3, "concat", ["c3", "x"])],
            "concat does not broadcast the single cell 'x'",
        ),
        ([Node("o", 3, "sum", ["c3"], shares="q")], "shares the weights of 'q', which does not exist"),
        ([Node("q", 3, "sum", ["c3"]), Node("o", 3, "sum", ["c3"], shares="q")], "of 'q' but has none"),
        (
            [Node("q", 3, "sum", ["c3"], [Conv(3)]), Node("o", 3, "sum", ["c3"], [Conv(1)], shares="q")],
            "node 'o' shares the weights of 'q', but is made differently",
        ),
        (
            [Node("q", 3, "sum", ["c3"], [Conv(3)]), Node("o", 3, "sum", ["c3"], [Conv(3)], width=4, shares="q")],
            "made differently",
        ),
        (
            [
                Node("q", 3, "sum", ["c3"], [Conv(3)]),
                Node("r", 3, "sum", ["c3"], [Conv(3)], shares="q"),
                Node("o", 3, "sum", ["c3"], [Conv(3)], shares="r"),
            ],
            "node 'o' shares with 'r', which itself shares; name 'q'",
        ),
    ],
)
def test_nodes_that_do_not_fit_together(nodes, message):
    with pytest.raises(GraphError, match=message):
        make(*nodes)


def test_the_default_edge_needs_something_that_tells_the_size():
    p6 = Node("p6", 6, "sum", ["p7"])
    p7 = Node("p7", 7, "sum", ["c5"])
    with pytest.raises(GraphError, match=r"node 'p6': nothing on level 6 tells the size that 'p7' .* should get"):
        make(p6, p7, outputs={6: "p6"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": {4: "o"}}, "output P4 is node 'o', which lies on level 3"),
        ({"outputs": {3: "q"}}, r"output P3 is 'q', which does not exist \(known: c3, c4, c5, o\)"),
        ({"outputs": ["o"]}, "a mapping {level: node name} is wanted"),
        ({"aux": ("q",)}, "auxiliary output 'q' does not exist"),
        ({"aux": "o"}, "a tuple of names is wanted, not one string"),
    ],
)
def test_outputs_that_do_not_fit(options, message):
    with pytest.raises(GraphError, match=message):
        make(Node("o", 3, "sum", ["c3"]), **options)


def test_empty_necks():
    with pytest.raises(GraphError, match="at least one backbone feature and one output"):
        NeckGraph([], outputs={})
    with pytest.raises(GraphError, match=r"no outputs: give outputs=\{level: node name\}"):
        NeckGraph([C3], outputs={})
    with pytest.raises(GraphError, match="no backbone feature: at least one node must have op 'input'"):
        NeckGraph([Node("a", 3, "sum", ["b"]), Node("b", 3, "sum", ["a"])], outputs={3: "a"})
    with pytest.raises(GraphError, match="is not a Node"):
        NeckGraph(["c3"], outputs={3: "c3"})  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("3p", 3), {}, "node name '3p' is not a Python identifier"),
        (("for", 3), {}, "node name 'for' is not a Python identifier"),
        (("p3", -1), {}, "node 'p3': level -1 is not a whole number of octaves"),
        (("p3", 3.0), {}, "level 3.0 is not"),
        (("p3", True), {}, "level True is not"),
        (("p3", None), {}, "a backbone feature needs a level"),
        (("p3", 3), {"inputs": ["c3"]}, "a backbone feature has no inputs and no layers"),
        (("p3", 3, "sum"), {}, "node 'p3': it has no inputs; only backbone features"),
        (("p3", 3, "sum", "c3"), {}, "inputs must be a tuple of edges or names, not one string"),
        (("p3", 3, "attention", ["c3"]), {}, r"Attention\(.*\) takes two inputs, not 1"),
        (("p3", 3, "gate", ["c3", "c3", "c3"]), {}, "takes two inputs, not 3"),
        (
            ("p3", 3, "summ", ["c3"]),
            {},
            r"node 'p3': unknown fusion op 'summ'; did you mean 'sum'\? \(known: attention, concat, ",
        ),
        (
            ("p3", 3, "sum", ["c3"], ["cnov"]),
            {},
            r"node 'p3': unknown op 'cnov'; did you mean 'conv'\? \(known: act, adaptive_pool, carafe, conv",
        ),
        (
            ("p3", 3, "sum", ["c3"], [{"op": "conv", "kernal": 1}]),
            {},
            r"node 'p3': conv: unknown setting 'kernal'; did you mean 'kernel'",
        ),
        (
            ("p3", 3, "sum", ["c3"], [{"op": "conv", "kernel": 2}]),
            {},
            "node 'p3': conv: kernel 2 is not an odd positive number",
        ),
        (
            ("p3", 3, "sum", ["c3"], [{"op": "act", "kind": "swish"}]),
            {},
            "node 'p3': act: kind: 'swish' is not one of 'relu', ",
        ),
        (("p3", 3, "sum", ["c3"], [{"kernel": 1}]), {}, "is not a name or a table with an 'op'"),
        (("p3", 3, {"op": "fast_normalized", "eps": "x"}, ["c3"]), {}, "fast_normalized: eps: 'x' is not a number"),
        (("p3", 3, "sum", ["c3"]), {"width": "chanels"}, "width 'chanels' is not valid; use 'channels', 'input'"),
        (("p3", 3, "sum", ["c3"]), {"width": 0}, "width 0 is not valid"),
        (("p3", 3, "sum", ["c3"]), {"width": True}, "width True is not valid"),
        (("p3", 3, "sum", ["c3"], [Conv(3, stride=2)]), {}, "changes the size of the map; it belongs on an edge"),
        (("p3", 3, "sum", ["c3"], [Conv(3, padding="valid")]), {}, "changes the size of the map"),
        (("p3", 3, "sum", ["c3"], [Pool()]), {}, "changes the size of the map"),
        (("p3", 3, "sum", ["c3"], [Resample("nearest", to="c3")]), {}, "changes the size of the map"),
        (("p3", 3, "sum", ["c3"], [AdaptivePool(0.5)]), {}, "changes the size of the map"),
        (
            ("p3", 3, "sum", ["c3"], [GlobalPool()]),
            {},
            "after a global pool it is no map of level 3; its level is None",
        ),
    ],
)
def test_a_node_that_is_wrong_on_its_own(arguments, options, message):
    with pytest.raises(GraphError, match=message):
        Node(*arguments, **options)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Conv, {"kernel": 4}, "kernel 4 is not an odd positive number"),
        (Conv, {"kernel": "3"}, "Conv: kernel: '3' is not a whole number"),
        (Conv, {"stride": 3}, "stride 3 is not a power of two"),
        (Conv, {"stride": 0}, "stride 0 is not a power of two"),
        (Conv, {"dilation": 0}, "dilation and groups must be at least 1"),
        (Conv, {"groups": "deepwise"}, "Conv: groups: 'deepwise' is not"),
        (Conv, {"separable": True, "groups": 2}, "separable has its own groups"),
        (Conv, {"bias": 1}, "Conv: bias: 1 is not true or false"),
        (Conv, {"init": "normal"}, "init: 'normal' is not one of"),
        (Conv, {"width": "input/0"}, "width 'input/0' is not valid"),
        (Project, {"when": "sometimes"}, "when: 'sometimes' is not one of 'always', 'if_different', 'never'"),
        (Project, {"norm": "batch"}, "Project: norm"),
        (Act, {"kind": "gelu"}, "kind: 'gelu' is not one of"),
        (Norm, {"kind": "layer"}, "kind: 'layer' is not"),
        (Resample, {"align_corners": True, "to": "c3"}, "align_corners has no meaning in mode 'auto'"),
        (Resample, {"mode": "bilinear"}, "mode 'bilinear' needs the name of a node"),
        (Resample, {"mode": "bicubic", "to": "c3"}, "mode: 'bicubic' is not one of"),
        (Pool, {"stride": 3}, "pool: stride 3 is not a power of two"),
        (Pool, {"kernel": 0, "padding": 0}, "pool: kernel 0 is not positive"),
        (Pool, {"kernel": 3, "padding": 2}, "padding 2 is not in 0..kernel/2 = 1"),
        (AdaptivePool, {"ratio": 0}, r"ratio 0.0 is not in \(0, 1\]"),
        (AdaptivePool, {"ratio": 1.5}, r"ratio 1.5 is not in \(0, 1\]"),
        (SqueezeExcite, {"hidden": "half"}, "width 'half' is not valid"),
        (Attention, {"gate": "first"}, "gate: 'first' is not one of 'coarser', 'finer'"),
        (PixelWeighted, {"normalize": "tanh"}, "normalize: 'tanh' is not one of"),
        (PixelWeighted, {"hidden": -1}, "width -1 is not valid"),
    ],
)
def test_an_op_that_is_wrong_on_its_own(cls, options, message):
    with pytest.raises(GraphError, match=message):
        cls(**options)


def test_whole_numbers_become_floats_so_that_equal_ops_are_written_equally():
    assert type(AdaptivePool(1).ratio) is float
    assert type(Norm(eps=1).eps) is float


def test_a_graph_cannot_be_changed():
    graph = small()
    with pytest.raises(AttributeError, match="a NeckGraph is immutable; cannot set 'name'"):
        graph.name = "other"
    with pytest.raises(AttributeError, match="immutable; cannot delete 'nodes'"):
        del graph.nodes
    with pytest.raises(TypeError):
        graph.outputs[3] = "c3"  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph["p3"].level = 4  # type: ignore[misc]
    import networkx as nx

    with pytest.raises(nx.NetworkXError, match=r"[Ff]rozen"):
        graph.dag.add_node("x")


def test_what_is_given_is_not_kept():
    outputs, nodes = {3: "p3"}, [C3, Node("p3", 3, "sum", ["c3"])]
    graph = NeckGraph(nodes, outputs=outputs)
    outputs[4] = "c4"
    nodes.clear()
    assert dict(graph.outputs) == {3: "p3"} and len(graph) == 2


def test_reading_a_graph():
    graph = small()
    assert graph["p3"].layers == (Conv(3),)
    assert "p3" in graph and "p4" not in graph
    assert graph.input_levels == (3, 4) and graph.output_levels == (3,)
    assert graph.input_names == {3: "c3", 4: "c4"}
    assert graph.size_divisor == 1
    assert repr(graph) == "NeckGraph('small': C3,C4 -> P3, 3 nodes)"
    with pytest.raises(GraphError, match=r"no node is named 'p9' \(known: c3, c4, p3\)"):
        graph["p9"]


def test_outputs_and_features_come_finest_first():
    graph = NeckGraph([C5, C3, C4], outputs={5: "c5", 3: "c3", 4: "c4"})
    assert graph.output_levels == (3, 4, 5)
    assert graph.input_levels == (3, 4, 5)


def test_nodes_may_come_in_any_order_and_are_kept_in_a_computable_one():
    nodes = [Node("b", 3, "sum", ["a"]), Node("a", 3, "sum", ["c3"]), C3]
    assert [node.name for node in NeckGraph(nodes, outputs={3: "b"}).nodes] == ["c3", "a", "b"]


def test_an_edge_without_ops_gets_its_default():
    graph = make(Node("o", 3, "sum", ["c3", "c4"]), Node("p6", 6, "sum", ["c5"]), Node("q6", 6, "sum", ["c5"]))
    assert graph["o"].inputs == (Edge("c3", ()), Edge("c4", [Resample("auto", to="c3")]))
    assert graph["p6"].inputs == (Edge("c5", [Resample("auto")]),)
    assert graph["q6"].inputs == (Edge("c5", [Resample("auto", to="p6")]),)


@pytest.mark.parametrize("stride", [2, 4, 8])
@pytest.mark.parametrize("op", [lambda s: Conv(3, stride=s), lambda s: Pool("max", s, s, 0)])
def test_a_stride_moves_a_map_by_its_octaves(op, stride):
    level = 3 + {2: 1, 4: 2, 8: 3}[stride]
    assert make(Node("o", level, "sum", [Edge("c3", [op(stride)])]), outputs={level: "o"})["o"].level == level
    with pytest.raises(GraphError, match=f"lead from level 3 to {level}, not to 7"):
        make(Node("o", 7, "sum", [Edge("c3", [op(stride)])]), outputs={7: "o"})


def test_the_order_of_inputs_is_kept():
    graph = make(Node("o", 3, "concat", ["c5", "c3", "c4", "c3"]))
    assert [edge.source for edge in graph["o"].inputs] == ["c5", "c3", "c4", "c3"]


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_copies_are_equal(clone):
    graph = small()
    graph.key()
    other = clone(graph)
    assert other == graph and hash(other) == hash(graph) and other.key() == graph.key() and other.name == "small"


def test_equality_is_by_names():
    renamed = NeckGraph([C3, C4, Node("q3", 3, "sum", ["c3", "c4"], [Conv(3)])], outputs={3: "q3"})
    assert renamed != small()
    assert renamed.key() == small().key()
    assert (small() == "p3") is False
