"""Kendall's tau against scipy's, and by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasneck.ranking import kendall_tau


def test_by_hand() -> None:
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == 1.0
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1.0
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert math.isnan(kendall_tau([1, 1, 1], [1, 2, 3]))
    assert math.isnan(kendall_tau([1], [1])) and math.isnan(kendall_tau([], []))
    with pytest.raises(ValueError, match="2 values and 1"):
        kendall_tau([1, 2], [1])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=20))
def test_as_scipy(pairs: list[tuple[int, int]]) -> None:
    scipy = pytest.importorskip("scipy.stats")
    one, other = zip(*pairs, strict=True)
    ours, theirs = kendall_tau(one, other), scipy.kendalltau(one, other).statistic
    assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)
