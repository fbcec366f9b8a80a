"""The words of ``nasneck status``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from nasneck.cli.status import Flight, Status
from nasneck.cli.words import count, duration, milliseconds, percent, rate
from nasneck.study.records import FREE_OF_COST
from nasneck.trial import Measurement, State, Trial

FLIGHTS = 20  # so many are named


def as_text(status: Status, *, now: float | None = None) -> str:
    """Some lines, the first one with the folder and the state."""
    now = time.time() if now is None else now
    head = f"{status.folder}: {status.state}"
    if status.holder is not None and status.since is not None:
        head += f" ({status.holder}, for {duration(now - _seconds(status.since))})"
    lines = [
        ("experiment", f"{status.experiment or '?'}, strategy {status.strategy or '?'}, seed {status.seed}"),
        ("created", f"{status.created.replace('T', ' ').replace('+00:00', ' UTC')}"),
        ("trials", _trials_line(status)),
    ]
    if status.candidates_per_hour is not None:
        left = "" if status.seconds_left is None else f", {duration(status.seconds_left)} left"
        lines.append(("speed", f"{rate(status.candidates_per_hour)} candidates per hour{left}"))
    lines.append(("best", _best_line(status.best)))
    if status.in_flight:
        running = status.state == "running"
        lines.append(("running" if running else "unfinished", _flights_line(status.in_flight, running=running)))
    lines += [
        ("failed", f"trial {failure.number}, {failure.state}: {failure.text}".rstrip(": "))
        for failure in status.failures
    ]
    lines += [("note", warning) for warning in status.warnings]
    return "\n".join([head, *(f"  {label:<11} {text}" for label, text in lines)])


def _trials_line(status: Status) -> str:
    of = "" if status.budget is None else f" of {status.budget}"
    states = [str(state) for state in State if state not in FREE_OF_COST]
    ended = [f"{status.counts[state]} {state}" for state in states if status.counts.get(state)]
    beside = [f"{status.counts[state]} {state}" for state in map(str, FREE_OF_COST) if status.counts.get(state)]
    line = f"{status.measured}{of} measured"
    line += f": {', '.join(ended)}" if ended else ""
    return line + (f"; besides {', '.join(beside)}" if beside else "")


def _best_line(best: Trial | None) -> str:
    if best is None or best.measurement is None:
        return "none yet"
    m: Measurement = best.measurement
    parts = [f"trial {best.number}, reward {'-' if m.reward is None else f'{m.reward:.4f}'}"]
    if best.values and best.values[0] != m.reward:
        parts[0] += f" (objective {best.values[0]:.4f})"
    if m.ap is not None:
        sizes = ", ".join(f"{name} {percent(ap)}" for name, ap in zip("SML", _by_size(m), strict=True))
        parts.append(f"AP {percent(m.ap)} ({sizes})")
    parts.append(f"{count(m.parameters)} parameters, {count(m.macs)} MACs, {milliseconds(m.latency_ms)}")
    return "; ".join([*parts, f"graph {best.graph_key}"])


def _by_size(m: Measurement) -> tuple[float | None, float | None, float | None]:
    return m.ap_small, m.ap_medium, m.ap_large


def _flights_line(flights: Sequence[Flight], *, running: bool) -> str:
    shown = [
        f"trial {flight.number}" + ("" if flight.seconds is None else f" for {duration(flight.seconds)}")
        for flight in flights[:FLIGHTS]
    ]
    more = f" and {len(flights) - FLIGHTS} more" if len(flights) > FLIGHTS else ""
    return ", ".join(shown) + more + ("" if running else "; measured first when the search goes on (--resume)")


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
