"""Entries of the log, and trials as the log gives them."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib import metadata
from operator import index
from typing import Any

from nasneck.decision import Choices
from nasneck.study.codec import outcome_from_json
from nasneck.trial import Ask, Measurement, Outcome, State, Trial

# A graph that failed for want of memory or time, or by an exception, may do better another day; these are
# what the same graph with the same seed would give again. (One that was stopped early might be let on by now, but
# what stopped it, its early loss, would be the same.)
REPEATABLE = (State.OK, State.NAN, State.REJECTED, State.PRUNED)

# What nothing was trained for; it does not count as measured.
FREE_OF_COST = (State.CACHED, State.REJECTED)


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


EVENTS = "SELECT number, kind, time, choices, graph_key, source, outcome, measurement, cache_key FROM event"

# Every trial with its result, if it has one; conditions are appended.
TRIALS = """
SELECT a.number, a.choices, a.graph_key, t.state, t.measurement, a.source, a.time, t.outcome
FROM event AS a LEFT JOIN event AS t ON t.number = a.number AND t.kind = 'tell'
WHERE a.kind = 'ask'"""


def trial_of(row: tuple[Any, ...]) -> Trial:
    """A row of ``TRIALS``."""
    number, choices, graph_key, state, measurement, source, started, outcome = row
    return Trial(
        number,
        choices_of(choices),
        graph_key,
        state=None if state is None else State(state),
        measurement=None if measurement is None else Measurement.from_dict(json.loads(measurement)),
        source=source,
        values=() if outcome is None else tuple(json.loads(outcome)["values"]),
        started=started,
    )


def event_of(row: tuple[Any, ...]) -> Asked | Told:
    """A row of ``EVENTS``."""
    number, kind, moment, choices, graph_key, source, outcome, measurement, cache_key = row
    if kind == "ask":
        return Asked(Ask(number, choices_of(choices)), graph_key, source, moment)
    parsed = Measurement.from_dict(json.loads(measurement))
    return Told(number, outcome_from_json(outcome), parsed, cache_key, moment)


def choices_of(text: str) -> Choices:
    """The stored form of choices."""
    return tuple(map(index, json.loads(text)))  # which raises for what is no number


def reward_of(trial: Trial) -> float:
    """The first of the values that the strategy was told; below every other if there are none."""
    return trial.values[0] if trial.values else float("-inf")
