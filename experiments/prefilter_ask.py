"""A pre-filter: ask a strategy for several candidates, train the one that a predictor thinks best, skip the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from predictor import Predictor

from nasneck.decision import Choices
from nasneck.strategy import Strategy
from nasneck.trial import Ask, Outcome, State

Encode = Callable[[Choices], np.ndarray]
START = 20  # trainings before the first prediction: the population of evolution
STALE = 1.05  # the predictor is fitted anew when there are so many times the rewards


class Filtered:
    """Between a strategy and whoever trains its candidates; has the ``ask`` and ``tell`` of a strategy.

    Args:
        strategy: What proposes; numbers are its own.
        predictor: Fitted here.
        encode: From choices to what the predictor reads.
        proposals: Asked for each that is trained; 1 leaves the strategy as it is.
        told: What the strategy hears of a skipped one: ``nothing``, so that its ask stays open as that of a worker
            who is never back, or that it was ``rejected``, which learners take for the worst there is.
        start: Trainings known before any candidate is skipped.
    """

    def __init__(
        self,
        strategy: Strategy,
        predictor: Predictor,
        encode: Encode,
        *,
        proposals: int,
        told: Literal["nothing", "rejected"] = "nothing",
        start: int = START,
    ) -> None:
        self.strategy, self.predictor, self.encode = strategy, predictor, encode
        self.proposals, self.told, self.start = proposals, told, start
        self._open: dict[int, np.ndarray] = {}
        self._encoded: list[np.ndarray] = []
        self._rewards: list[float] = []
        self._fitted_with = 0

    def ask(self) -> Ask:
        """The next candidate to train."""
        asks = [self.strategy.ask()]
        if self.proposals == 1:
            return asks[0]
        known = len(self._rewards)
        if known >= self.start:
            asks += [self.strategy.ask() for _ in range(self.proposals - 1)]
            if known >= STALE * self._fitted_with:
                self.predictor.fit(np.stack(self._encoded), self._rewards)
                self._fitted_with = known
        encoded = np.stack([self.encode(ask.choices) for ask in asks])
        best = int(np.argmax(self.predictor.predict(encoded))) if len(asks) > 1 else 0
        for ask in (*asks[:best], *asks[best + 1 :]):
            if self.told == "rejected":
                self.strategy.tell(ask.number, Outcome((), State.REJECTED, text="predicted to be worse"))
        self._open[asks[best].number] = encoded[best]
        return asks[best]

    def tell(self, number: int, outcome: Outcome) -> None:
        """How the training of an ask ended: for the strategy and for the predictor."""
        self.strategy.tell(number, outcome)
        if self.proposals > 1:
            self._encoded.append(self._open.pop(number))
            self._rewards.append(outcome.values[0] if outcome.values else math.nan)
