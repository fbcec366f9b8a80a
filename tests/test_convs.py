"""Convolutions of the inference form by the faster library: equal values, who takes it when, copies and exports."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from nasneck import compile_neck, convs, necks
from nasneck.cost import count_macs, feature_shapes
from nasneck.neck import Neck

WIDTHS = {3: 256, 4: 384, 5: 512}
CHANNELS = 128
IMAGE = (256, 384)
NECKS = ["bifpn", "fpn", "nas_fpn"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[False, True], ids=["fast products", "slow products"])
def slow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(convs, "products_are_slow", lambda: request.param)
    monkeypatch.setattr(convs, "unfolding_is_slow", lambda: False)
    monkeypatch.setattr(convs, "large_products_are_slow", lambda: False)
    return request.param


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions that have been called instead of torch's convolution."""
    names: list[str] = []

    def watch(name: str) -> None:
        function = getattr(torch, name)

        def call(*args: object) -> Tensor:
            names.append(name)
            return function(*args)

        monkeypatch.setattr(torch, name, call)

    watch("addmm")
    watch("mkldnn_convolution")
    return names


def build(name: str, channels: int = CHANNELS) -> Neck:
    torch.manual_seed(0)
    options = {} if name == "fpn" else {"repeats": 1}
    neck = compile_neck(necks.NECKS[name](**options), [WIDTHS[level] for level in (3, 4, 5)], channels)
    for module in neck.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.5)
            module.running_var.uniform_(0.5, 2)
    return neck.eval()


def features(neck: Neck, batch: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for shape in feature_shapes(neck, IMAGE, batch)]


def calls(neck: Neck) -> set[object]:
    """The functions that convolve in an inference form."""
    every = {torch.conv2d, convs.direct, convs.lateral, convs.pointwise}
    return {node.target for node in neck.body.graph.nodes} & every


def bound(conv: nn.Conv2d, *, of_feature: bool = False) -> Callable[[Tensor], Tensor]:
    """As an inference form calls it."""
    function = convs.choose(conv, of_feature=of_feature)
    return lambda x: function(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def assert_equal(got: list[Tensor], want: list[Tensor]) -> None:
    for a, b in zip(got, want, strict=True):
        assert float((a - b).abs().max()) <= 5e-6 * float(b.abs().max())


@pytest.mark.parametrize("name", NECKS)
def test_equal(name: str, slow: bool, taken: list[str]):
    neck = build(name)
    ready = neck.optimize_for_inference()
    assert (convs.direct if slow else convs.lateral) in calls(ready)
    for batch in (1, 2):
        maps = features(neck, batch)
        before = [x.clone() for x in maps]
        with torch.no_grad():
            want = neck(maps)
        taken.clear()
        got = ready(maps)
        assert set(taken) == ({"mkldnn_convolution"} if slow else {"addmm"} if batch == 1 else set())
        assert_equal(got, want)
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in got)
        assert_equal(ready([x.contiguous(memory_format=torch.channels_last) for x in maps]), want)
        assert all(map(torch.equal, maps, before))


def test_narrow_laterals_and_small_maps_stay_with_torch(slow: bool, taken: list[str]):
    neck = build("fpn", 52)
    ready = neck.optimize_for_inference()
    assert calls(ready) == ({torch.conv2d, convs.direct} if slow else {torch.conv2d})
    ready(features(neck))
    # of 16x24 cells; 8x12 are too few, and with 32x48 torch takes oneDNN itself
    assert taken == (["mkldnn_convolution"] if slow else [])


def test_where_only_unfolding_is_slow_products_stay(monkeypatch: pytest.MonkeyPatch, taken: list[str]):
    monkeypatch.setattr(convs, "products_are_slow", lambda: False)
    monkeypatch.setattr(convs, "unfolding_is_slow", lambda: True)
    monkeypatch.setattr(convs, "large_products_are_slow", lambda: False)
    for channels, functions, want in (
        (52, {torch.conv2d, convs.direct}, ["mkldnn_convolution"]),
        (128, {convs.direct, convs.lateral}, ["addmm"] * 3),
    ):
        neck = build("fpn", channels)
        ready, maps = neck.optimize_for_inference(), features(neck)
        assert calls(ready) == functions
        taken.clear()
        got = ready(maps)
        assert taken == want
        with torch.no_grad():
            assert_equal(got, neck(maps))


@pytest.mark.parametrize(
    ("channels", "side", "direct"), [(256, 8, False), (32, 16, False), (64, 16, True), (64, 64, False)]
)
def test_oneDNN_is_for_what_outlasts_its_start(
    channels: int, side: int, direct: bool, monkeypatch: pytest.MonkeyPatch, taken: list[str]
):
    monkeypatch.setattr(convs, "products_are_slow", lambda: True)
    conv, x = nn.Conv2d(channels, channels, 3, stride=2, padding=1), torch.randn(1, channels, side, side)
    conv.requires_grad_(False)
    assert_close(bound(conv)(x), conv(x))
    assert bool(taken) is direct


