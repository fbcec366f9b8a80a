"""Properties of compiled necks: shapes, savings, gradients, fusions, sharing, wrong widths."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from graph_strategies import CHANNELS, IN_CHANNELS, graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nasneck import necks
from nasneck.compile import compile_neck
from nasneck.cost import count_parameters
from nasneck.errors import CompileError
from nasneck.graph import (
    Act,
    Attention,
    Concat,
    Conv,
    Edge,
    FastNormalized,
    Gate,
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
from nasneck.graph.liveness import read_nodes
from nasneck.sizes import map_sizes
from nasneck.space import load_space

C3, C4, C5 = input_node(3), input_node(4), input_node(5)
SIZES = {3: (37, 51), 4: (19, 26), 5: (10, 13), 6: (5, 7), 7: (3, 4)}


def features(widths: dict[int, int], *, batch: int = 2, seed: int = 0, sizes=SIZES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, width, *sizes[level], generator=generator, dtype=torch.float64, requires_grad=True)
        for level, width in widths.items()
    ]


def build(graph: NeckGraph, widths=IN_CHANNELS, channels: int = CHANNELS, *, seed: int = 0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return compile_neck(graph, {level: widths[level] for level in graph.input_levels}, channels, **options).double()


def flat(outs, aux: bool) -> list[Tensor]:
    return [*outs[0], *outs[1]] if aux else list(outs)


def graph_of(*nodes: Node, out: str = "o", **options) -> NeckGraph:
    level = next(n.level for n in nodes if n.name == out)
    return NeckGraph([C3, C4, C5, *nodes], outputs={level: out}, **options)


# -- any graph ---------------------------------------------------------------------------------------


@given(graphs(), st.sampled_from(["batch", "group", "frozen"]))
def test_any_graph(graph, norm):
    """Shapes, savings, gradients and inputs left alone, on odd sizes."""
    aux = bool(graph.aux)
    neck = build(graph, norm=norm, aux=aux)
    plain = build(graph, norm=norm, aux=aux, optimize=False)
    plain.load_state_dict(neck.state_dict())
    given_ = features(IN_CHANNELS)
    kept = [x.detach().clone() for x in given_]
    outs, wanted = flat(neck(given_), aux), flat(plain(given_), aux)

    for (level, width), out in zip(neck.out_channels.items(), outs, strict=False):
        assert out.shape == (2, width, *SIZES[level])
    assert tuple(neck.out_channels) == graph.output_levels
    for out, want in zip(outs, wanted, strict=True):
        assert torch.isfinite(out).all() and torch.equal(out, want)
    for buffer, want in zip(neck.buffers(), plain.buffers(), strict=True):
        assert torch.equal(buffer, want)
    for x, before in zip(given_, kept, strict=True):
        assert torch.equal(x, before)

    mask = [torch.randn(out.shape, dtype=torch.float64) for out in outs]
    trained = [p for p in neck.parameters() if p.requires_grad]
    leaves = [*given_, *trained]
    found = torch.autograd.grad(
        sum(((o * m).sum() for o, m in zip(outs, mask, strict=True)), torch.zeros(())), leaves, allow_unused=True
    )
    assert all(g is not None and torch.isfinite(g).all() for g in found[len(given_) :])
    leaves = [*given_, *(p for p in plain.parameters() if p.requires_grad)]
    same = torch.autograd.grad(
        sum(((o * m).sum() for o, m in zip(wanted, mask, strict=True)), torch.zeros(())), leaves, allow_unused=True
    )
    for got, want in zip(found, same, strict=True):
        assert (got is None) == (want is None)
        if got is not None and want is not None:
            torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)


@settings(max_examples=25)
@given(graphs())
def test_equal_keys_compute_equally(graph):
    """The key's normal form is honest: a flattened, reordered copy gives the same numbers and weights."""
    nodes = list(graph.nodes)
    random.Random(len(nodes)).shuffle(nodes)
    other = NeckGraph(nodes, outputs=graph.outputs, aux=graph.aux)
    assert other.key() == graph.key()
    neck, again = build(graph), build(other)
    again.load_state_dict(neck.state_dict())
    for got, want in zip(again(features(IN_CHANNELS)), neck(features(IN_CHANNELS)), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@given(graphs())
def test_only_nodes_that_matter_have_weights(graph):
    neck = build(graph)
    read = read_nodes(graph, graph.outputs.values())
    owners = {node.shares or node.name for node in graph.nodes if node.name in read}
    assert {name.split(".")[1] for name, _ in neck.named_parameters()} <= owners


@settings(max_examples=12)
@given(st.integers(0, 2**32), st.booleans())
def test_the_nas_fpn_space(seed, loose):
    space = load_space("nas_fpn", repeats=2, loose=loose, ops=("sum", "attention", "max"))
    graph = space.decode(space.sample(random.Random(seed)))
    widths = {3: 5, 4: 6, 5: 7}
    neck, plain = build(graph, widths, 6), build(graph, widths, 6, optimize=False)
    plain.load_state_dict(neck.state_dict())
    given_ = features(widths)
    outs, wanted = neck(given_), plain(given_)
    for level, out, want in zip(graph.output_levels, outs, wanted, strict=True):
        assert out.shape == (2, 6, *SIZES[level]) and torch.equal(out, want)
    loss = sum((out * torch.randn_like(out)).sum() for out in outs)
    names, parameters = zip(*neck.named_parameters(), strict=True)
    for name, gradient in zip(names, torch.autograd.grad(loss, parameters), strict=True):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 1e-9 or name.endswith("conv.bias"), name


@pytest.mark.parametrize("name", sorted(necks.NECKS))
@pytest.mark.parametrize("norm", ["batch", "group", "frozen"])
def test_every_parameter_of_the_fixed_necks_is_trained(name, norm):
    graph = necks.NECKS[name](**({"tums": 2} if name == "mlfpn" else {}))
    widths = {level: IN_CHANNELS.get(level, 4) for level in graph.input_levels}
    neck = build(graph, widths, norm=norm)
    for module in neck.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight)  # where one starts at zero, those before it learn from the second step on
    sizes = {level: tuple(n * 3 for n in size) for level, size in SIZES.items()} if name == "mlfpn" else SIZES
    # feature noise stands for what a trained backbone gives; biases of zero would leave ReLUs half open
    outs = neck(features(widths, sizes={2: (64, 64), **sizes}))
    loss = sum((out * torch.randn_like(out)).sum() for out in outs)
    names, parameters = zip(*((n, p) for n, p in neck.named_parameters() if p.requires_grad), strict=True)
    for name_, gradient in zip(names, torch.autograd.grad(loss, parameters), strict=True):
        assert torch.isfinite(gradient).all()
        before_batch_norm = norm == "batch" and name in BIASED and name_.endswith(".bias")
        # softmax does not see what is added to all of its inputs
        before_softmax = name_.endswith(("non_local.phi.bias", "carafe.encode.bias"))
        assert before_batch_norm or before_softmax or gradient.abs().max() > 1e-12, name_


