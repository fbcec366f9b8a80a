"""Bring a fresh strategy to where a study stopped, by repeating its log.

A strategy uses up randomness when it asks, so stored results alone cannot bring it back: the calls are made
again, in their order, and each ask is compared with what the log says. From then on a resumed search goes on
exactly as an unbroken one would. A stored snapshot shortens the way, not more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasneck.errors import StudyError
from nasneck.study.records import Asked, Told, current_versions
from nasneck.study.study import Study

if TYPE_CHECKING:
    from nasneck.strategy.base import Snapshot, Strategy


@dataclass(frozen=True, slots=True)
class Resumed:
    """What :func:`resume` returns.

    Args:
        strategy: In step with the log; asks in flight are open in it.
        warning: One line for the user if the log could not be repeated exactly, else empty.
    """

    strategy: Strategy
    warning: str = ""


def resume(study: Study, make: Callable[[], Strategy]) -> Resumed:
    """Return a strategy that has lived through the study's log.

    Where the strategy no longer asks what it asked then (another library version), the rest of the log is
    fed to it as choices from outside, and a warning says so: nothing measured is lost, but the search does
    not go on as the unbroken one would have. Other versions that do repeat the log are said once, too: what they do
    from here on is not proven to be the same.

    Args:
        study: May be empty; the strategy is then a fresh one.
        make: Returns a fresh strategy with the study's seed and options; called again where needed.

    Raises:
        StudyError, SpaceError: the log does not fit the strategy's decisions at all.
    """
    start, snapshot = _usable_snapshot(study, make)
    events = list(study.events(after=start))
    strategy = _begin(make, snapshot)
    broken = _repeat(strategy, events, study.injected)
    changed = _changed_versions(study)
    if broken is None:
        return Resumed(strategy, _unproven(changed) if changed else "")
    # Noted in the study, so that the next resume repeats what this one does, without a warning.
    study.mark_injected(broken)
    strategy = _begin(make, snapshot)
    _repeat(strategy, events, study.injected)
    return Resumed(strategy, _warning(broken, changed))


def _usable_snapshot(study: Study, make: Callable[[], Strategy]) -> tuple[int, Snapshot | None]:
    try:
        stored = study.latest_snapshot()
        if stored is not None:
            make().restore(stored[1])
            return stored
    except StudyError:
        pass  # of another version: the log is enough
    return 0, None


def _begin(make: Callable[[], Strategy], snapshot: Snapshot | None) -> Strategy:
    strategy = make()
    if snapshot is not None:
        strategy.restore(snapshot)
    return strategy


def _repeat(strategy: Strategy, events: Iterable[Asked | Told], injected: Iterable[tuple[int, int]]) -> int | None:
    """Make the calls of the log; return the number of the first ask that came out differently, if any."""
    for event in events:
        if isinstance(event, Told):
            strategy.tell(event.number, event.outcome)
            continue
        given = event.source != "strategy" or any(first <= event.ask.number < end for first, end in injected)
        ask = strategy.inject(event.ask.choices) if given else strategy.ask()
        if ask != event.ask:
            return event.ask.number
    return None


def _changed_versions(study: Study) -> list[str]:
    """What differs from the versions that the study was last used with, which are noted."""
    now, before = current_versions(), study.latest_versions
    changed = [f"{name} {old} -> {now[name]}" for name, old in before.items() if name in now and now[name] != old]
    if changed:
        study.note_versions(now)
    return changed


def _unproven(changed: list[str]) -> str:
    return (
        f"the study goes on with other versions ({', '.join(changed)}): nothing is lost, but from here on it need not"
        " be what an unbroken search would have been"
    )


def _warning(number: int, changed: list[str]) -> str:
    cause = f" ({', '.join(changed)})" if changed else ""
    return (
        f"the strategy no longer repeats the log from trial {number} on{cause}; all results are kept and the"
        " search goes on, but not as an unbroken one would have"
    )
