"""Entries of the log, and trials as the log gives them."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from nasneck.decision import Choices
from nasneck.trial import Ask, Measurement, Outcome, State, Trial

# A graph that failed for want of memory or time, or by an exception, may do better another day; these are
# what the same graph with the same seed would give again.
REPEATABLE = (State.OK, State.NAN, State.REJECTED)


@dataclass(frozen=True, slots=True)
class Asked:
    """Log entry: a trial was asked."""

    ask: Ask
    graph_key: str
    source: str
    time: float


@dataclass(frozen=True, slots=True)
class Told:
    """Log entry: a trial ended, and what the strategy was told of it."""

    number: int
    outcome: Outcome
    measurement: Measurement
    cache_key: str | None
    time: float


def current_versions() -> dict[str, str]:
    """Versions that decide whether a log can be repeated exactly."""
    versions = {"python": platform.python_version()}
    for name in ("torch", "nasneck", "optuna", "scipy"):  # the last two for strategies that use them
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


# Every trial with its result, if it has one; conditions are appended.
TRIALS = """
SELECT a.number, a.choices, a.graph_key, t.state, t.measurement, a.source, a.time
FROM event AS a LEFT JOIN event AS t ON t.number = a.number AND t.kind = 'tell'
WHERE a.kind = 'ask'"""


def trial_of(row: tuple[Any, ...]) -> Trial:
    """A row of ``TRIALS``."""
    number, choices, graph_key, state, measurement, source, started = row
    return Trial(
        number,
        choices_of(choices),
        graph_key,
        state=None if state is None else State(state),
        measurement=None if measurement is None else Measurement.from_dict(json.loads(measurement)),
        source=source,
        started=started,
    )


def choices_of(text: str) -> Choices:
    """The stored form of choices."""
    return tuple(json.loads(text))


def reward_of(trial: Trial) -> float:
    """Reward of a trial; below every other if it has none."""
    measurement = trial.measurement
    return float("-inf") if measurement is None or measurement.reward is None else measurement.reward
