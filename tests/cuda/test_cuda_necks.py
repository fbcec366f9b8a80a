"""Compiled necks on a GPU: equal to the CPU's, in every form, also inside CUDA graphs and torch.compile."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from nasneck import necks
from nasneck.compile import compile_neck
from nasneck.cost import feature_shapes, measure_latency
from nasneck.neck import Neck

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

WIDTHS = {2: 8, 3: 12, 4: 16, 5: 20}
SMALL = {"mlfpn": {"tums": 2, "sfam": True, "valid": False}, "fpg": {"stacks": 5}, "gfpn": {"depth": 2}}


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """Products of 24 bits: TF32 would hide what goes wrong."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def build(name: str) -> Neck:
    torch.manual_seed(0)
    graph = necks.NECKS[name](**SMALL.get(name, {}))
    neck = compile_neck(graph, [WIDTHS[level] for level in graph.input_levels], 16)
    for module in neck.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.5)
            module.running_var.uniform_(0.5, 2)
    return neck.eval()


def maps(neck: Neck) -> list[Tensor]:
    size = 4 * neck.size_divisor if neck.size_divisor > 1 else 205
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for shape in feature_shapes(neck, (size, size), 2)]


def on_gpu(features: list[Tensor], *, channels_last: bool = False) -> list[Tensor]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return [x.cuda().contiguous(memory_format=layout) for x in features]


def assert_close(got: list[Tensor], want: list[Tensor], tolerance: float = 1e-4) -> None:
    assert len(got) == len(want)
    for ours, theirs in zip(got, want, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours.detach().cpu(), theirs.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", necks.NECKS)
@torch.no_grad()
def test_every_neck_gives_what_it_gives_on_the_cpu(name: str) -> None:
    neck = build(name)
    features = maps(neck)
    want = neck(features)
    ready = neck.optimize_for_inference()
    there = copy.deepcopy(neck).cuda()
    assert_close(there(on_gpu(features)), want)
    laid = there.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert_close(laid(on_gpu(features, channels_last=True)), want)
    assert_close(ready.cuda()(on_gpu(features)), want)
    # The inference form may be made on either side.
    assert_close(copy.deepcopy(neck).cuda().optimize_for_inference()(on_gpu(features)), want)


@pytest.mark.parametrize("name", ["bifpn", "carafe_fpn", "fpn", "mlfpn", "nas_fpn"])
def test_gradients_are_those_of_the_cpu(name: str) -> None:
    here, features = build(name).double().train(), [x.double() for x in maps(build(name))]
    there = copy.deepcopy(here).cuda()
    for neck, given in ((here, features), (there, on_gpu(features))):
        torch.stack([out.square().mean() for out in neck(given)]).sum().backward()
    for (path, ours), theirs in zip(there.named_parameters(), here.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), path
        if ours.grad is not None and theirs.grad is not None:
            torch.testing.assert_close(ours.grad.cpu(), theirs.grad, rtol=1e-7, atol=1e-9, msg=path)


@pytest.mark.parametrize("name", ["bifpn", "fpn", "nas_fpn"])
@torch.no_grad()
def test_the_inference_form_can_be_captured_in_a_cuda_graph(name: str) -> None:
    neck = build(name)
    features = maps(neck)
    ready, given = neck.optimize_for_inference().cuda(), on_gpu(features)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        ready(given)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outs = ready(given)
    other = [x.flip(0) for x in features]
    for place, value in zip(given, other, strict=True):
        place.copy_(value)
    graph.replay()
    assert_close(outs, neck(other))


@torch.no_grad()
def test_the_inference_form_runs_in_half_precision() -> None:
    neck = build("nas_fpn")
    features = maps(neck)
    want = neck(features)
    for dtype in (torch.float16, torch.bfloat16):
        ready = neck.optimize_for_inference().cuda().to(dtype)
        got = ready([x.to(dtype) for x in on_gpu(features)])
        for ours, theirs in zip(got, want, strict=True):
            assert float((ours.float().cpu() - theirs).norm() / theirs.norm()) < 0.05


def test_latency_is_measured() -> None:
    assert 0 < measure_latency(build("nas_fpn"), (256, 256), device="cuda", runs=3) < 1000
