"""The inference form: equal outputs, what is gone from its code, copies, exports, and what stays as it was."""

from __future__ import annotations

import copy
import io
import operator
import pickle
import random
from collections.abc import Iterator

import pytest
import torch
from graph_strategies import CHANNELS, IN_CHANNELS, graphs
from hypothesis import given, settings
from torch import Tensor, fx, nn
from torch.export import Dim

from nasneck import functional, fused, necks
from nasneck.cells import FrozenBatchNorm2d
from nasneck.compile import compile_neck
from nasneck.cost import feature_shapes
from nasneck.errors import CompileError
from nasneck.export import neck_source
from nasneck.graph import Conv, Edge, FastNormalized, NeckGraph, Node, Norm, Softmax, input_node
from nasneck.neck import Neck
from nasneck.space import load_space

WIDTHS = {2: 8, 3: 12, 4: 16, 5: 20}
SPACE = load_space("nas_fpn", repeats=2)
# Less of what repeats, and the form of M2Det's neck that takes small images.
OPTIONS = {
    "bifpn": {"repeats": 2},
    "fpg": {"stacks": 5},
    "gfpn": {"depth": 2},
    "mlfpn": {"tums": 2, "sfam": True, "valid": False},
}
FORMS: dict[str, NeckGraph] = {
    **{name: make(**OPTIONS.get(name, {})) for name, make in necks.NECKS.items()},
    "bifpn, softmax": necks.bifpn(repeats=1, fusion="softmax"),
    "bifpn, same": necks.bifpn(repeats=1, padding="same", bias=True),
    "fpn, of C5": necks.fpn(extra="input", norm=True),
    "nas_fpn, mmdet": necks.nas_fpn(repeats=1, dialect="mmdet"),
    "nas_fpn, lite": necks.nas_fpn(repeats=1, separable=True),
    **{f"candidate {i}": SPACE.decode(SPACE.sample(random.Random(i))) for i in range(12)},
}
TOLERANCE = {torch.float64: 1e-14, torch.float32: 5e-6}
SOME = ["bifpn", "carafe_fpn", "fpn", "libra", "mlfpn", "nas_fpn"]


def build(graph: NeckGraph, channels: int = 16, *, dtype: torch.dtype = torch.float64, **options) -> Neck:
    """A neck whose every parameter and statistic matters."""
    torch.manual_seed(0)
    neck = compile_neck(graph, [WIDTHS[level] for level in graph.input_levels], channels, **options)
    with torch.no_grad():
        for module in neck.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(std=0.5)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.5)
            elif isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.normal_(std=0.5)
        for name, parameter in neck.named_parameters():
            if "fusion.weight" in name:
                parameter.uniform_(-0.2, 1.5)
    return neck.to(dtype).eval()


def features(neck: Neck, image: tuple[int, int] | None = None, batch: int = 2) -> list[Tensor]:
    """Maps of an awkward image, where the neck takes it."""
    size = image or ((205, 331) if neck.size_divisor == 1 else (2 * neck.size_divisor, 3 * neck.size_divisor))
    generator = torch.Generator().manual_seed(1)
    dtype = next((p.dtype for p in neck.parameters()), torch.float64)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in feature_shapes(neck, size, batch)]


def deviation(got, want) -> float:
    """Of outputs, relative to the largest value of each."""
    assert len(got) == len(want) and all(a.shape == b.shape for a, b in zip(got, want, strict=True))
    pairs = [(a.detach(), b.detach()) for a, b in zip(got, want, strict=True)]
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in pairs)


def calls(neck: Neck) -> Iterator[fx.Node]:
    return (node for node in neck.body.graph.nodes if node.op == "call_function")


# -- equal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.float64) for name in FORMS] + [(name, torch.float32) for name in [*SOME, "candidate 0"]],
    ids=str,
)
def test_equal(name: str, dtype: torch.dtype):
    neck = build(FORMS[name], dtype=dtype)
    maps = features(neck)
    with torch.no_grad():
        want = neck(maps)
    ready = neck.optimize_for_inference()
    assert deviation(ready(maps), want) <= TOLERANCE[dtype]
    assert deviation(ready([x[:1] for x in maps]), [x[:1] for x in want]) <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", ["bifpn", "fpn", "nas_fpn", "candidate 0"])
