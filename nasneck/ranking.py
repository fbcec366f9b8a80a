"""How well one order of candidates agrees with another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b: 1 for the same order, -1 for the reverse, about 0 for unrelated ones.

    Ties are taken into account as in Kendall, "The treatment of ties in ranking problems", Biometrika 1945.

    Returns:
        NaN if one of them has no order at all: fewer than two values, or all equal.

    Raises:
        ValueError: numbers of values that differ.
    """
    if len(one) != len(other):
        raise ValueError(f"{len(one)} values and {len(other)} do not belong together")
    agree = 0
    differ = [0, 0]  # pairs that are no tie, in each
    for (a, b), (c, d) in combinations(zip(one, other, strict=True), 2):
        first, second = (a > c) - (a < c), (b > d) - (b < d)
        agree += first * second
        differ[0] += first != 0
        differ[1] += second != 0
    return agree / math.sqrt(differ[0] * differ[1]) if all(differ) else math.nan
