"""Graphs to networkx and back."""

from __future__ import annotations

import networkx as nx
import pytest
from graph_strategies import graphs
from hypothesis import given

from nasneck import necks
from nasneck.errors import GraphError
from nasneck.graph import Conv, Edge, NeckGraph, Node, input_node


@given(graphs())
def test_round_trip(graph):
    again = NeckGraph.from_networkx(graph.to_networkx())
    assert again == graph and again.name == graph.name
    assert NeckGraph.from_networkx(graph.dag) == graph


@given(graphs())
def test_networkx_may_lose_the_order_of_edges(graph):
    shuffled = nx.MultiDiGraph(**graph.dag.graph)
    shuffled.add_nodes_from(reversed(list(graph.dag.nodes(data=True))))
    for source, reader, data in reversed(list(graph.dag.edges(data=True))):
        shuffled.add_edge(source, reader, **data)
    again = NeckGraph.from_networkx(shuffled)
    assert {node.name: node for node in again.nodes} == {node.name: node for node in graph.nodes}
    assert again.key() == graph.key()


def test_the_dag_has_what_it_says():
    dag = necks.fpn().dag
    assert isinstance(dag, nx.MultiDiGraph) and nx.is_directed_acyclic_graph(dag)
    assert set(nx.ancestors(dag, "p4")) == {"c4", "c5", "td4", "td5"}
    assert dag.nodes["td4"]["level"] == 4
    assert [(u, d["position"]) for u, _, d in dag.in_edges("td4", data=True)] == [("c4", 0), ("td5", 1)]


def test_a_node_read_twice_is_kept():
    graph = NeckGraph([input_node(3), Node("o", 3, "concat", [Edge("c3", [Conv(1)]), "c3", "c3"])], outputs={3: "o"})
    again = NeckGraph.from_networkx(graph.dag)
    assert again == graph
    assert [len(edge.ops or ()) for edge in again["o"].inputs] == [1, 0, 0]


def test_a_hand_made_digraph():
    dag = nx.DiGraph()
    dag.add_node("c3", level=3)
    dag.add_node("c4", level=4)
    dag.add_node("p3", level=3, layers=[{"op": "conv", "kernel": 1}])
    dag.add_edge("c4", "p3", position=1)
    dag.add_edge("c3", "p3", position=0)
    graph = NeckGraph.from_networkx(dag, outputs={3: "p3"}, name="mine")
    assert [edge.source for edge in graph["p3"].inputs] == ["c3", "c4"]
    assert graph["p3"].layers == (Conv(1),)
    assert graph.name == "mine"


def hand_made(*, level: bool = True, positions: tuple = (0, 1)) -> nx.DiGraph:
    dag = nx.DiGraph()
    dag.add_node("c3", level=3)
    dag.add_node("c4", level=4)
    dag.add_node("p3", **({"level": 3} if level else {}))
    for source, position in zip(("c3", "c4"), positions, strict=True):
        dag.add_edge(source, "p3", **({} if position is None else {"position": position}))
    return dag


@pytest.mark.parametrize("positions", [(None, None), (0, None), (0, 0), (1, 2), ("0", "1")])
def test_edges_need_positions(positions):
    with pytest.raises(GraphError, match=r"node 'p3': its 2 incoming edges need 'position' 0..1, each once"):
        NeckGraph.from_networkx(hand_made(positions=positions), outputs={3: "p3"})


def test_what_else_is_refused():
    with pytest.raises(GraphError, match="node 'p3' has no 'level' attribute"):
        NeckGraph.from_networkx(hand_made(level=False), outputs={3: "p3"})
    with pytest.raises(GraphError, match=r"no outputs: give outputs=\{level: node name\}"):
        NeckGraph.from_networkx(hand_made())
    with pytest.raises(GraphError, match="a neck is a networkx DiGraph or MultiDiGraph, not Graph"):
        NeckGraph.from_networkx(nx.Graph())  # type: ignore[arg-type]
    numbered = nx.convert_node_labels_to_integers(hand_made())
    with pytest.raises(GraphError, match="node name 0 is not a Python identifier"):
        NeckGraph.from_networkx(numbered, outputs={3: "p3"})


def test_the_copy_may_be_changed_and_the_graph_does_not_change_with_it():
    graph = necks.fpn()
    dag = graph.to_networkx()
    dag.nodes["p3"]["layers"] = ()
    dag.graph["outputs"].clear()
    assert graph["p3"].layers == (Conv(3),) and graph == necks.fpn()
    assert NeckGraph.from_networkx(dag, outputs=graph.outputs).key() != graph.key()
