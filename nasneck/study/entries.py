"""The log by trial: what was asked, how it ended and when, and whose measurement a duplicate took over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasneck.study.records import REPEATABLE, Asked, Told
from nasneck.trial import State, Trial

if TYPE_CHECKING:
    from nasneck.study.study import Study


@dataclass(frozen=True, slots=True)
class Entry:
    """One trial with both of its entries in the log.

    Args:
        asked: Its ask.
        told: Its result; None while there is none.
        duplicate_of: Number of the trial whose measurement it took over, if it did.
    """

    asked: Asked
    told: Told | None
    duplicate_of: int | None

    @property
    def number(self) -> int:
        """Number of the trial."""
        return self.asked.ask.number

    @property
    def trial(self) -> Trial:
        """The same as :meth:`Study.trials` gives it."""
        asked, told = self.asked, self.told
        return Trial(
            self.number,
            asked.ask.choices,
            asked.graph_key,
            state=None if told is None else told.measurement.state,
            measurement=None if told is None else told.measurement,
            source=asked.source,
            values=() if told is None else told.outcome.values,
            started=asked.time,
        )


def entries(study: Study) -> list[Entry]:
    """All trials by number. The log is read at once, so a search that writes meanwhile does no harm."""
    asked: dict[int, Asked] = {}
    told: dict[int, Told] = {}
    measured: dict[str, int] = {}  # cache key -> the trial that stands for it
    duplicates: dict[int, int] = {}
    for event in study.events():
        if isinstance(event, Asked):
            asked[event.ask.number] = event
            continue
        told[event.number] = event
        if event.cache_key is None:
            continue
        if event.measurement.state in REPEATABLE:
            measured.setdefault(event.cache_key, event.number)
        elif event.measurement.state is State.CACHED and event.cache_key in measured:
            duplicates[event.number] = measured[event.cache_key]
    return [Entry(asked[number], told.get(number), duplicates.get(number)) for number in sorted(asked)]
