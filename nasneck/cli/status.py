"""How a study stands, read from its log alone: ``nasneck status``. No torch, so that it comes at once.

A search that is running is not disturbed: its file is opened for reading, and its lock is only looked at.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from nasneck.study import Study
from nasneck.study.database import FILE_NAME
from nasneck.study.entries import Entry, entries
from nasneck.study.lock import Holder, holder_of
from nasneck.study.records import FREE_OF_COST, Told, reward_of
from nasneck.trial import State, Trial

FAILURES = 3  # so many are told with their text


@dataclass(frozen=True, slots=True)
class Flight:
    """A trial without a result, and since when it is being measured, in seconds; None if nobody does."""

    number: int
    source: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A trial that went wrong."""

    number: int
    state: str
    text: str
    time: str


@dataclass(frozen=True, slots=True)
class Status:
    """How a study stands.

    Args:
        folder: Of the study.
        experiment, strategy: Their names, as far as the study says them.
        seed: Of the strategy.
        created: ISO 8601, UTC.
        state: ``running`` while a process holds the folder (it may still prepare); ``finished`` if all of the budget
            is measured or nothing new came any more; else ``stopped``: interrupted, killed, or at the end of a
            strategy that goes through its space once.
        holder: Who holds it, and ``since`` when (ISO 8601, UTC).
        budget: Trials to measure, if the study says it.
        measured: Trials that count towards it.
        counts: Trials by state; ``running`` are those without a result.
        best: The best measured trial.
        candidates_per_hour, seconds_left: Of a run that has measured something since it began.
        in_flight: Trials without a result.
        failures: The last ones, the latest first.
        warnings: What a resume had to note.
    """

    folder: str
    experiment: str | None
    strategy: str | None
    seed: int
    created: str
    state: Literal["running", "finished", "stopped"]
    holder: str | None
    since: str | None
    budget: int | None
    measured: int
    counts: Mapping[str, int]
    best: Trial | None
    candidates_per_hour: float | None
    seconds_left: float | None
    in_flight: tuple[Flight, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]


def read_status(folder: Path, *, now: float | None = None) -> Status:
    """How the study in ``folder`` stands.

    Args:
        folder: Or its ``study.sqlite``.
        now: Seconds since the epoch; the present by default.

    Raises:
        StudyError: no study is there, or it cannot be read.
    """
    folder = folder.parent if folder.name == FILE_NAME else folder
    now = time.time() if now is None else now
    with Study.read(folder) as study:
        # The lock before the log: a search that ends in between has written what it had by the time of reading.
        holder = holder_of(folder)
        found = entries(study)
        experiment, seed, created, injected = study.experiment, study.seed, study.created, study.injected
    told = sorted((entry.told for entry in found if entry.told), key=lambda told: told.time)
    states = Counter(str(entry.told.measurement.state) if entry.told else "running" for entry in found)
    measured = sum(_counts(entry) for entry in told)
    budget = _whole(experiment, "search", "trials")
    speed, left = _speed(found, told, holder, budget=budget, measured=measured, now=now)
    good = [entry.trial for entry in found if entry.told and entry.told.measurement.state is State.OK]
    return Status(
        folder=str(folder),
        experiment=_text(experiment, "name"),
        strategy=_strategy(experiment),
        seed=seed,
        created=created,
        state=_state(told, holder, budget, measured, _whole(experiment, "search", "max_duplicates")),
        holder=holder.name if holder else None,
        since=_iso(holder.since) if holder else None,
        budget=budget,
        measured=measured,
        counts=dict(states),
        best=max(good, key=reward_of, default=None),
        candidates_per_hour=speed,
        seconds_left=left,
        in_flight=tuple(_flight(entry, holder, now) for entry in found if entry.told is None),
        failures=tuple(_failure(entry) for entry in reversed(told) if _failed(entry))[:FAILURES],
        warnings=tuple(
            f"trials {first} to {end - 1} were given to the strategy from outside, as it no longer asked the same (of"
            " another version): all results are kept, but an unbroken search would have gone another way"
            for first, end in injected
        ),
    )


def as_json(status: Status) -> dict[str, Any]:
    """Ready for JSON; numbers that are not finite are null."""
    best = status.best
    return _finite(
        {
            **{name: value for name, value in asdict(status).items() if name != "best"},
            "best": best
            and {
                "number": best.number,
                "source": best.source,
                "graph_key": best.graph_key,
                "values": list(best.values),
                **(best.measurement.to_dict() if best.measurement else {}),
            },
        }
    )


def _state(
    told: Sequence[Told], holder: Holder | None, budget: int | None, measured: int, most: int | None
) -> Literal["running", "finished", "stopped"]:
    if holder is not None:
        return "running"
    if budget is not None and measured >= budget:
        return "finished"
    row = [entry.measurement.state for entry in takewhile(lambda entry: not _counts(entry), reversed(told))]
    # As the desk sees it: so many that cost nothing, one after another, and nothing new is to be expected.
    if most is not None and (row.count(State.CACHED) >= most or row.count(State.REJECTED) >= 10 * most):
        return "finished"
    return "stopped"


def _speed(
    found: Sequence[Entry],
    told: Sequence[Told],
    holder: Holder | None,
    *,
    budget: int | None,
    measured: int,
    now: float,
) -> tuple[float | None, float | None]:
    """Candidates per hour and seconds left of the run that holds the folder.

    It began to measure with its first ask: what is told before that (measurements that an earlier run left behind, its
    trials in flight) was not measured in a time that is known.
    """
    if holder is None:
        return None, None
    begin = min((entry.asked.time for entry in found if entry.asked.time >= holder.since), default=math.inf)
    ends = [entry.time for entry in told if entry.time > begin and _counts(entry)]
    if not ends or ends[-1] <= begin:
        return None, None
    speed = len(ends) / (ends[-1] - begin)
    left = None if budget is None else max(0.0, (budget - measured) / speed - max(0.0, now - ends[-1]))
    return 3600 * speed, left


def _flight(entry: Entry, holder: Holder | None, now: float) -> Flight:
    # One that an earlier run left behind is being measured since this run began, at the earliest.
    seconds = None if holder is None else max(0.0, now - max(entry.asked.time, holder.since))
    return Flight(entry.number, entry.asked.source, seconds)


def _failure(told: Told) -> Failure:
    text = " ".join(told.measurement.text.split())
    return Failure(told.number, str(told.measurement.state), text, _iso(told.time))


def _counts(told: Told) -> bool:
    return told.measurement.state not in FREE_OF_COST


def _failed(told: Told) -> bool:
    return _counts(told) and told.measurement.state not in (State.OK, State.PRUNED)


def _strategy(experiment: Mapping[str, Any]) -> str | None:
    name = _text(experiment, "strategy", "name")
    sampler = _text(experiment, "strategy", "options", "sampler")
    return f"{name} ({sampler})" if name and sampler else name


def _at(table: Any, *path: str) -> Any:
    """A setting; None where there is none: a study may be made with any experiment."""
    for name in path:
        table = table.get(name) if isinstance(table, Mapping) else None
    return table


def _text(table: Any, *path: str) -> str | None:
    value = _at(table, *path)
    return value if isinstance(value, str) else None


def _whole(table: Any, *path: str) -> int | None:
    value = _at(table, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
