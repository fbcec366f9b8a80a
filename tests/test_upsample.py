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

SHAPE = (1, 64, 12, 16)


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


@pytest.mark.parametrize(
    ("shape", "times"),
    [(SHAPE, 2), ((1, 64, 40, 4), 2), ((2, 64, 12, 16), 4), ((1, 128, 4, 8), 8), ((1, 5, 32, 30), 2)],
)
def test_whole_factors_are_repeated(shape: tuple[int, ...], times: int, taken: list[tuple[int, ...]]):
    x = torch.randn(shape)
    out = functional.upsample(x, like(x, times))
    assert not taken
    assert torch.equal(out, F.interpolate(x, size=out.shape[-2:]))


def case(*shape: int, times: int, more: int = 0) -> tuple[Tensor, Tensor]:
    return (x := torch.randn(shape)), like(x, times, more)


def test_everything_else_is_torchs(taken: list[tuple[int, ...]]):
    x, wanted = case(*SHAPE, times=2)
    last = x.contiguous(memory_format=torch.channels_last)
    cases = {
        "one": case(*SHAPE, times=1),
        "three": case(*SHAPE, times=3),
        "sixteen": case(1, 256, 4, 4, times=16),
        "not whole": case(*SHAPE, times=2, more=1),
        "not alike": (x, torch.empty(1, 1, 24, 64)),
        "smaller": (x, torch.empty(1, 1, 6, 8)),
        "few values": case(1, 16, 12, 16, times=2),
        "few cells": case(1, 64, 8, 12, times=2),
        "many cells": case(1, 8, 40, 40, times=2),
        "thin": case(1, 512, 64, 2, times=2),
        "channels last": (last, wanted),
        "one channel": case(2, 1, 64, 32, times=2),
        "cut": (torch.randn(1, 64, 12, 18)[..., 1:-1], wanted),
        "trained": (x.clone().requires_grad_(), wanted),
        "meta": (x.to("meta"), wanted),
    }
    for name, (small, wanted) in cases.items():
        functional.upsample(small, wanted)
        assert taken == [wanted.shape[-2:]], name
        taken.clear()
    assert functional.upsample(last, like(x, 2)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script:FutureWarning", "ignore:.*:DeprecationWarning", "ignore:The TorchScript:UserWarning"
)
def test_vectorized_and_scripted():
    x = torch.randn(3, 1, 64, 16, 16)
    wanted = torch.empty(1, 1, 32, 32)
    want = torch.stack([functional.upsample(y, wanted) for y in x])
    assert torch.equal(torch.vmap(lambda y: functional.upsample(y, wanted))(x), want)
    neck = compile_neck(necks.fpn(), [16, 32, 64], 64).eval()
    maps = [torch.randn(1, 16, 32, 48), torch.randn(1, 32, 16, 24), torch.randn(1, 64, 8, 12)]
    with torch.no_grad():
        assert all(map(torch.equal, torch.jit.script(neck.body)(*maps), neck(maps)))
        stacked = [torch.stack([x, x + 1]) for x in maps]
        got = torch.vmap(lambda *m: tuple(neck(list(m))))(*stacked)
        torch.testing.assert_close([x[1] for x in got], neck([x + 1 for x in maps]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning", "ignore:.*:DeprecationWarning")
def test_what_is_exported_or_trained_interpolates(taken: list[tuple[int, ...]]):
    neck = compile_neck(necks.fpn(), [16, 32, 64], 64).eval()
    maps = [torch.randn(1, 16, 48, 64), torch.randn(1, 32, 24, 32), torch.randn(1, 64, 12, 16)]
    sizes = [(24, 32), (48, 64)]
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