# Necks with biases, of norms too, that a batch norm takes away again.
BIASED = ("nas_fpn", "nas_fcos", "efficientdet", "mnasfpn", "spinenet")


@pytest.mark.parametrize("name", sorted(set(necks.NECKS) - {"spinenet"}))
@pytest.mark.parametrize("c3", [(1, 1), (2, 3), (5, 1), (37, 51), (64, 64)])
def test_any_size(name, c3):
    """Also those where backbones round down, and where the coarsest maps are a single cell."""
    # MLFPN halves its maps itself, and as published it needs large images.
    options = {"valid": False, "tums": 2} if name == "mlfpn" else {}
    graph = necks.NECKS[name](levels=(3, 7), **options)
    for up in (0, 1) if name != "mlfpn" else (1,):
        sizes = {3: c3}
        for level in (4, 5):
            sizes[level] = tuple(max(1, (n + up) // 2) for n in sizes[level - 1])
        for level in (6, 7):
            sizes[level] = tuple((n + 1) // 2 for n in sizes[level - 1])
        neck = build(graph, norm="group")
        outs = neck(features(IN_CHANNELS, sizes=sizes))
        assert [tuple(out.shape[2:]) for out in outs] == [sizes[level] for level in range(3, 8)]
        worked_out = map_sizes(graph, {level: sizes[level] for level in IN_CHANNELS})
        assert [worked_out[name] for name in graph.outputs.values()] == [sizes[level] for level in range(3, 8)]
        plain = build(graph, norm="group", optimize=False)
        plain.load_state_dict(neck.state_dict())
        assert all(map(torch.equal, outs, plain(features(IN_CHANNELS, sizes=sizes))))


@pytest.mark.parametrize("c2", [(1, 1), (3, 2), (37, 51)])
def test_any_size_of_the_stem_of_spinenet(c2):
    neck = build(necks.spinenet(), {2: 4}, norm="group")
    outs = neck(features({2: 4}, sizes={2: c2}))
    assert [tuple(out.shape[2:]) for out in outs] == [
        tuple(-(-n // 2 ** (level - 2)) for n in c2) for level in range(3, 8)
    ]


# -- savings -----------------------------------------------------------------------------------------


def calls(neck, function: str) -> int:
    return sum(getattr(node.target, "__name__", "") == function for node in neck.body.graph.nodes)


def test_one_resample_per_map_and_size():
    nodes = [
        Node("a", 3, "sum", ["c3", Edge("c4", [Resample("auto", to="c3")])], [Act("relu")]),
        Node("b", 3, "max", ["a", Edge("c4", [Resample("auto", to="c3")])]),
    ]
    graph = NeckGraph([C3, C4, *nodes], outputs={3: "b"})
    assert calls(build(graph, {3: 4, 4: 4}), "upsample") == 1
    assert calls(build(graph, {3: 4, 4: 4}, optimize=False), "upsample") == 2


def test_max_pools_are_chained():
    nodes = [
        Node("p4", 4, "sum", ["c3", "c4"]),
        Node("p5", 5, "sum", ["c3", "c5"]),
        Node("o", 5, "sum", ["p5", "p4"], [Conv(3)]),
    ]
    neck = build(NeckGraph([C3, C4, C5, *nodes], outputs={5: "o"}), {3: 4, 4: 4, 5: 4})
    halves = [n for n in neck.body.graph.nodes if getattr(n.target, "__name__", "") == "halve"]
    assert [n.args[1] for n in halves] == [1, 1] and halves[1].args[0] is halves[0]


def test_a_gate_by_maximum_is_found_before_resampling_and_one_by_average_after():
    def graph(op: Attention) -> NeckGraph:
        return graph_of(Node("o", 3, op, ["c3", "c5"]))

    widths = {3: 4, 4: 4, 5: 4}
    maximum = build(graph(Attention()), widths).body.graph
    (node,) = [n for n in maximum.nodes if getattr(n.target, "__name__", "") == "global_max"]
    assert node.args[0].op == "placeholder"
    average = build(graph(Attention(pool="avg")), widths).body.graph
    (node,) = [n for n in average.nodes if getattr(n.target, "__name__", "") == "global_mean"]
    assert node.args[0].op == "call_function"


def test_dead_nodes_cost_nothing():
    nodes = [Node("dead", 3, "sum", ["c3"], [Conv(3)]), Node("o", 3, "sum", ["c3"], [Conv(1)])]
    neck = build(graph_of(*nodes))
    assert count_parameters(neck) == 4 * 8 + 8
    assert not any("dead" in node.name for node in neck.body.graph.nodes)


def test_a_node_that_only_tells_a_size():
    nodes = [
        Node("p6", 6, "sum", [Edge("c5", [Conv(3, stride=2)])]),
        Node("p7", 7, "sum", ["c5"]),
        Node("o", 6, "sum", [Edge("p7", [Resample("auto", to="p6")])], [Conv(1)]),
    ]
    assert build(graph_of(*nodes))(features(IN_CHANNELS))[0].shape == (2, 8, 5, 7)
    plain = Node("q6", 6, "sum", ["c5"])
    neck = build(graph_of(plain, *nodes))
    assert neck(features(IN_CHANNELS))[0].shape == (2, 8, 5, 7)


# -- fusions -----------------------------------------------------------------------------------------


def fused(op, maps: list[Tensor], **parameters: Tensor) -> Tensor:
    """The one output of a node that fuses maps of one level, with its weights set."""
    names = [f"x{i}" for i in range(len(maps))]
    nodes = [Node(name, 3, "concat", [Edge("c3", [Conv(1, bias=False, width=4)])]) for name in names]
    neck = build(NeckGraph([C3, *nodes, Node("o", 3, op, names)], outputs={3: "o"}), {3: 4 * len(maps)}, 4)
    stacked = torch.cat(maps, 1)
    with torch.no_grad():
        for i, name in enumerate(names):  # x_i is the i-th quarter of c3
            weight = neck.get_parameter(f"body.{name}.from_c3.conv.weight")
            weight.zero_()
            weight[:, 4 * i : 4 * i + 4, 0, 0] = torch.eye(4, dtype=weight.dtype)
        for name, value in parameters.items():
            neck.get_parameter(f"body.o.{name.replace('__', '.')}").copy_(value)
    return neck([stacked])[0]


def maps(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(2, 4, 5, 7, generator=generator, dtype=torch.float64) for _ in range(count)]


def test_fusions_without_weights():
    x, y, z = maps(3)
    close = torch.testing.assert_close
    close(fused("sum", [x, y, z]), x + y + z)
    close(fused("sum", [x]), x)
    close(fused("mean", [x, y, z]), (x + y + z) / 3)
    close(fused("max", [x, y, z]), torch.stack([x, y, z]).amax(0))
    close(fused("concat", [x, y]), torch.cat([x, y], 1))
    close(fused("gate", [x, y]), x / (1 + torch.exp(-y)))
    close(fused(Gate(complement=True), [x, y]), x * (1 - 1 / (1 + torch.exp(-y))))


def test_weighted_fusions():
    x = maps(3)
    w = torch.tensor([0.3, -2.0, 1.5], dtype=torch.float64)
    relu = w.clamp(min=0) / (w.clamp(min=0).sum() + 1e-4)
    torch.testing.assert_close(
        fused("fast_normalized", x, fusion__weight=w), sum(a * m for a, m in zip(relu, x, strict=True))
    )
    wide = w.clamp(min=0) / (w.clamp(min=0).sum() + 0.5)
    torch.testing.assert_close(
        fused(FastNormalized(0.5), x, fusion__weight=w), sum(a * m for a, m in zip(wide, x, strict=True))
    )
    soft = w.exp() / w.exp().sum()
    torch.testing.assert_close(fused("softmax", x, fusion__weight=w), sum(a * m for a, m in zip(soft, x, strict=True)))


def test_weighted_fusions_start_even():
    x, y = maps(2)
    torch.testing.assert_close(fused("softmax", [x, y]), (x + y) / 2)
    torch.testing.assert_close(fused("fast_normalized", [x, y]), (x + y) / (2 + 1e-4))


@pytest.mark.parametrize("normalize", ["softmax", "sigmoid"])
def test_pixel_weighted(normalize):
    x = maps(3)
    weight = torch.randn(3, 12, 3, 3, dtype=torch.float64)
    bias = torch.randn(3, dtype=torch.float64)
    op = PixelWeighted(normalize=normalize, squeeze=None, kernel=3)
    got = fused(op, x, fusion__logits__conv__weight=weight, fusion__logits__conv__bias=bias)
    logits = F.conv2d(torch.cat(x, 1), weight, bias, padding=1)
    share = logits.softmax(1) if normalize == "softmax" else logits.sigmoid()
    torch.testing.assert_close(got, sum(share[:, i : i + 1] * m for i, m in enumerate(x)))


def test_pixel_weighted_as_in_asff():
    x = maps(2)
    squeezed = [torch.randn(3, 4, 1, 1, dtype=torch.float64) for _ in x]
    hidden, logits = torch.randn(5, 6, 1, 1, dtype=torch.float64), torch.randn(2, 5, 1, 1, dtype=torch.float64)
    op = PixelWeighted(squeeze=3, hidden=5)
    parameters = {f"fusion__squeeze{i}__conv__weight": w for i, w in enumerate(squeezed)}
    got = fused(op, x, **parameters, fusion__hidden__conv__weight=hidden, fusion__logits__conv__weight=logits)
    parts = [
        F.leaky_relu(F.batch_norm(F.conv2d(m, w), None, None, training=True), 0.1)
        for m, w in zip(x, squeezed, strict=True)
    ]
    share = F.conv2d(F.relu(F.conv2d(torch.cat(parts, 1), hidden)), logits).softmax(1)
    torch.testing.assert_close(got, share[:, :1] * x[0] + share[:, 1:] * x[1])


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("gate", ["coarser", "finer"])
@pytest.mark.parametrize("order", [("c3", "c4"), ("c4", "c3")])
def test_attention(gate, pool, order):
    graph = graph_of(Node("o", 3, Attention(gate, pool), order))
    c3, c4, c5 = features({3: 4, 4: 4, 5: 4})
    fine, coarse = c3, c4.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :37, :51]
    # 37 rows from 19: cell i of the output is cell floor(i * 19 / 37) of the input
    coarse = c4.index_select(2, torch.arange(37) * 19 // 37).index_select(3, torch.arange(51) * 26 // 51)
    high, low = (coarse, fine) if gate == "coarser" else (fine, coarse)
    context = high.amax((2, 3), keepdim=True) if pool == "max" else high.mean((2, 3), keepdim=True)
    got = build(graph, {3: 4, 4: 4, 5: 4})([c3, c4, c5])[0]
    torch.testing.assert_close(got, high + torch.sigmoid(context) * low)


def test_attention_of_one_level_gates_with_the_first():
    x, y = maps(2)
    torch.testing.assert_close(fused("attention", [x, y]), x + torch.sigmoid(x.amax((2, 3), keepdim=True)) * y)
    torch.testing.assert_close(fused(Attention("finer"), [x, y]), x + torch.sigmoid(x.amax((2, 3), keepdim=True)) * y)


def test_pooled_context_broadcasts_and_counts_as_coarsest():
    c3, c4, c5 = features({3: 4, 4: 4, 5: 4})
    context = Node("x", None, "sum", [Edge("c5", [GlobalPool("avg")])])
    pooled = c5.mean((2, 3), keepdim=True)
    got = build(graph_of(context, Node("o", 3, "gate", ["c3", "x"])), {3: 4, 4: 4, 5: 4})([c3, c4, c5])[0]
    torch.testing.assert_close(got, c3 * torch.sigmoid(pooled))
    got = build(graph_of(context, Node("o", 3, "attention", ["c3", "x"])), {3: 4, 4: 4, 5: 4})([c3, c4, c5])[0]
    torch.testing.assert_close(got, pooled + torch.sigmoid(pooled) * c3)


def test_ops_on_edges_and_layers():
    c3, c4, c5 = features({3: 4, 4: 4, 5: 4})
    widths = {3: 4, 4: 4, 5: 4}

    def run(edge: Edge, level: int, layers=()) -> Tensor:
        return build(graph_of(Node("o", level, "sum", [edge], layers)), widths)([c3, c4, c5])[0]

    close = torch.testing.assert_close
    close(
        run(Edge("c3", [Pool("avg", 2, 2, 0, ceil=True)]), 4),
        F.avg_pool2d(c3, 2, 2, ceil_mode=True, count_include_pad=False),
    )
    close(run(Edge("c3", [Pool("max", 3, 2, 1)]), 4), F.max_pool2d(c3, 3, 2, 1))
    close(run(Edge("c3", [Resample("auto")]), 5), F.max_pool2d(c3, 4, 4, ceil_mode=True))
    for align in (False, True):
        got = run(Edge("c4", [Resample("bilinear", to="c3", align_corners=align)]), 3)
        close(got, F.interpolate(c4, size=(37, 51), mode="bilinear", align_corners=align))
    ones = F.pad(torch.ones_like(c3), (0, 1, 1, 1))  # 51 columns need 1 cell, 37 rows need 2
    ones = F.pad(torch.ones_like(c3), (1, 1, 1, 1))
    want = F.avg_pool2d(F.pad(c3, (1, 1, 1, 1)), 3, 2) / F.avg_pool2d(ones, 3, 2)
    close(run(Edge("c3", [Pool("avg", 3, 2, "same")]), 4), want)
    kinds = {
        "relu": F.relu,
        "relu6": F.relu6,
        "silu": F.silu,
        "hard_swish": F.hardswish,
        "hard_sigmoid": F.hardsigmoid,
        "sigmoid": torch.sigmoid,
        "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    }
    for kind, function in kinds.items():
        close(run(Edge("c3", ()), 3, [Act(kind)]), function(c3))


def test_squeeze_excite():
    neck = build(graph_of(Node("o", 3, "sum", ["c3"], [SqueezeExcite("input/2")])), {3: 4, 4: 4, 5: 4})
    p = {name.removeprefix("body.o.se."): value for name, value in neck.named_parameters()}
    x = features({3: 4, 4: 4, 5: 4})
    hidden = F.relu(F.conv2d(x[0].mean((2, 3), keepdim=True), p["reduce.weight"], p["reduce.bias"]))
    want = x[0] * torch.sigmoid(F.conv2d(hidden, p["expand.weight"], p["expand.bias"]))
    torch.testing.assert_close(neck(x)[0], want)
    assert p["reduce.weight"].shape == (2, 4, 1, 1)


# -- weights -----------------------------------------------------------------------------------------


def test_shared_weights_are_counted_once_and_used_twice():
    nodes = [
        Node("a", 3, "sum", ["c3"], [Conv(3)]),
        Node("b", 4, "sum", ["c4"], [Conv(3)], shares="a"),
    ]
    graph = NeckGraph([C3, C4, *nodes], outputs={3: "a", 4: "b"})
    neck = build(graph, {3: 4, 4: 4})
    assert count_parameters(neck) == 4 * 8 * 9 + 8 == sum(p.numel() for p in neck.parameters())
    c3, c4 = features({3: 4, 4: 4})
    conv = neck.get_submodule("body.a.conv")
    outs = neck([c3, c4])
    torch.testing.assert_close(list(outs), [conv(c3), conv(c4)])
    only_b = build(NeckGraph([C3, C4, *nodes], outputs={4: "b"}), {3: 4, 4: 4})
    assert count_parameters(only_b) == count_parameters(neck)


def test_names_of_edges_do_not_run_into_each_other():
    """Two edges from x and one from x_2: three convolutions."""
    x, x2 = Node("x", 3, "sum", ["c3"], [Act("relu")]), Node("x_2", 3, "sum", ["c3"], [Act("silu")])
    edges = [Edge("x", [Conv(1)]), Edge("x", [Conv(1)]), Edge("x_2", [Conv(1)])]
    neck = build(graph_of(x, x2, Node("o", 3, "sum", edges)))
    assert count_parameters(neck) == 3 * (4 * 8 + 8)


def test_parameters_are_named_after_nodes():
    names = {name for name, _ in build(necks.bifpn(repeats=1)).named_parameters()}
    assert {
        "body.r0_p4.fusion.weight",
        "body.r0_p4.from_c4.conv.weight",
        "body.r0_p4.conv.depthwise.weight",
        "body.r0_p4.conv.pointwise.weight",
        "body.r0_p4.norm.bias",
        "body.r0_p3.from_c3.norm.weight",
    } <= names


def test_projections():
    def parameters(when: str, width: int) -> int:
        graph = graph_of(Node("o", 3, "concat", [Edge("c3", [Project(when=when, norm=Norm())])]))
        return count_parameters(build(graph, {3: width, 4: 4, 5: 4}))

    assert parameters("always", 8) == 8 * 8 + 8 + 16
    assert parameters("if_different", 8) == 0 == parameters("never", 4)
    assert parameters("if_different", 4) == 4 * 8 + 8 + 16


@pytest.mark.parametrize(
    ("width", "channels"),
    [("channels", 8), ("channels*2", 16), ("channels/4", 2), (5, 5), ("input", 4), ("input*3", 12)],
)
def test_widths(width, channels):
    neck = build(graph_of(Node("o", 3, "sum", ["c3"], [Conv(1)], width=width)))
    assert neck.out_channels == {3: channels}
    assert neck(features(IN_CHANNELS))[0].shape[1] == channels


def test_concatenation_adds_widths():
    neck = build(graph_of(Node("o", 3, Concat(), ["c3", "c4", "c5"])))
    assert neck.out_channels == {3: 18}


def test_initial_weights():
    def weights(init: str, **options) -> nn.Module:
        return build(graph_of(Node("o", 3, "sum", ["c3"], [Conv(3, init=init, **options)])), {3: 64, 4: 4, 5: 4}, 32)

    for init, options, name, bound in [
        ("fan_in", {}, "conv.weight", (3 / (64 * 9)) ** 0.5),
        ("glorot", {}, "conv.weight", (6 / (64 * 9 + 32 * 9)) ** 0.5),
        ("glorot", {"separable": True}, "conv.depthwise.weight", (6 / (9 + 9)) ** 0.5),
        ("glorot", {"separable": True}, "conv.pointwise.weight", (6 / (64 + 32)) ** 0.5),
    ]:
        weight = weights(init, **options).get_parameter(f"body.o.{name}").abs().max().item()
        assert 0.98 * bound < weight <= bound * (1 + 1e-6)
    assert not any(p.any() for p in weights("zero").parameters())


# -- norms -------------------------------------------------------------------------------------------


def normed(slot: Norm | None = None, **options):
    return build(graph_of(Node("o", 3, "sum", ["c3"], [Conv(1), slot or Norm()])), **options).get_submodule(
        "body.o.norm"
    )


def test_norm_kinds():
    assert type(normed()) is nn.BatchNorm2d
    group = normed(norm="group")
    assert isinstance(group, nn.GroupNorm) and group.num_groups == 4  # two channels in each
    frozen = normed(norm="frozen")
    assert not frozen.training and not any(p.requires_grad for p in frozen.parameters())
    assert not frozen.train().training
    assert type(normed(Norm("group"), norm="batch")) is nn.GroupNorm
    assert normed(Norm(eps=1e-3), norm="group").eps == 1e-3
    assert (
        build(graph_of(Node("o", 3, "sum", ["c3"], [Conv(1), Norm()])), channels=256, norm="group")
        .get_submodule("body.o.norm")
        .num_groups
        == 32
    )


def test_norm_momentum():
    assert normed(Norm(momentum=0.01)).momentum == 0.01
    assert normed(Norm(momentum=0.01), norm_momentum=0.1).momentum == 0.1


def test_frozen_norm_uses_its_statistics_and_loads_batch_norms():
    graph = graph_of(Node("o", 3, "sum", ["c3"], [Norm()]))
    batch, frozen = build(graph), build(graph, norm="frozen")
    x = features(IN_CHANNELS)
    batch(x)
    frozen.load_state_dict(batch.state_dict())
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    torch.testing.assert_close(frozen.train()(x), batch.eval()(x))
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": (4, 6)}, "in_channels has 2 widths; the graph reads C3, C4, C5"),
        ({"in_channels": {3: 4, 4: 6}}, "in_channels gives C3, C4, but the graph reads C3, C4, C5"),
        ({"in_channels": {2: 4, 4: 6, 5: 8}}, "in_channels gives C2, C4, C5, but"),
        ({"in_channels": {}}, "in_channels gives nothing, but"),
        ({"in_channels": (4, 0, 8)}, "in_channels: C4 has width 0; a positive number is wanted"),
        ({"in_channels": (4, 6.0, 8)}, "C4 has width 6.0"),
        ({"channels": 0}, "channels=0 is not a positive number"),
        ({"channels": "64"}, "channels='64' is not a positive number"),
        ({"norm": "layer"}, r"unknown norm 'layer' \(known: batch, frozen, group\)"),
        ({"norm": "bach"}, "unknown norm 'bach'; did you mean 'batch'"),
        ({"norm": None}, "unknown norm None"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(CompileError, match=message):
        compile_neck(necks.fpn(), **{"in_channels": (4, 6, 8), "channels": 8, **options})


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [Node("o", 3, "sum", ["c3", "c4"])],
            r"node 'o' \(level \d\): its inputs have unequal widths \(c3: 4, c4: 6 channels\); project them",
        ),
        ([Node("o", 3, "attention", ["c3", "c4"])], "unequal widths"),
        ([Node("o", 3, "gate", ["c3", "c4"])], "unequal widths"),
        ([Node("o", 3, PixelWeighted(), ["c3", "c4"])], "unequal widths"),
        (
            [Node("o", 3, "sum", ["c3"], [Conv(3, groups=3)])],
            "node 'o' \\(level \\d\\): 3 groups do not divide a convolution from 4 to 8",
        ),
        (
            [Node("o", 4, "sum", ["c4"], [Conv(3, groups="depthwise")])],
            "6 groups do not divide a convolution from 6 to 8",
        ),
        (
            [Node("o", 3, "sum", ["c3"], [SqueezeExcite()])],
            "node 'o' \\(level \\d\\): width 'input/16': 4 channels cannot be divided by 16",
        ),
        ([Node("o", 3, "sum", ["c3"], [Conv(1)], width="channels/3")], "8 channels cannot be divided by 3"),
        (
            [
                Node("a", 3, "sum", ["c3"], [Conv(1)]),
                Node("b", 4, "sum", ["c4"], [Conv(1)], shares="a"),
                Node("o", 3, "sum", ["a", "b"]),
            ],
            "node 'b' \\(level \\d\\): it shares the weights 'a.conv', which map 4 channels to 8, but needs 6 to 8",
        ),
    ],
)
def test_widths_that_do_not_fit(nodes, message):
    with pytest.raises(CompileError, match=message):
        build(graph_of(*nodes))


def test_a_gate_of_one_channel_is_fine():
    nodes = [Node("m", 3, "sum", ["c4"], [Conv(1, width=1)]), Node("o", 3, "gate", ["c3", "m"])]
    assert build(graph_of(*nodes)).out_channels == {3: 4}


@pytest.mark.parametrize("name", ["forward", "graph", "training", "state_dict", "_private", "self"])
def test_names_that_torch_uses_itself(name):
    message = f"node '{name}': torch modules use this name themselves; choose another"
    with pytest.raises(CompileError, match=message):
        build(graph_of(Node(name, 3, "sum", ["c3"], [Conv(1)]), out=name))


@pytest.mark.parametrize("name", ["torch", "add", "input", "operator", "conv", "body", "norm", "len", "c3_1", "None_"])
def test_names_that_are_fine(name):
    graph = NeckGraph(
        [input_node(3, f"{name}_in"), Node(name, 3, "sum", [f"{name}_in"], [Conv(1), Norm()])], outputs={3: name}
    )
    neck = build(graph)
    assert neck(features({3: 4}))[0].shape == (2, 8, 37, 51)
    assert neck.get_parameter(f"body.{name}.conv.weight").shape == (8, 4, 1, 1)


def test_weights_come_from_the_global_generator():
    one, two, three = build(necks.fpn()), build(necks.fpn()), build(necks.fpn(), seed=1)
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    assert not torch.equal(next(one.parameters()), next(three.parameters()))
