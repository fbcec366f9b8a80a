"""What a running search says of itself, and what it says at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nasneck.trial import Trial


@dataclass(frozen=True, slots=True)
class Progress:
    """One trial started (its ``state`` is None) or ended.

    Args:
        trial: With number, state and measurement (and so the reward).
        best: The best trial so far, this one included.
        measured: Trials measured so far, failed and pruned ones included, cached and rejected ones not.
        budget: Trials to measure in all.
        cached: Duplicates so far.
        failed: Those of the measured that went wrong.
        rejected: Trials refused before training so far; they cost nothing and are no part of ``measured``.
        pruned: Those of the measured that were stopped early.
        running: Trials started and not ended, duplicates that wait for their twin's result included.
        candidates_per_hour: Trials measured by this run, by the time until the last one ended; None before that.
        seconds: Wall time of this run so far, preparations not included.
        seconds_per_trial: Mean wall time of the measured trials; None before the first.
        seconds_left: Estimate for the rest of the budget; None before the first.
    """

    trial: Trial
    best: Trial | None
    measured: int
    budget: int
    cached: int
    failed: int
    rejected: int
    pruned: int
    running: int
    candidates_per_hour: float | None
    seconds: float
    seconds_per_trial: float | None
    seconds_left: float | None

    @property
    def reward(self) -> float | None:
        """Reward of the trial, if it has one."""
        return self.trial.measurement.reward if self.trial.measurement else None


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended.

    Args:
        reason: ``"budget"``: all trials measured; ``"duplicates"``: nothing new came any more; ``"rejected"``:
            everything was over a limit; ``"exhausted"``: the strategy has asked the whole space;
            ``"interrupted"``: Ctrl-C.
        text: The same as a sentence.
        measured, cached, failed: Trials of the whole study; ``failed`` are part of ``measured``.
        best: The best trial of the study.
        seconds: Wall time of this run.
    """

    reason: Literal["budget", "duplicates", "rejected", "exhausted", "interrupted"]
    text: str
    measured: int
    cached: int
    failed: int
    best: Trial | None
    seconds: float

    @property
    def interrupted(self) -> bool:
        """Whether the run was ended by Ctrl-C."""
        return self.reason == "interrupted"