def test_equal_where_wide_maps_are_added_cell_by_cell(name: str):
    neck = build(FORMS[name], 128)
    ready = neck.optimize_for_inference()
    for image in ((128, 256), (205, 331)):
        maps = features(neck, image, 1)
        with torch.no_grad():
            assert deviation(ready(maps), neck(maps)) <= 1e-12
        assert deviation(ready([x.contiguous(memory_format=torch.channels_last) for x in maps]), ready(maps)) <= 1e-12


@pytest.mark.parametrize("norm", ["group", "frozen"])
@pytest.mark.parametrize("name", SOME)
def test_equal_with_other_norms(name: str, norm: str):
    neck = build(FORMS[name], norm=norm)
    maps = features(neck)
    with torch.no_grad():
        assert deviation(neck.optimize_for_inference()(maps), neck(maps)) <= 1e-12


@given(graphs())
@settings(max_examples=25)
def test_equal_whatever_the_graph(graph: NeckGraph):
    torch.manual_seed(0)
    neck = compile_neck(graph, {level: IN_CHANNELS[level] for level in graph.input_levels}, CHANNELS).double()
    maps = features(neck, (296, 408))
    neck(maps)  # so that running statistics are no longer the initial ones
    neck.eval()
    before = [x.clone() for x in maps]
    with torch.no_grad():
        want = neck(maps)
    ready = neck.optimize_for_inference()
    for _ in range(2):
        assert deviation(ready(maps), want) <= 1e-11
    assert all(map(torch.equal, maps, before))


# -- what is gone, and what stays ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "left"), [("bifpn", 0), ("nas_fpn", 0), ("panet", 0), ("nas_fpn, lite", 0)])
def test_norms_after_convolutions_are_gone(name: str, left: int):
    neck = build(FORMS[name]).optimize_for_inference()
    assert sum(isinstance(module, nn.BatchNorm2d) for module in neck.modules()) == left
    assert not any(isinstance(module, nn.BatchNorm2d) for module in neck.modules())


def graph_of(*nodes: Node, out: str = "o") -> NeckGraph:
    return NeckGraph([input_node(3), *nodes], outputs={3: out})


