"""Sizes worked out from a graph, and what is said where nothing is left of a map."""

from __future__ import annotations

import pytest
import torch
from graph_strategies import CHANNELS, IN_CHANNELS, graphs
from hypothesis import given
from hypothesis import strategies as st

from nasneck import necks
from nasneck.compile import compile_neck
from nasneck.errors import CompileError
from nasneck.graph import Conv, Edge, NeckGraph, Node, Resample, input_node
from nasneck.sizes import map_sizes, vanishing


@given(graphs(aux=False), st.integers(1, 40), st.integers(1, 40))
def test_like_the_maps_that_are_computed(graph, height, width):
    sizes = {level: (-(-height // 2 ** (level - 3)), -(-width // 2 ** (level - 3))) for level in IN_CHANNELS}
    with torch.device("meta"):
        neck = compile_neck(graph, IN_CHANNELS, CHANNELS, norm="group")
    outs = neck([torch.empty(2, IN_CHANNELS[level], *size, device="meta") for level, size in sizes.items()])
    found = map_sizes(graph, sizes)
    assert [tuple(out.shape[2:]) for out in outs] == [found[name] for name in graph.outputs.values()]


@pytest.mark.parametrize("side", [256, 257, 320, 512])
def test_the_image_size_that_is_named_is_the_smallest(side):
    graph = necks.mlfpn((3, 4), tums=1)
    with torch.device("meta"):
        neck = compile_neck(graph, [8, 8], 16).eval()
    features = [torch.empty(1, 8, -(-side // 2**level), -(-side // 2**level), device="meta") for level in (3, 4)]
    if side > 256:
        assert neck(features)[-1].shape[-1] == -(-side // 128) - 2
        return
    message = (
        r"mlfpn: nothing is left of the map of node 't0_e8' \(level 8\): a 3x3 convolution without padding needs at "
        r"least 3x3 cells, and 't0_e7' \(level 7\) has 2x2; images need sides of at least 257 pixels"
    )
    with pytest.raises(CompileError, match=message):
        neck(features)
    assert map_sizes(necks.mlfpn((3, 4), tums=1, valid=False), {3: (32, 32), 4: (16, 16)})["p8"] == (1, 1)


def test_a_halving_after_another_op_counts_from_where_that_has_led():
    down = [Conv(3, stride=2), Resample("auto")]
    graph = NeckGraph([input_node(3), Node("o", 6, "sum", [Edge("c3", down)])], outputs={6: "o"})
    neck = compile_neck(graph, [4], 4)
    assert map_sizes(graph, {3: (40, 24)})["o"] == tuple(neck([torch.zeros(1, 4, 40, 24)])[0].shape[2:]) == (5, 3)


def test_nodes_that_nothing_reads_do_not_count_and_sizes_must_be_given():
    dead = Node("dead", 6, "sum", [Edge("c3", [Conv(9, padding="valid")])])
    graph = NeckGraph([input_node(3), Node("o", 3, "sum", ["c3"]), dead], outputs={3: "o"})
    assert map_sizes(graph, {3: (4, 4)}) == {"c3": (4, 4), "o": (4, 4)}
    with pytest.raises(ValueError, match="neck: no size of C3 is given"):
        map_sizes(graph, {4: (4, 4)})


def test_features_without_cells():
    neck = compile_neck(necks.fpn(), [4, 4, 4], 4)
    with pytest.raises(CompileError, match=r"fpn: C3 has shape \(1, 4, 0, 8\), so there is nothing in it"):
        neck([torch.zeros(1, 4, 0, 8), torch.zeros(1, 4, 0, 4), torch.zeros(1, 4, 0, 2)])


def test_a_pool_that_rounds_down():
    graph = necks.nas_fpn(repeats=1, dialect="mmdet", rounding="floor")
    sizes = {3: (8, 8), 4: (4, 4), 5: (2, 2)}
    message = vanishing(graph, sizes)
    assert message is not None
    assert (
        "node 'p7' (level 7): a 2x2 pool that rounds down needs at least 2x2 cells, and 'p6' (level 6) has 1x1"
        in message
    )
    with pytest.raises(ValueError, match="nothing is left of the map of node 'p7'"):
        map_sizes(graph, sizes)
    assert vanishing(necks.nas_fpn(repeats=1, dialect="mmdet"), sizes) is None


@pytest.mark.parametrize(
    ("graph", "widths", "channels", "message"),
    [
        (
            necks.ssh(),
            (8, 8, 8),
            10,
            r"ssh: node '\w+' \(level \d\): width 'channels/4': 10 channels cannot be divided by 4",
        ),
        (necks.mlfpn((3, 4)), (8, 8), 9, r"mlfpn: node 'leach0' \(level 3\): width 'channels/2': 9 channels"),
        (
            necks.mlfpn((3, 4), tums=1, sfam=True),
            (8, 8),
            8,
            r"mlfpn: node 'joined3' \(level 3\): width 'input/16': 8 channels cannot be divided by 16",
        ),
        (necks.bfp(), (8, 8, 8, 8, 6), 8, r"bfp: node 'balanced' \(level 5\): its inputs have unequal widths .*c7: 6"),
        (necks.spinenet(), (64,), 6, r"spinenet: node '\w+' \(level \d\): width 'channels/\d': 6 channels cannot be"),
        (necks.cspnext_pafpn(expand=0.01), (8, 8, 8), 8, r"cspnext_pafpn: .* width 'c4\*0.01': nothing is left of 8"),
        (necks.fpn(), (8, 8), 8, r"in_channels has 2 widths; the graph reads C3, C4, C5"),
    ],
)
def test_widths_that_a_neck_cannot_take(graph, widths, channels, message):
    with pytest.raises(CompileError, match=message), torch.device("meta"):
        compile_neck(graph, widths, channels)
