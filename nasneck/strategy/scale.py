"""One scale for all that a learner with one objective is told.

Values of different rungs (fidelities) are never compared as numbers, a failed trial has none at all, and an
early loss has another unit than an AP. Their order is common to all: failed below every value, then by rung,
then by value. :class:`Scale` turns an outcome into its place in that order.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Any

from nasneck.trial import Outcome, State

LOWEST = 0.0


class Scale:
    """The order of all outcomes so far.

    Cached outcomes are placed, but not entered: a candidate counts once however often it is asked, or the
    ranks of a converged learner would melt together. With several objectives the first one is read; learners
    for several objectives take the outcomes as they are.
    """

    def __init__(self) -> None:
        self._places: list[tuple[int, float]] = []  # (rung, value), sorted
        self._failed = 0

    def __len__(self) -> int:
        return len(self._places) + self._failed

    def add(self, outcome: Outcome) -> None:
        """Enter one outcome."""
        if outcome.state is State.CACHED:
            return
        place = _place(outcome)
        if place is None:
            self._failed += 1
        else:
            insort(self._places, place)

    def rank(self, outcome: Outcome) -> float:
        """Share of the entered outcomes that lie below, equal ones counted by half; 0 for a failed one.

        In (0, 1) for an outcome with a value; 0.5 while nothing is entered.
        """
        place = _place(outcome)
        if place is None:
            return LOWEST
        if not len(self):
            return 0.5
        below, upto = bisect_left(self._places, place), bisect_right(self._places, place)
        return (self._failed + (below + upto) / 2) / len(self)

    def value(self, outcome: Outcome) -> float:
        """The value itself, if its rung is the highest entered; else the lowest value entered on that rung.

        0 for an outcome without a value while none is entered.
        """
        place = _place(outcome)
        if not self._places:
            return LOWEST if place is None else place[1]
        top = self._places[-1][0]
        if place is not None and place[0] >= top:
            return place[1]
        return self._places[bisect_left(self._places, (top, -math.inf))][1]

    def to_list(self) -> list[Any]:
        """JSON-ready form, read back by :meth:`from_list`."""
        return [self._failed, [list(place) for place in self._places]]

    @classmethod
    def from_list(cls, data: Sequence[Any]) -> Scale:
        """Inverse of :meth:`to_list`."""
        scale = cls()
        scale._failed = int(data[0])
        scale._places = [(int(rung), float(value)) for rung, value in data[1]]
        return scale


def _place(outcome: Outcome) -> tuple[int, float] | None:
    # NaN cannot be ordered, and an infinite value would poison every mean.
    if not outcome.state.has_values or not outcome.values or not math.isfinite(outcome.values[0]):
        return None
    return outcome.rung, float(outcome.values[0])
