"""Graphs as JSON: what is written is read back, and what is foreign is refused."""

from __future__ import annotations

import json
import pickle

import pytest
from graph_strategies import graphs
from hypothesis import given

from nasneck import necks
from nasneck.errors import GraphError
from nasneck.graph import NeckGraph

GOOD = {
    "schema": "nasneck.graph/1",
    "name": "small",
    "nodes": [
        {"name": "c3", "level": 3},
        {"name": "p3", "level": 3, "op": "sum", "inputs": ["c3"], "layers": [{"op": "conv", "kernel": 1}]},
    ],
    "outputs": {"3": "p3"},
}


def changed(**entries) -> str:
    return json.dumps({**GOOD, **entries})


def with_node(**entries) -> str:
    return changed(nodes=[GOOD["nodes"][0], {**GOOD["nodes"][1], **entries}])


@given(graphs())
def test_round_trip(graph):
    again = NeckGraph.from_json(graph.to_json())
    assert again == graph
    assert again.name == graph.name
    assert again.key() == graph.key()
    assert again.to_json() == graph.to_json()
    assert NeckGraph.from_json(graph.to_json(indent=None)) == graph


@given(graphs())
def test_pickle(graph):
    again = pickle.loads(pickle.dumps(graph))
    assert again == graph and again.key() == graph.key()


@pytest.mark.parametrize("name", sorted(necks.NECKS))
def test_round_trip_of_the_fixed_necks(name):
    graph = necks.NECKS[name]()
    assert NeckGraph.from_json(graph.to_json()) == graph


def test_only_what_differs_from_the_defaults_is_written():
    data = json.loads(NeckGraph.from_json(json.dumps(GOOD)).to_json())
    assert data["schema"] == "nasneck.graph/1"
    assert data["nodes"][1] == {
        "name": "p3",
        "level": 3,
        "op": "sum",
        "inputs": [{"from": "c3", "ops": []}],
        "layers": [{"op": "conv", "kernel": 1}],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"^neck.json: not JSON \(line 1, column 2: "),
        ("", "not JSON"),
        ("[]", "not a neck graph; a JSON object with schema 'nasneck.graph/1' is wanted"),
        ('{"nodes": []}', "not a neck graph"),
        (changed(schema="nasneck.graph/2"), "schema 'nasneck.graph/2' is not 'nasneck.graph/1'"),
        (changed(schema=1), "schema 1 is not"),
        (changed(colour="red"), "neck.json: unknown key 'colour'"),
        (changed(nodes={}), "nodes: {} is not a list"),
        (changed(nodes=[3]), "3 is not a node; an object with a 'name' is wanted"),
        (changed(outputs=None), "outputs: None is not an object from level to node name"),
        (changed(outputs={"fine": "p3"}), "outputs: 'fine': 'p3' is not a level and a node name"),
        (changed(outputs={"²": "p3"}), "outputs: '²'"),
        (changed(outputs={"3": 3}), "outputs: '3': 3 is not"),
        (changed(outputs={"4": "p3"}), "output P4 is node 'p3', which lies on level 3"),
        (changed(aux="p3"), "aux: 'p3' is not a list"),
        (with_node(colour="red"), r"node 'p3': unknown key 'colour' \(known: inputs, layers, level, "),
        (with_node(level="3"), "node 'p3': level '3' is not a whole number"),
        (with_node(op="summ"), r"node 'p3': unknown fusion op 'summ'; did you mean 'sum'\?"),
        (with_node(op=7), "7 is not a name or a table with an 'op'"),
        (with_node(inputs="c3"), "node 'p3': inputs: 'c3' is not a list"),
        (with_node(inputs=[3]), "node 'p3': 3 is not an edge"),
        (with_node(inputs=[{"from": "c3", "op": []}]), "is not an edge; a name or an object with 'from' and 'ops'"),
        (with_node(inputs=[{"from": "c3", "ops": ["cnov"]}]), "node 'p3', input 'c3': unknown op 'cnov'"),
        (with_node(layers=[{"op": "conv", "kernel": 2}]), "node 'p3': layers: conv: kernel 2 is not an odd"),
        (
            with_node(layers=[{"op": "conv", "kernel": True}]),
            "node 'p3': layers: conv: kernel: True is not a whole number",
        ),
        (with_node(layers=[{"op": "conv", "size": 1}]), "node 'p3': layers: conv: unknown setting 'size'"),
        (with_node(width=None), "width None is not valid"),
        (with_node(shares=["c3"]), r"node 'p3': shares \['c3'\] is not the name of a node"),
        (with_node(inputs=["c9"]), "node 'p3' reads 'c9', which does not exist"),
        (changed(nodes=[{"name": "c3"}]), "node 'c3': 'level' is missing"),
    ],
)
def test_foreign_and_broken_texts(text, message):
    with pytest.raises(GraphError, match=message) as caught:
        NeckGraph.from_json(text, where="neck.json")
    assert str(caught.value).startswith("neck.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aux": [[1]]}, r"auxiliary output \[1\] does not exist"),
        ({"outputs": {"9" * 5000: "p3"}}, "is not a level and a node name"),
    ],
)
def test_values_of_the_wrong_kind_have_no_traceback(change, message):
    data = json.loads(necks.fpn().to_json()) | change
    with pytest.raises(GraphError, match=message):
        NeckGraph.from_json(json.dumps(data))


def test_brackets_without_end_are_refused():
    with pytest.raises(GraphError, match=r"f\.json: not"):
        NeckGraph.from_json("[" * 100_000, where="f.json")
