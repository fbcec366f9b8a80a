"""The counts that a runner steers by, kept from the study's trials."""

from __future__ import annotations

from collections.abc import Iterable

from nasneck.runner.progress import Progress
from nasneck.study.records import reward_of
from nasneck.trial import State, Trial


class Tally:
    """Running totals of ended trials.

    Args:
        trials: Those that the study holds already, in any order.
        budget: Trials to measure.
        workers: How many are measured at once.
    """

    def __init__(self, trials: Iterable[Trial], *, budget: int, workers: int = 1) -> None:
        self.budget = budget
        self.workers = workers
        self.measured = self.cached = self.failed = 0
        self.duplicates_in_a_row = 0
        self.best: Trial | None = None
        self._seconds = 0.0
        self._timed = 0
        for trial in sorted(trials, key=lambda trial: trial.number):
            if trial.measurement is not None:
                self.add(trial, seconds=trial.measurement.seconds)

    def add(self, trial: Trial, *, seconds: float | None) -> None:
        """Count an ended trial; ``seconds`` is its wall time, None if nobody knows."""
        if trial.state is State.CACHED:
            self.cached += 1
            self.duplicates_in_a_row += 1
            return
        self.measured += 1
        self.duplicates_in_a_row = 0
        if seconds is not None:
            self._seconds += seconds
            self._timed += 1
        if trial.state is not State.OK:
            # A trial that was rejected or pruned did not go wrong.
            self.failed += trial.state not in (State.REJECTED, State.PRUNED)
        elif self.best is None or reward_of(trial) > reward_of(self.best):
            self.best = trial

    def progress(self, trial: Trial) -> Progress:
        """The state of the search as ``trial`` starts or ends."""
        mean = self._seconds / self._timed if self._timed else None
        left = None if mean is None else mean * max(0, self.budget - self.measured) / self.workers
        return Progress(
            trial,
            best=self.best,
            measured=self.measured,
            budget=self.budget,
            cached=self.cached,
            seconds_per_trial=mean,
            seconds_left=left,
        )