def test_norms_that_cannot_be_folded_are_frozen():
    for nodes, left in [
        ([Node("o", 3, "sum", ["c3"], ["act", Norm(), Conv(1)])], 1),
        ([Node("a", 3, "sum", ["c3"], [Conv(3)]), Node("o", 3, "sum", ["a", Edge("a", [Norm()])])], 1),
        # one convolution with two norms, as heads have it
        (
            [
                Node("a", 3, "sum", [Edge("c3", [Conv(3, width=12)])]),
                Node("b", 3, "sum", [Edge("a", [])], [Norm()]),
                Node("o", 3, "sum", ["a", "b"]),
            ],
            1,
        ),
        ([Node("a", 3, "sum", ["c3"], [Conv(3, width=12), Norm()]), Node("o", 3, "sum", ["a"], ["act"])], 0),
        # one pair, used twice
        (
            [
                Node("a", 3, "sum", ["c3"], [Conv(3, width=12), Norm()]),
                Node("o", 3, "sum", ["a"], [Conv(3, width=12), Norm()], shares="a"),
            ],
            0,
        ),
    ]:
        neck = build(graph_of(*nodes))
        ready = neck.optimize_for_inference()
        norms = [module for module in ready.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(norms) == left and all(type(module) is FrozenBatchNorm2d for module in norms)
        maps = features(neck)
        assert deviation(ready.train()(maps), neck(maps)) <= 1e-12


def test_shares_of_fusions_are_constants():
    for name in ("bifpn", "bifpn, softmax"):
        neck = build(FORMS[name]).optimize_for_inference()
        targets = {node.target for node in calls(neck)}
        assert fused.weighted in targets
        assert not targets & {functional.fast_normalized, functional.softmax_weighted}
        assert all("fusion.weight" not in key for key in neck.state_dict())
        for name, share in neck.named_parameters():
            assert not name.endswith("share") or 0.99 < float(share.sum()) <= 1 + 1e-12


def test_one_weight_for_several_fusions():
    for op in (FastNormalized(eps=1e-2), Softmax()):
        nodes = [
            Node("a", 3, op, ["c3", Edge("c3", ["act"])]),
            Node("o", 3, op, ["c3", Edge("a", ["act"])], shares="a"),
        ]
        neck = build(graph_of(*nodes))
        ready = neck.optimize_for_inference()
        assert [name for name, _ in ready.named_parameters()] == ["body.weights.a/fusion/share"]
        maps = features(neck)
        assert deviation(ready(maps), neck(maps)) <= 1e-12


def test_equal_resamples_are_shared_also_in_a_neck_compiled_without():
    for name in ("fpn", "bifpn", *(name for name in FORMS if name.startswith("candidate"))):
        plain, neck = build(FORMS[name], optimize=False), build(FORMS[name])
        ready = plain.optimize_for_inference()
        enlarged = [node for node in calls(ready) if node.target in (functional.upsample, fused.add_upsampled)]
        alone = [node.args for node in enlarged if node.target is functional.upsample]
        assert len(alone) == len(set(alone))
        assert len(enlarged) == sum(node.target is functional.upsample for node in calls(neck))
        maps = features(neck)
        assert deviation(ready(maps), neck(maps)) <= 1e-12


def test_no_map_is_written_that_is_still_read():
    """Also not the caller's, whose memory a neck's first maps may be."""
    for name in SOME:
        neck = build(FORMS[name])
        ready = neck.optimize_for_inference()
        for memory_format in (torch.contiguous_format, torch.channels_last):
            maps = [x.contiguous(memory_format=memory_format) for x in features(neck)]
            before = [x.clone() for x in maps]
            first = [x.clone() for x in ready(maps)]
            assert all(map(torch.equal, maps, before))
            assert all(map(torch.equal, ready(maps), first))


def test_maps_that_nothing_else_reads_are_written():
    code = build(FORMS["nas_fpn"]).optimize_for_inference().body.graph
    assert all(node.kwargs.get("inplace") for node in code.nodes if node.target is torch.nn.functional.relu)
    assert operator.add not in {node.target for node in build(FORMS["fpn"]).optimize_for_inference().body.graph.nodes}
    code = build(FORMS["fpn"]).optimize_for_inference().body.graph
    (relu,) = (node for node in code.nodes if node.target is torch.nn.functional.relu)
    assert not relu.kwargs.get("inplace"), "it is P6 too"


def test_the_neck_itself_stays_as_it_is():
    neck = build(FORMS["bifpn"]).train()
    before = {key: value.clone() for key, value in neck.state_dict().items()}
    code, strides = neck.body.code, [p.stride() for p in neck.parameters()]
    neck.optimize_for_inference()
    assert neck.training and not neck.for_inference and neck.body.code == code
    assert all(p.requires_grad for p in neck.parameters()) and [p.stride() for p in neck.parameters()] == strides
    assert list(before) == list(neck.state_dict())
    assert all(torch.equal(value, neck.state_dict()[key]) for key, value in before.items())


def test_layout_and_gradients():
    neck = build(FORMS["nas_fpn"]).optimize_for_inference()
    maps = [x.requires_grad_() for x in features(neck)]
    outs = neck(maps)
    assert all(x.is_contiguous(memory_format=torch.channels_last) and not x.requires_grad for x in outs)
    assert not any(p.requires_grad for p in neck.parameters()) and not neck.training
    assert "for inference" in repr(neck) and neck.out_channels == dict.fromkeys(range(3, 8), 16)
    assert deviation(neck.train()(maps), outs) == 0


# -- a module like any other ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOME)
def test_copies(name: str):
    neck = build(FORMS[name]).optimize_for_inference()
    maps = features(neck)
    want = neck(maps)
    file = io.BytesIO()
    torch.save(neck, file)
    file.seek(0)
    for clone in (
        copy.deepcopy(neck),
        pickle.loads(pickle.dumps(neck)),
        copy.deepcopy(pickle.loads(pickle.dumps(copy.deepcopy(neck)))),
        torch.load(file, weights_only=False),
        neck.optimize_for_inference(),
    ):
        assert clone.for_inference and list(clone.state_dict()) == list(neck.state_dict())
        assert all(map(torch.equal, clone(maps), want))


@pytest.mark.parametrize("name", SOME)
def test_state_dict_and_to(name: str):
    neck = build(FORMS[name]).optimize_for_inference()
    maps = features(neck)
    with torch.no_grad():
        want = neck(maps)
        other = copy.deepcopy(neck)
        for parameter in other.parameters():
            parameter.add_(1)
        assert deviation(other(maps), want) > 0
        other.load_state_dict(neck.state_dict())
        assert all(map(torch.equal, other(maps), want))
        assert deviation(other.float()([x.float() for x in maps]), [x.float() for x in want]) <= 2e-5
        shapes = [x.shape for x in other.to("meta")([x.float().to("meta") for x in maps])]
    assert shapes == [x.shape for x in want]


def test_weights_of_the_neck_itself_do_not_fit():
    """So that nobody loads them without the folding."""
    neck = build(FORMS["bifpn, softmax"])
    with pytest.raises(RuntimeError, match="fusion/share"):
        neck.optimize_for_inference().load_state_dict(neck.state_dict())


class Listed(nn.Module):
    """torch.export wants a module whose arguments are flat."""

    def __init__(self, neck: Neck) -> None:
        super().__init__()
        self.neck = neck

    def forward(self, c3: Tensor, c4: Tensor, c5: Tensor) -> list[Tensor]:
        return self.neck([c3, c4, c5])


@pytest.mark.parametrize("name", ["fpn", "libra", "nas_fpn"])
def test_export(name: str):
    neck = build(FORMS[name]).optimize_for_inference()
    maps = features(neck)
    program = torch.export.export(neck, (maps,))
    assert deviation(program.module()(maps), neck(maps)) <= 1e-12


@pytest.mark.parametrize("name", ["bifpn", "fpn"])
def test_export_with_any_batch_and_size(name: str):
    neck = build(FORMS[name]).optimize_for_inference()
    batch, height, width = Dim("batch", min=1, max=64), Dim("height", min=2, max=64), Dim("width", min=2, max=64)
    shapes = tuple({0: batch, 2: 4 * k * height, 3: 4 * k * width} for k in (4, 2, 1))
    program = torch.export.export(Listed(neck), tuple(features(neck, (384, 512))), dynamic_shapes=shapes)
    for maps in (features(neck, (256, 768), 1), features(neck, (512, 512), 5)):
        assert deviation(program.module()(*maps), neck(maps)) <= 1e-12


def test_under_autocast():
    for name in ("bifpn", "fpn", "nas_fpn"):
        neck = build(FORMS[name], dtype=torch.float32)
        maps = features(neck)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert deviation(neck.optimize_for_inference()(maps), neck(maps)) < 0.1


def test_the_exported_file_is_made_of_the_neck_itself():
    neck = build(FORMS["fpn"])
    with pytest.raises(CompileError, match="export the neck that it was made of"):
        neck_source(neck.optimize_for_inference())
    assert "class Neck" in neck_source(neck)


def test_auxiliary_outputs_are_kept():
    base = necks.fpn((3, 5), (3, 5))
    neck = build(NeckGraph(base.nodes, outputs=base.outputs, aux=("td4", "td3")), aux=True)
    maps = features(neck)
    (outs, aux), (want, want_aux) = neck.optimize_for_inference()(maps), neck(maps)
    assert deviation(outs, want) <= 1e-12 and deviation(aux, want_aux) <= 1e-12
