"""Neck as a module: containers, copies, pickles, averaging, wrapping, exporting, and wrong features."""

from __future__ import annotations

import copy
import io
import pickle
from collections import OrderedDict

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.export import Dim
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nasneck import necks
from nasneck.compile import compile_neck
from nasneck.errors import CompileError
from nasneck.graph import Conv, NeckGraph, Node, Norm, input_node
from nasneck.neck import Neck

WIDTHS = {3: 4, 4: 6, 5: 8}
# Enough to have every op of the vocabulary once.
NAMES = ["asff", "bifpn", "carafe_fpn", "fpn", "libra", "mlfpn", "nas_fcos", "nas_fpn", "panet"]


def build(name: str = "fpn", **options) -> Neck:
    torch.manual_seed(0)
    few = {"bifpn": {"repeats": 2}, "nas_fpn": {"repeats": 2}, "mlfpn": {"tums": 2, "sfam": True, "valid": False}}
    graph = necks.NECKS[name](levels=(3, 7), **few.get(name, {}))
    return compile_neck(graph, WIDTHS, 8, **options)


def features(*, batch: int = 2, c3: tuple[int, int] = (37, 51)) -> list[Tensor]:
    sizes = [c3]
    for _ in range(2):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, w, *hw, generator=generator) for w, hw in zip(WIDTHS.values(), sizes, strict=True)]


def same(got, want) -> bool:
    return len(got) == len(want) and all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


# -- containers --------------------------------------------------------------------------------------


def test_lists_and_tuples_come_back_as_such():
    neck, maps = build(), features()
    assert type(neck(maps)) is list and type(neck(tuple(maps))) is tuple
    assert len(neck(maps)) == 5 and same(neck(tuple(maps)), neck(maps))
    assert len(maps) == 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["0", "1", "2"], ["0", "1", "2", "p6", "p7"]),
        (["layer2", "layer3", "layer4"], ["layer2", "layer3", "layer4", "p6", "p7"]),
        ([3, 4, 5], [3, 4, 5, 6, 7]),
        ([0, 1, 2], [0, 1, 2, 6, 7]),
    ],
)
def test_mappings_keep_their_names(given, expected):
    neck, maps = build(), features()
    got = neck(OrderedDict(zip(given, maps, strict=True)))
    assert isinstance(got, OrderedDict) and list(got) == expected
    assert same(list(got.values()), neck(maps))
    assert list(neck(dict(zip(given, maps, strict=True)))) == expected


def test_a_pooled_level_is_called_as_torchvision_does():
    neck = compile_neck(necks.fpn((3, 5), (3, 6), extra="pool"), WIDTHS, 8)
    assert list(neck(OrderedDict(zip("012", features(), strict=True)))) == ["0", "1", "2", "pool"]


def test_features_that_are_no_outputs_leave_their_names_out():
    neck = compile_neck(necks.fpn((3, 5), (4, 6)), WIDTHS, 8)
    assert list(neck(OrderedDict(zip("abc", features(), strict=True)))) == ["b", "c", "p6"]
    assert list(neck.out_channels) == [4, 5, 6]


def test_what_a_neck_says_about_itself():
    neck = build()
    assert neck.in_channels == WIDTHS and neck.out_channels == dict.fromkeys(range(3, 8), 8)
    assert neck.size_divisor == 1 and neck.channels == 8 and neck.norm == "batch"
    assert neck.graph == necks.fpn()
    assert "NeckGraph('fpn': C3,C4,C5 -> P3,P4,P5,P6,P7, 11 nodes)" in repr(neck)
    code = neck.body.code
    assert "td5 = self.td5.from_c5.conv(c5)" in code and "return (p3, p4, p5, p6, p7)" in code


def test_auxiliary_outputs():
    base = necks.fpn((3, 5), (3, 5))
    graph = NeckGraph(base.nodes, outputs=base.outputs, aux=("td4", "td3"))
    plain, neck = compile_neck(graph, WIDTHS, 8), compile_neck(graph, WIDTHS, 8, aux=True)
    neck.load_state_dict(plain.state_dict())
    outs, aux = neck(features())
    assert type(outs) is list and same(outs, plain(features()))
    assert type(aux) is tuple and [tuple(x.shape) for x in aux] == [(2, 8, 19, 26), (2, 8, 37, 51)]
    named, aux = neck(OrderedDict(zip("012", features(), strict=True)))
    assert list(named) == ["0", "1", "2"] and len(aux) == 2


def test_features_are_not_changed():
    for name in NAMES:
        maps = features()
        before = [x.clone() for x in maps]
        build(name)(maps)
        assert same(maps, before)


# -- copies and wrappers -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_deepcopy_and_pickle(name):
    neck = build(name)
    neck(features())  # so that running statistics are no longer the initial ones
    neck.eval()
    again = pickle.loads(pickle.dumps(copy.deepcopy(pickle.loads(pickle.dumps(neck)))))
    for clone in (copy.deepcopy(neck), pickle.loads(pickle.dumps(neck)), again):
        assert list(clone.state_dict()) == list(neck.state_dict())
        assert clone.graph == neck.graph and clone.out_channels == neck.out_channels
        assert clone.in_channels == neck.in_channels and clone.size_divisor == 1
        assert same(clone(features()), neck(features()))
        with torch.no_grad():
            next(clone.parameters()).add_(1)
        assert not same(clone(features()), neck(features()))


