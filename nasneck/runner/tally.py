"""The counts that a runner steers by, kept from the study's trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from nasneck.runner.progress import Progress
from nasneck.study.records import reward_of
from nasneck.trial import State, Trial


class Tally:
    """Running totals of ended trials.

    A trial that was rejected or cached costs nothing, so neither is measured; one that was pruned is, and did not
    go wrong. Rows of duplicates and of rejected trials end with a measured one only: a strategy that alternates
    between the two gets nowhere either.

    Args:
        trials: Those that the study holds already, in any order.
        budget: Trials to measure.
        workers: How many are measured at once.
        clock: Seconds since some moment; the run begins now.
    """

    def __init__(
        self,
        trials: Iterable[Trial],
        *,
        budget: int,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self.workers = workers
        self.measured = self.cached = self.failed = self.rejected = self.pruned = 0
        self.duplicates_in_a_row = self.rejected_in_a_row = 0
        self.best: Trial | None = None
        self._seconds = 0.0
        self._timed = 0
        self._running: set[int] = set()
        self._clock = clock
        self._begin = self._latest = clock()
        for trial in sorted(trials, key=lambda trial: trial.number):
            if trial.measurement is not None:
                self.add(trial, seconds=trial.measurement.seconds)
        self._before = self.measured

    @property
    def ended(self) -> int:
        """All trials with a result, however they ended."""
        return self.measured + self.cached + self.rejected

    def add(self, trial: Trial, *, seconds: float | None) -> None:
        """Count an ended trial; ``seconds`` is its wall time, None if nobody knows."""
        self._running.discard(trial.number)
        if trial.state is State.CACHED:
            self.cached += 1
            self.duplicates_in_a_row += 1
            return
        if trial.state is State.REJECTED:
            self.rejected += 1
            self.rejected_in_a_row += 1
            return
        self._latest = self._clock()
        self.measured += 1
        self.duplicates_in_a_row = self.rejected_in_a_row = 0
        if seconds is not None:
            self._seconds += seconds
            self._timed += 1
        if trial.state is State.PRUNED:
            self.pruned += 1
        elif trial.state is not State.OK:
            self.failed += 1
        elif self.best is None or reward_of(trial) > reward_of(self.best):
            self.best = trial

    def progress(self, trial: Trial) -> Progress:
        """The state of the search as ``trial`` starts (from then on it counts as running) or has ended."""
        if trial.state is None:
            self._running.add(trial.number)
        mean = self._seconds / self._timed if self._timed else None
        left = None if mean is None else mean * max(0, self.budget - self.measured) / self.workers
        return Progress(
            trial,
            best=self.best,
            measured=self.measured,
            budget=self.budget,
            cached=self.cached,
            failed=self.failed,
            rejected=self.rejected,
            pruned=self.pruned,
            running=len(self._running),
            candidates_per_hour=self._per_hour(),
            seconds=self._clock() - self._begin,
            seconds_per_trial=mean,
            seconds_left=left,
        )

    def _per_hour(self) -> float | None:
        # Until the last result, not until now: the trials that run just now are no slowness.
        done, seconds = self.measured - self._before, self._latest - self._begin
        return 3600 * done / seconds if done and seconds > 0 else None
