"""Layers that timm has too, with its weights: squeeze-and-excitation, non-local blocks, separable convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasneck.compile import compile_neck
from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, NonLocal, Norm, Op, SqueezeExcite, input_node

layers = pytest.importorskip("timm.layers")
WIDTH = 16


def neck_with(*ops: Op) -> nn.Module:
    graph = NeckGraph([input_node(3), Node("p3", 3, "sum", [Edge("c3", ())], ops)], outputs={3: "p3"})
    return compile_neck(graph, [WIDTH], WIDTH).double()


def equal(ours: nn.Module, theirs: nn.Module, pairs: dict[str, str]) -> None:
    """Outputs and gradients, with their weights in ours."""
    theirs = theirs.double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    mine, given = dict(ours.body.named_parameters()), dict(theirs.named_parameters())
    assert set(mine) == set(pairs) and set(given) == set(pairs.values())
    with torch.no_grad():
        for ours_name, theirs_name in pairs.items():
            mine[ours_name].copy_(given[theirs_name].reshape(mine[ours_name].shape))
    x = torch.randn(2, WIDTH, 7, 5, dtype=torch.float64)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    (got,), want = ours([a]), theirs(b)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)
    mask = torch.randn_like(want)
    (got * mask).sum().backward()
    (want * mask).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-11)
    for ours_name, theirs_name in pairs.items():
        found, wanted = mine[ours_name].grad, given[theirs_name].grad
        assert found is not None and wanted is not None
        torch.testing.assert_close(found, wanted.reshape(found.shape), rtol=1e-9, atol=1e-9)


def test_squeeze_and_excitation():
    torch.manual_seed(0)
    theirs = layers.SEModule(WIDTH, rd_channels=4)
    pairs = {
        f"p3.se.{ours}.{leaf}": f"{theirs_}.{leaf}"
        for ours, theirs_ in (("reduce", "fc1"), ("expand", "fc2"))
        for leaf in ("weight", "bias")
    }
    equal(neck_with(SqueezeExcite("input/4")), theirs, pairs)


def test_non_local():
    torch.manual_seed(0)
    # timm's ends with a norm; it starts at zero there, and is left out here
    theirs = layers.NonLocalAttn(WIDTH, use_scale=False, rd_channels=8)
    theirs.norm = nn.Identity()
    names = {"theta": "t", "phi": "p", "g": "g", "out": "z"}
    pairs = {
        f"p3.non_local.{ours}.{leaf}": f"{theirs_}.{leaf}"
        for ours, theirs_ in names.items()
        for leaf in ("weight", "bias")
    }
    equal(neck_with(NonLocal(8)), theirs, pairs)


def test_separable_convolution_with_norm_and_activation():
    torch.manual_seed(0)
    theirs = layers.SeparableConvNormAct(WIDTH, WIDTH, kernel_size=5, norm_layer=nn.BatchNorm2d, act_layer=nn.SiLU)
    pairs = {
        "p3.conv.depthwise.weight": "conv_dw.weight",
        "p3.conv.pointwise.weight": "conv_pw.weight",
        "p3.norm.weight": "bn.weight",
        "p3.norm.bias": "bn.bias",
    }
    equal(neck_with(Conv(5, separable=True, bias=False), Norm(), Act("silu")), theirs, pairs)