@pytest.mark.parametrize(("channels", "side", "taken_by"), [(64, 64, True), (64, 63, False), (512, 16, False)])
@pytest.mark.parametrize("last", [True, False])
def test_large_products_with_channels_last(
    channels: int, side: int, taken_by: bool, last: bool, monkeypatch: pytest.MonkeyPatch, taken: list[str]
):
    monkeypatch.setattr(convs, "products_are_slow", lambda: False)
    monkeypatch.setattr(convs, "large_products_are_slow", lambda: True)
    x = torch.randn(1, channels, side, side)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    conv = nn.Conv2d(channels, 64, 1).requires_grad_(False)
    assert convs.choose(conv, of_feature=True) is convs.choose(conv, of_feature=False) is convs.pointwise
    assert_close(bound(conv)(x), conv(x))
    assert taken == (["mkldnn_convolution"] if taken_by and last else [])


def test_a_wide_lateral_of_a_feature_with_channels_last(monkeypatch: pytest.MonkeyPatch, taken: list[str]):
    monkeypatch.setattr(convs, "products_are_slow", lambda: False)
    monkeypatch.setattr(convs, "large_products_are_slow", lambda: True)
    conv = nn.Conv2d(256, 128, 1).requires_grad_(False)
    assert convs.choose(conv, of_feature=True) is convs.lateral
    assert convs.choose(conv, of_feature=False) is convs.pointwise
    x = torch.randn(1, 256, 32, 32).contiguous(memory_format=torch.channels_last)
    assert_close(bound(conv, of_feature=True)(x), conv(x))
    assert taken == ["mkldnn_convolution"]


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning", "ignore:.*torch.jit.trace:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_large_products_that_are_not_plain(monkeypatch: pytest.MonkeyPatch, taken: list[str]):
    monkeypatch.setattr(convs, "products_are_slow", lambda: False)
    monkeypatch.setattr(convs, "large_products_are_slow", lambda: True)
    x = torch.randn(1, 64, 64, 64).contiguous(memory_format=torch.channels_last)
    conv = nn.Conv2d(64, 64, 1).requires_grad_(False)
    function = bound(conv)
    with torch.backends.mkldnn.flags(enabled=False):
        assert_close(function(x), conv(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert function(x).dtype is torch.bfloat16
    torch.jit.trace(function, x, check_trace=False)
    with FlopCounterMode(display=False) as counter:
        function(x)
    assert counter.get_total_flops() == 2 * 64**4
    torch.compile(function, backend="eager", fullgraph=True)(x)
    wide = nn.Conv2d(64, 64, 1).requires_grad_(False).double()
    assert_close(bound(wide)(x.double()), wide(x.double()))
    assert not taken
    monkeypatch.setattr(convs, "large_products_are_slow", lambda: False)  # where it runs, not where it was made
    function(x)
    assert not taken


def test_what_is_slow_is_found_out_whatever_the_defaults_are():
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        assert 0 < convs._share(64, side=16, kernel=3) < 100
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def test_features_cut_out_of_others(slow: bool):
    neck = build("fpn")
    maps = [x[..., 1:-1, 1:-1] for x in features(neck)]
    with torch.no_grad():
        assert_equal(neck.optimize_for_inference()(maps), neck(maps))


def test_grouped_convolutions_stay_with_torch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(convs, "products_are_slow", lambda: True)
    assert convs.choose(nn.Conv2d(128, 128, 3, groups=2), of_feature=False) is torch.conv2d


def test_a_lateral_needs_a_plain_product(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(convs, "products_are_slow", lambda: False)
    monkeypatch.setattr(convs, "unfolding_is_slow", lambda: False)
    monkeypatch.setattr(convs, "large_products_are_slow", lambda: False)
    for conv, of_feature in (
        (nn.Conv2d(8, 128, 1), False),
        (nn.Conv2d(8, 128, 3), True),
        (nn.Conv2d(8, 128, 1, stride=2), True),
        (nn.Conv2d(8, 128, 1, padding=1), True),
        (nn.Conv2d(8, 127, 1), True),
    ):
        assert convs.choose(conv, of_feature=of_feature) is torch.conv2d
    x, conv = torch.randn(1, 8, 16, 24), nn.Conv2d(8, 128, 1, bias=False)
    assert convs.choose(conv, of_feature=True) is convs.lateral
    assert_close(bound(conv, of_feature=True)(x), conv(x))  # it has no bias to start from


def test_what_is_not_computed_eagerly_in_float32_goes_to_torch(slow: bool, taken: list[str]):
    neck = build("fpn")
    ready, maps = neck.optimize_for_inference(), features(neck)
    assert count_macs(ready, IMAGE) == count_macs(neck, IMAGE)
    double = copy.deepcopy(ready).double()
    with torch.no_grad():
        assert_close(double([x.double() for x in maps]), build("fpn").double()([x.double() for x in maps]))
        with torch.autocast("cpu", torch.bfloat16):
            assert ready(maps)[0].dtype is torch.bfloat16
    half = copy.deepcopy(ready).to(torch.bfloat16)
    assert half([x.to(torch.bfloat16) for x in maps])[0].dtype is torch.bfloat16
    assert [x.shape for x in copy.deepcopy(ready).to("meta")([x.to("meta") for x in maps])]
    with pytest.raises(RuntimeError):
        double(maps)
    with pytest.raises(RuntimeError):
        ready([x.double() for x in maps])
    assert not taken


def test_more_threads_leave_laterals_to_torch(monkeypatch: pytest.MonkeyPatch, taken: list[str]):
    monkeypatch.setattr(convs, "products_are_slow", lambda: False)
    monkeypatch.setattr(convs, "unfolding_is_slow", lambda: False)
    monkeypatch.setattr(convs, "large_products_are_slow", lambda: False)
    neck = build("fpn")
    ready, maps = neck.optimize_for_inference(), features(neck)
    torch.set_num_threads(2)
    ready(maps)
    assert not taken


@pytest.mark.parametrize("name", ["fpn", "nas_fpn"])
def test_compiled_and_exported(name: str, slow: bool, taken: list[str]):
    neck = build(name)
    ready, maps = neck.optimize_for_inference(), features(neck)
    want = ready(maps)
    taken.clear()
    program = torch.export.export(ready, (maps,))
    assert_equal(program.module()(maps), want)
    assert_equal(torch.compile(ready, backend="eager", fullgraph=True)(maps), want)
    assert not taken


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning", "ignore:.*:DeprecationWarning")
def test_traced(slow: bool, taken: list[str]):
    """Else it would hold for the size of the map alone."""
    conv = nn.Conv2d(256, 128, 1).requires_grad_(False)
    function = bound(conv, of_feature=True)
    traced = torch.jit.trace(function, torch.randn(1, 256, 32, 48), check_trace=False)
    assert not taken
    x = torch.randn(2, 256, 16, 16)
    assert_close(traced(x), conv(x))
    assert not taken
    function(torch.randn(1, 256, 32, 48))
    assert taken


def test_copies(slow: bool):
    neck = build("fpn")
    ready, maps = neck.optimize_for_inference(), features(neck)
    want = ready(maps)
    other = build("fpn").optimize_for_inference()
    other.load_state_dict(ready.state_dict())
    for clone in (copy.deepcopy(ready), pickle.loads(pickle.dumps(ready)), ready.optimize_for_inference(), other):
        assert calls(clone) == calls(ready) and all(map(torch.equal, clone(maps), want))
    assert not calls(neck)


@pytest.mark.parametrize(
    ("name", "seconds", "slow"),
    [
        ("products_are_slow", (1.0, 0.5), True),
        ("products_are_slow", (1.0, 0.9), False),
        ("products_are_slow", (0.5, 1.0), False),
        ("large_products_are_slow", (1.0, 0.9), True),
        ("large_products_are_slow", (1.0, 0.99), False),
        ("unfolding_is_slow", (1.0, 0.9), True),
        ("unfolding_is_slow", (1.0, 0.99), False),
    ],
)
def test_slow_is_what_oneDNN_does_faster(
    name: str, seconds: tuple[float, float], slow: bool, monkeypatch: pytest.MonkeyPatch, taken: list[str]
):
    def least(own, other, **_):
        theirs = other()
        assert_close(
            own().reshape(-1), theirs.permute(0, 2, 3, 1).reshape(-1) if "products" in name else theirs.reshape(-1)
        )
        return list(seconds)

    monkeypatch.setattr(convs, "_least_seconds", least)
    assert getattr(convs, name).__wrapped__() is slow
    assert taken == ["mkldnn_convolution"]


def test_the_least_time_of_each_in_turns():
    calls: list[str] = []
    times = convs._least_seconds(
        lambda: calls.append("a") or torch.randn(256, 256) @ torch.randn(256, 256),
        lambda: calls.append("b") or torch.zeros(1),
        rounds=3,
    )
    assert calls == ["a", "b"] * 3 and times[0] > times[1] >= 0


def test_without_oneDNN_products_are_not_slow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    for slow in (convs.products_are_slow, convs.large_products_are_slow, convs.unfolding_is_slow):
        assert not slow.__wrapped__()


def test_a_neck_made_elsewhere_runs_without_oneDNN(monkeypatch: pytest.MonkeyPatch, taken: list[str]):
    monkeypatch.setattr(convs, "products_are_slow", lambda: True)
    ready = build("fpn").optimize_for_inference()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    ready(features(ready))
    assert not taken


def test_who_counts_operations_sees_them(slow: bool):
    neck = build("fpn")
    ready, maps = neck.optimize_for_inference(), features(neck)
    counts = []
    for module in (neck, ready):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(maps)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")
def test_oneDNN_can_be_refused(slow: bool, taken: list[str]):
    neck = build("fpn")
    ready, maps = neck.optimize_for_inference(), features(neck)
    with torch.backends.mkldnn.flags(enabled=False):
        ready(maps)
    assert "mkldnn_convolution" not in taken
