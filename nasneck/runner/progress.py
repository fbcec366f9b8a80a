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
        measured: Trials measured so far, failed ones included, cached ones not.
        budget: Trials to measure in all.
        cached: Duplicates so far.
        seconds_per_trial: Mean wall time of the measured trials; None before the first.
        seconds_left: Estimate for the rest of the budget; None before the first.
    """

    trial: Trial
    best: Trial | None
    measured: int
    budget: int
    cached: int
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
        reason: ``"budget"``: all trials measured; ``"duplicates"``: nothing new came any more;
            ``"exhausted"``: the strategy has asked the whole space; ``"interrupted"``: Ctrl-C.
        text: The same as a sentence.
        measured, cached, failed: Trials of the whole study; ``failed`` are part of ``measured``.
        best: The best trial of the study.
        seconds: Wall time of this run.
    """

    reason: Literal["budget", "duplicates", "exhausted", "interrupted"]
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
