"""Successive halving: candidates that look hopeless after a part of their training are not trained to the end.

The rule is that of Ray Tune's ASHA (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020),
in its stopping form: at each rung a candidate goes on if its score is not below the quantile 1 - 1/reduction of the
scores that came to this rung before it. The first one always goes on. Nothing waits for anything.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nasneck.errors import ConfigError
from nasneck.trial import State, Trial


class Halving:
    """Decides who goes on.

    Args:
        rungs: Rungs before the last one, at which everybody ends.
        reduction: One in this many goes on from each rung.
        trials: What the study holds already; a resumed search decides as an unbroken one.

    Raises:
        ConfigError: numbers that make no halving.
    """

    def __init__(self, rungs: int, reduction: float, trials: Iterable[Trial] = ()) -> None:
        if rungs < 1:
            raise ConfigError(f"{rungs} rungs: at least one is wanted")
        if not reduction > 1:
            raise ConfigError(f"reduction {reduction:g} must be above 1")
        self.reduction = reduction
        self.scores: list[list[float]] = [[] for _ in range(rungs)]
        for trial in trials:
            for rung, score in enumerate(scores_of(trial)):
                self.scores[rung].append(score)

    def keeps(self, rung: int, score: float) -> bool:
        """Whether a candidate with this score goes on from this rung; the score counts for those that follow."""
        before = self.scores[rung]
        keeps = not before or score >= float(np.percentile(before, 100 * (1 - 1 / self.reduction)))
        before.append(score)
        return keeps


def scores_of(trial: Trial) -> tuple[float, ...]:
    """What ``trial`` scored at the rungs that it came to, the lowest first; a duplicate came to none."""
    measured = trial.measurement
    if measured is None or trial.state is State.CACHED:
        return ()
    last = (measured.reward,) if trial.state is State.PRUNED and measured.reward is not None else ()
    return (*measured.scores, *last)
