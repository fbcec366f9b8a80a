"""PANet, BiFPN and NAS-FPN against short programs written from the papers and the public code.

The programs know the weights by name and the formulas, and nothing of graphs.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nasneck import necks
from nasneck.compile import compile_neck

WIDTHS, CHANNELS = [6, 10, 14], 8
SIZES = {"128": [(16, 32), (8, 16), (4, 8)], "odd": [(37, 51), (19, 26), (10, 13)]}


class Weights:
    """The parameters of a neck, and the layers that the reference programs are made of."""

    def __init__(self, neck, eps: float = 1e-5) -> None:
        self.left = dict(neck.body.named_parameters())
        self.all = dict(self.left)
        self.eps = eps

    def __call__(self, name: str) -> Tensor | None:
        self.left.pop(name, None)
        return self.all.get(name)

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self(f"{name}.weight")
        assert weight is not None
        return F.conv2d(x, weight, self(f"{name}.bias"), stride, weight.shape[-1] // 2)

    def separable(self, x: Tensor, name: str) -> Tensor:
        depthwise = self(f"{name}.depthwise.weight")
        assert depthwise is not None
        return self.conv(F.conv2d(x, depthwise, None, 1, 1, groups=x.shape[1]), f"{name}.pointwise")

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean = x.mean((0, 2, 3), keepdim=True)
        var = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        scale, shift = self(f"{name}.weight"), self(f"{name}.bias")
        assert scale is not None and shift is not None
        return (x - mean) / (var + self.eps).sqrt() * scale[:, None, None] + shift[:, None, None]


def nearest(x: Tensor, like: Tensor) -> Tensor:
    """Output cell i takes input cell floor(i * n / m)."""
    for dim in (2, 3):
        n, m = x.shape[dim], like.shape[dim]
        x = x.index_select(dim, torch.arange(m) * n // m)
    return x


def same_pool(x: Tensor) -> Tensor:
    """TensorFlow's 3x3 max pool of stride 2: padded at the far side first."""
    for dim in (3, 2):
        n = x.shape[dim]
        missing = max((-(-n // 2) - 1) * 2 + 3 - n, 0)
        pad = [0, 0, 0, 0]
        pad[(3 - dim) * 2], pad[(3 - dim) * 2 + 1] = missing // 2, missing - missing // 2
        x = F.pad(x, pad, value=-torch.inf)
    return F.max_pool2d(x, 3, 2)


def block_max(x: Tensor, octaves: int) -> Tensor:
    """Maximum of blocks of 2**octaves cells; the blocks at the border may be smaller."""
    window = 2**octaves
    pad = [-x.shape[3] % window, -x.shape[2] % window]
    x = F.pad(x, [0, pad[0], 0, pad[1]], value=-torch.inf)
    n, c, h, w = x.shape
    return x.reshape(n, c, h // window, window, w // window, window).amax((3, 5))


def compare(graph, program, *, sizes: str, eps: float = 1e-5, widths=WIDTHS) -> None:
    """Outputs and gradients of the compiled neck and of ``program`` on random weights."""
    torch.manual_seed(5)
    neck = compile_neck(graph, widths, CHANNELS).double()
    for name, parameter in neck.named_parameters():
        # fusion weights of both signs, so that the ReLU over them is seen
        torch.nn.init.normal_(parameter, mean=0.5 if "fusion" in name else 0.0, std=0.5)
    features = [
        torch.randn(2, width, *hw, dtype=torch.float64, requires_grad=True)
        for width, hw in zip(widths, SIZES[sizes], strict=True)
    ]
    weights = Weights(neck, eps)
    outs, wanted = neck(features), program(weights, features)
    assert not weights.left, "parameters that the reference does not have"
    for got, want in zip(outs, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)
    mask = [torch.randn(out.shape, dtype=torch.float64) for out in wanted]
    leaves = [*features, *neck.parameters()]

    def gradients(found):
        loss = sum((out * m).sum() for out, m in zip(found, mask, strict=True))
        return torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)

    for got, want in zip(gradients(outs), gradients(wanted), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-8)


# -- PANet -------------------------------------------------------------------------------------------


def panet(w: Weights, c: list[Tensor], *, feed: str, extra: str) -> list[Tensor]:
    t5 = w.conv(c[2], "td5.from_c5.conv")
    t4 = w.conv(c[1], "td4.from_c4.conv") + nearest(t5, c[1])
    t3 = w.conv(c[0], "td3.from_c3.conv") + nearest(t4, c[0])
    f3, f4, f5 = w.conv(t3, "fpn3.conv"), w.conv(t4, "fpn4.conv"), w.conv(t5, "fpn5.conv")
    s4 = f4 + w.conv(f3, "bu4.from_p3.conv", 2)
    n4 = w.conv(s4, "p4.conv")
    s5 = f5 + (w.conv(n4, "bu5.from_p4.conv", 2) if feed == "out" else w.conv(s4, "bu5.from_bu4.conv", 2))
    n5 = w.conv(s5, "p5.conv")
    if extra == "pool":
        return [f3, n4, n5, n5[:, :, ::2, ::2], n5[:, :, ::4, ::4]]
    source = {"output": n5, "input": c[2], "lateral": t5}[extra]
    p6 = w.conv(source, f"p6.from_{ {'output': 'p5', 'input': 'c5', 'lateral': 'td5'}[extra] }.conv", 2)
    return [f3, n4, n5, p6, w.conv(F.relu(p6), "p7.from_p6.conv", 2)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("feed", ["out", "sum"])
@pytest.mark.parametrize("extra", ["output", "input", "lateral", "pool"])
def test_panet(feed, extra, sizes):
    graph = necks.panet(feed=feed, extra=extra)
    compare(graph, lambda w, c: panet(w, c, feed=feed, extra=extra), sizes=sizes)


# -- BiFPN -------------------------------------------------------------------------------------------


def fuse(kind: str, weight: Tensor | None, maps: list[Tensor]) -> Tensor:
    if kind == "sum":
        return torch.stack(maps).sum(0)
    assert weight is not None
    if kind == "softmax":
        exp = weight.exp()
        share = exp / exp.sum()
    else:
        share = weight.clamp(min=0) / (weight.clamp(min=0).sum() + 1e-4)
    return (torch.stack(maps) * share[:, None, None, None, None]).sum(0)


def bifpn(w: Weights, c: list[Tensor], *, repeats: int, kind: str, pool, separable: bool) -> list[Tensor]:
    def project(node: str, level: int) -> Tensor:
        name = f"{node}.from_c{level}"
        if f"{name}.conv.weight" not in w.all:
            return c[level - 3]
        return w.norm(w.conv(c[level - 3], f"{name}.conv"), f"{name}.norm")

    p6 = pool(project("p6", 5))
    p7 = pool(p6)
    maps = {6: p6, 7: p7}
    for repeat in range(repeats):

        def start(node: str, level: int, repeat=repeat, maps=maps) -> Tensor:
            return maps[level] if repeat or level > 5 else project(node, level)

        def cell(node: str, inputs: list[Tensor]) -> Tensor:
            x = F.silu(fuse(kind, w(f"{node}.fusion.weight"), inputs))
            x = w.separable(x, f"{node}.conv") if separable else w.conv(x, f"{node}.conv")
            return w.norm(x, f"{node}.norm")

        def name(level: int, down: bool, repeat=repeat) -> str:
            return f"r{repeat}_p{level}_td" if down and level > 3 else f"r{repeat}_p{level}"

        down = {7: maps[7]}
        for level in (6, 5, 4, 3):
            node = name(level, True)
            first = start(node, level)
            down[level] = cell(node, [first, nearest(down[level + 1], first)])
        up = {3: down[3]}
        for level in (4, 5, 6, 7):
            node = name(level, False)
            middle = [down[level]] if level < 7 else []
            up[level] = cell(node, [start(node, level), *middle, pool(up[level - 1])])
        maps = up
    return [maps[level] for level in range(3, 8)]


def symmetric_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2, 1)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kind", ["fast_normalized", "softmax", "sum"])
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_bifpn(kind, padding, sizes):
    pool = same_pool if padding == "same" else symmetric_pool
    graph = necks.bifpn(repeats=2, fusion=kind, padding=padding, bias=padding == "same")
    compare(graph, lambda w, c: bifpn(w, c, repeats=2, kind=kind, pool=pool, separable=True), sizes=sizes, eps=1e-3)


def test_bifpn_where_a_feature_has_the_necks_width_already():
    graph = necks.bifpn(repeats=2, separable=False)
    program = lambda w, c: bifpn(w, c, repeats=2, kind="fast_normalized", pool=symmetric_pool, separable=False)  # noqa: E731
    compare(graph, program, sizes="odd", eps=1e-3, widths=[6, CHANNELS, CHANNELS])


# -- NAS-FPN -----------------------------------------------------------------------------------------

LEVELS = (3, 4, 5, 6, 7)
# level, op, inputs: the seven tuples of tensorflow/tpu's nasfpn.py, ids from P3 up
CELLS = [
    (4, "attention", 1, 3),
    (4, "sum", 1, 5),
    (3, "sum", 0, 6),
    (4, "sum", 6, 7),
    (5, "attention", 7, 8),
    (7, "attention", 6, 9),
    (6, "attention", 9, 10),
]


def nas_fpn(w: Weights, c: list[Tensor], *, repeats: int, dialect: str) -> list[Tensor]:
    maps = [w.norm(w.conv(x, f"p{i}.from_c{i}.conv"), f"p{i}.from_c{i}.norm") for i, x in enumerate(c, 3)]
    for level in (6, 7):
        x, edge = maps[-1], f"p{level}.from_p{level - 1}"
        if dialect == "mmdet":
            x = w.norm(w.conv(x, f"{edge}.conv"), f"{edge}.norm")
        maps.append(block_max(x, 1))
    sizes = dict(zip(LEVELS, maps, strict=True))

    def resample(x: Tensor, at: int, to: int) -> Tensor:
        return nearest(x, sizes[to]) if at > to else block_max(x, to - at)

    for repeat in range(repeats):
        nodes = list(zip(LEVELS, maps, strict=True))
        used = [False] * 5
        outputs: dict[int, Tensor] = {}
        for i, (level, op, a, b) in enumerate(CELLS):
            used[a] = used[b] = True
            (level_a, x), (level_b, y) = nodes[a], nodes[b]
            x, y = resample(x, level_a, level), resample(y, level_b, level)
            if op == "sum":
                out = x + y
            elif dialect == "mmdet":
                fine, coarse = (x, y) if level_a < level_b else (y, x)
                out = fine + torch.sigmoid(fine.mean((2, 3), keepdim=True)) * coarse
            else:
                high, low = (x, y) if level_a >= level_b else (y, x)
                out = high + torch.sigmoid(high.amax((2, 3), keepdim=True)) * low
            if i >= 2:
                for j, (other, z) in enumerate(nodes):
                    if not used[j] and other == level:
                        out, used[j] = out + z, True
            name = f"r{repeat}_p{level}" if i >= 2 else f"r{repeat}_mid{i}"
            out = w.norm(w.conv(F.relu(out), f"{name}.conv"), f"{name}.norm")
            nodes.append((level, out))
            used.append(False)
            if i >= 2:
                outputs[level] = out
        maps = [outputs[level] for level in LEVELS]
    return maps


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dialect", ["reference", "mmdet"])
def test_nas_fpn(dialect, sizes):
    graph = necks.nas_fpn(repeats=2, dialect=dialect)
    eps = 1e-5 if dialect == "mmdet" else 1e-3
    compare(graph, lambda w, c: nas_fpn(w, c, repeats=2, dialect=dialect), sizes=sizes, eps=eps)
