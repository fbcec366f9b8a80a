"""Nearest upsampling of plain maps: by repeating rows and columns, the same to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nasneck import compile_neck, functional, necks

SHAPE = (1, 64, 8, 12)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Sizes that torch interpolates to."""
    sizes: list[tuple[int, ...]] = []
    interpolate = F.interpolate

    def spy(x: Tensor, size: tuple[int, ...], **options: Any) -> Tensor:
        sizes.append(tuple(size))
        return interpolate(x, size=size, **options)

    monkeypatch.setattr(F, "interpolate", spy)
    return sizes


def like(x: Tensor, times: int, more: int = 0) -> Tensor:
    return torch.empty(1, 1, times * x.shape[-2], times * x.shape[-1] + more)


@given(
    shape=st.tuples(st.integers(1, 2), st.sampled_from([1, 7, 64]), st.integers(1, 40), st.integers(1, 40)),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    times=st.integers(0, 8),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_as_torch_to_the_bit(shape: tuple[int, int, int, int], height: int, width: int, times: int, dtype: torch.dtype):
    x = torch.randn(shape, dtype=dtype)
    wanted = torch.empty(1, 1, height, width) if times == 0 else like(x, times)
    out = functional.upsample(x, wanted)
    assert torch.equal(out, F.interpolate(x, size=wanted.shape[-2:]))
    assert out.is_contiguous()


@pytest.mark.parametrize("times", [2, 4, 8])
def test_whole_factors_are_repeated(times: int, taken: list[tuple[int, ...]]):
    x = torch.randn(SHAPE)
    functional.upsample(x, like(x, times))
    assert not taken


def test_everything_else_is_torchs(taken: list[tuple[int, ...]]):
    x = torch.randn(SHAPE)
    last = x.contiguous(memory_format=torch.channels_last)
    cases = [
        (x, like(x, 1)),
        (x, like(x, 3)),
        (x, like(x, 2, more=1)),
        (x, torch.empty(1, 1, 16, 48)),
        (x, torch.empty(1, 1, 4, 6)),
        (last, like(x, 2)),
        (x[..., :2], like(x[..., :2], 2)),
        (x[:, :1], like(x, 2)),
        (x.clone().requires_grad_(), like(x, 2)),
        (x.to("meta"), like(x, 2)),
    ]
    for small, wanted in cases:
        out = functional.upsample(small, wanted)
        assert taken.pop() == out.shape[-2:] == wanted.shape[-2:]
        assert not taken
    assert functional.upsample(last, like(x, 2)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning", "ignore:.*:DeprecationWarning")
def test_what_is_exported_or_trained_interpolates(taken: list[tuple[int, ...]]):
    neck = compile_neck(necks.fpn(), [16, 32, 64], 64).eval()
    maps = [torch.randn(1, 16, 32, 48), torch.randn(1, 32, 16, 24), torch.randn(1, 64, 8, 12)]
    sizes = [(16, 24), (32, 48)]
    with torch.no_grad():
        want = neck(maps)
        assert not taken
        torch.compile(neck, backend="eager", fullgraph=True)(maps)
        assert set(taken) == set(sizes)  # of the fake maps, too
        program = torch.export.export(neck, (maps,))
        assert all(map(torch.equal, program.module()(maps), want))
        taken.clear()
        torch.jit.trace(neck.body, tuple(maps), check_trace=False)
        assert taken == sizes
        taken.clear()
    assert all(map(torch.equal, neck(maps), want))
    assert taken == sizes
