"""Costs of necks."""

from __future__ import annotations

import copy
import time

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nasneck import necks
from nasneck.compile import compile_neck
from nasneck.cost import count_macs, count_parameters, feature_shapes, measure_latency
from nasneck.graph import Conv, NeckGraph, Node, input_node


def one_conv(**options):
    graph = NeckGraph([input_node(3), Node("o", 3, "sum", ["c3"], [Conv(**options)])], outputs={3: "o"})
    return compile_neck(graph, {3: 4}, 8)


def test_parameters_that_train_are_counted_once():
    module = nn.Sequential(nn.Linear(3, 5), nn.Linear(3, 5))
    assert count_parameters(module) == 40
    module[1].weight = module[0].weight
    assert count_parameters(module) == 25
    module[0].bias.requires_grad_(False)
    assert count_parameters(module) == 20


@pytest.mark.parametrize(
    ("options", "per_cell"),
    [
        ({"kernel": 3}, 9 * 4 * 8),
        ({"kernel": 1, "bias": False}, 4 * 8),
        ({"kernel": 3, "separable": True}, 9 * 4 + 4 * 8),
        ({"kernel": 5, "groups": 2}, 25 * 2 * 8),
    ],
)
def test_multiply_adds_of_one_convolution(options, per_cell):
    # 100x70 pixels: 13 x 9 cells at stride 8
    assert count_macs(one_conv(**options), (100, 70)) == 13 * 9 * per_cell


def test_counting_leaves_the_neck_as_it_was():
    neck = compile_neck(necks.nas_fpn(repeats=1), (4, 6, 8), 8).train()
    before = {name: value.clone() for name, value in neck.state_dict().items()}
    count_macs(neck, (64, 64))
    measure_latency(neck, (64, 64), runs=2, warmup=1)
    assert neck.training
    assert all(torch.equal(value, before[name]) for name, value in neck.state_dict().items())


def test_feature_shapes():
    neck = compile_neck(necks.fpn(), (4, 6, 8), 8)
    assert feature_shapes(neck, (500, 333), batch=2) == [(2, 4, 63, 42), (2, 6, 32, 21), (2, 8, 16, 11)]


def test_latency_is_the_median_in_milliseconds(monkeypatch):
    ticks = iter([0.0, 0.005, 1.0, 1.001, 2.0, 2.002])
    neck = one_conv()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    assert measure_latency(neck, (32, 32), runs=3, warmup=2) == pytest.approx(2.0)


# Fewer repeats, as torch's counter takes its time.
SMALL = {
    "bifpn": {"repeats": 1},
    "fpg": {"stacks": 5},
    "gfpn": {"depth": 1},
    "mlfpn": {"tums": 2},
    "mnasfpn": {"repeats": 1},
    "nas_fpn": {"repeats": 1},
    "qufpn": {"repeats": 1},
    "weighted_pan": {"repeats": 1},
}


@pytest.mark.parametrize("name", sorted(necks.NECKS))
def test_the_same_as_torchs_counter(name):
    graph = necks.NECKS[name](**SMALL.get(name, {}))
    neck = compile_neck(graph, dict.fromkeys(graph.input_levels, 8), 8).eval()
    features = [torch.empty(shape, device="meta") for shape in feature_shapes(neck, (320, 320))]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy.deepcopy(neck).to("meta")(features)
    assert count_macs(neck, (320, 320)) == counter.get_total_flops() // 2 > 0