@pytest.mark.parametrize("name", NAMES)
def test_torch_save(name):
    neck = build(name).eval()
    file = io.BytesIO()
    torch.save(neck, file)
    file.seek(0)
    assert same(torch.load(file, weights_only=False)(features()), neck(features()))
    file = io.BytesIO()
    torch.save(neck.state_dict(), file)
    file.seek(0)
    other = build(name).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert same(other(features()), neck(features()))


@pytest.mark.parametrize("name", NAMES)
def test_averaging(name):
    neck = build(name)
    averaged = AveragedModel(neck, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    averaged.update_parameters(neck)
    first = [p.clone() for p in neck.parameters()]
    with torch.no_grad():
        for parameter in neck.parameters():
            parameter.add_(2)
    averaged.update_parameters(neck)
    for old, mean in zip(first, averaged.module.parameters(), strict=True):
        torch.testing.assert_close(mean, old + 1)
    assert len(averaged.eval()(features())) == 5
    assert averaged.module.graph == neck.graph and averaged.module.size_divisor == 1


@pytest.fixture(scope="module")
def process_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", NAMES)
def test_distributed_wrapping(name, process_group):
    """Twice, because DDP complains about parameters without gradients in the step after."""
    neck = build(name)
    wrapped = DistributedDataParallel(copy.deepcopy(neck), find_unused_parameters=False)
    for _ in range(2):
        for module in (neck, wrapped):
            module.zero_grad()
            outs = module(OrderedDict(zip("012", features(), strict=True)))
            sum(out.square().mean() for out in outs.values()).backward()
    for alone, distributed in zip(neck.parameters(), wrapped.module.parameters(), strict=True):
        assert alone.grad is not None and distributed.grad is not None
        torch.testing.assert_close(distributed.grad, alone.grad)


class Listed(torch.nn.Module):
    """Export wants a module whose arguments are flat."""

    def __init__(self, neck: Neck) -> None:
        super().__init__()
        self.neck = neck

    def forward(self, c3: Tensor, c4: Tensor, c5: Tensor) -> list[Tensor]:
        return self.neck([c3, c4, c5])


@pytest.mark.parametrize("name", NAMES)
def test_export(name):
    neck = build(name).eval()
    program = torch.export.export(neck, (features(),))
    assert same(program.module()(features()), neck(features()))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"libra"}))  # torch.export fixes the sizes of adaptive pools
def test_export_with_any_batch_and_size(name):
    neck = build(name).eval()
    batch, height, width = Dim("batch", min=1, max=64), Dim("height", min=2, max=64), Dim("width", min=2, max=64)
    shapes = tuple({0: batch, 2: 4 * k * height, 3: 4 * k * width} for k in (4, 2, 1))
    program = torch.export.export(Listed(neck), tuple(features(c3=(48, 64))), dynamic_shapes=shapes)
    for maps in (features(batch=1, c3=(32, 96)), features(batch=5, c3=(64, 64))):
        for got, want in zip(program.module()(*maps), neck(maps), strict=True):
            torch.testing.assert_close(got, want)


def test_state_dict_of_an_unoptimized_neck_fits():
    assert list(build("nas_fpn").state_dict()) == list(build("nas_fpn", optimize=False).state_dict())


# -- wrong features ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps: maps[:2], "2 features given, but the neck reads C3, C4, C5"),
        (lambda maps: [*maps, maps[-1]], "4 features given, but"),
        (lambda maps: [], "0 features given"),
        (lambda maps: [maps[0], maps[0][:, :2], maps[2]], r"C4 has shape \(2, 2, 37, 51\); \(N, 6, H, W\) is wanted"),
        (lambda maps: [maps[0][0], *maps[1:]], r"C3 has shape \(4, 37, 51\); \(N, 4, H, W\) is wanted"),
        (lambda maps: maps[::-1], r"C3 has shape \(2, 8, 10, 13\)"),
        (
            lambda maps: [maps[0], maps[1][:, :, :9], maps[2]],
            r"C5 is 10x13, larger than the finer level before it \(9x26\); features go finest first",
        ),
    ],
)
def test_wrong_features(change, message):
    with pytest.raises(CompileError, match=message):
        build()(change(features()))


def test_features_in_the_wrong_order_that_have_one_width():
    neck = compile_neck(necks.fpn(), (8, 8, 8), 8)
    maps = [torch.randn(2, 8, n, n) for n in (4, 8, 16)]
    with pytest.raises(CompileError, match="C4 is 8x8, larger than the finer level before it"):
        neck(maps)


def test_batch_norm_on_one_cell():
    graph = NeckGraph([input_node(3), Node("o", 3, "sum", ["c3"], [Conv(1), Norm()])], outputs={3: "o"})
    neck, one = compile_neck(graph, {3: 4}, 8), [torch.randn(1, 4, 1, 1)]
    message = r"batch norm cannot train on one 1x1 map per channel \(batch of 1, C3 1x1\): use a larger batch"
    with pytest.raises(CompileError, match=message):
        neck(one)
    assert neck.eval()(one)[0].shape == (1, 8, 1, 1)
    neck.train()([torch.randn(2, 4, 1, 1)])
    for channels in (1, 2, 8, 32):
        grouped = compile_neck(graph, {3: 4}, channels, norm="group") if channels > 1 else None
        frozen = compile_neck(graph, {3: 4}, channels, norm="frozen")
        assert frozen(one)[0].shape == (1, channels, 1, 1)
        if grouped is not None:
            assert grouped(one)[0].any() and grouped.eval()(one)[0].any()
