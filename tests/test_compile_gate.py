"""Attention's gate is taken before resampling only where no cell is lost on the way."""

import torch

from nasneck import Edge, NeckGraph, Node, compile_neck
from nasneck.graph import Attention, Conv, Resample, input_node


def test_the_gate_of_a_map_that_is_resampled_within_its_level():
    """C3 of 9x9 strided to 5x5, then brought to C4's 4x4 by nearest, which leaves cells out."""
    nodes = [
        input_node(3),
        input_node(4),
        Node("down", 4, "sum", [Edge("c3", [Conv(3, stride=2)])]),
        Node("same", 4, "sum", [Edge("c4", [Conv(1)])]),
        Node("out", 4, Attention(), [Edge("down", [Resample("auto", to="c4")]), Edge("same", ())]),
    ]
    graph = NeckGraph(nodes, outputs={4: "out"})
    features = [torch.randn(2, 4, 9, 9), torch.randn(2, 4, 4, 4)]
    plain = compile_neck(graph, [4, 4], 4, optimize=False)
    saving = compile_neck(graph, [4, 4], 4)
    saving.load_state_dict(plain.state_dict())
    assert torch.equal(plain(features)[0], saving(features)[0])


def test_the_gate_of_a_map_that_changes_its_level_is_taken_at_its_source():
    nodes = [input_node(3), input_node(4), Node("out", 3, Attention(), ["c3", "c4"])]
    code = compile_neck(NeckGraph(nodes, outputs={3: "out"}), [4, 4], 4).body.code
    assert "global_max(c4)" in code
