"""Numbers and trials in the words of the command line. No torch, no pandas: ``nasneck status`` should come at once."""

from __future__ import annotations

from collections.abc import Sequence

from nasneck.trial import Measurement, State, Trial

NONE = "-"  # what is not known, or not there
HEAD = ("trial", "source", "state", "reward", "params", "MACs", "latency", "time")
TO_THE_RIGHT = frozenset({"trial", "reward", "params", "MACs", "latency", "time"})


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``, ``4.2 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def count(value: float | None) -> str:
    """Three digits with a unit: ``460 k``, ``29.9 M``, ``1.23 G``."""
    if value is None:
        return NONE
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f}"


def rate(per_hour: float | None) -> str:
    """Candidates per hour."""
    if per_hour is None:
        return NONE
    return f"{per_hour:.0f}" if per_hour >= 10 else f"{per_hour:.1f}"


def reward(measurement: Measurement | None) -> str:
    """Four decimals."""
    return NONE if measurement is None or measurement.reward is None else f"{measurement.reward:.4f}"


def percent(ap: float | None) -> str:
    """An AP in percent; a bin without objects has none."""
    return NONE if ap is None or ap < 0 else f"{100 * ap:.1f}"


def milliseconds(value: float | None) -> str:
    """One decimal."""
    return NONE if value is None else f"{value:.1f} ms"


def cells(trial: Trial, *, seconds: float | None = None) -> tuple[str, ...]:
    """A trial as a row below :data:`HEAD`; ``seconds`` is the time that it runs so far, if it does."""
    measured = trial.measurement
    known = measured or Measurement(State.OK)
    spent = known.seconds if seconds is None else seconds
    return (
        str(trial.number),
        trial.source,
        str(trial.state or "running"),
        reward(measured),
        count(known.parameters),
        count(known.macs),
        milliseconds(known.latency_ms),
        NONE if spent is None else duration(spent),
    )


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table below :data:`HEAD`."""
    widths = [max(len(row[i]) for row in [HEAD, *rows]) for i in range(len(HEAD))]
    lines = []
    for row in [HEAD, *rows]:
        words = (
            f"{cell:>{width}}" if name in TO_THE_RIGHT else f"{cell:<{width}}"
            for cell, width, name in zip(row, widths, HEAD, strict=True)
        )
        lines.append("  ".join(words).rstrip())
    return lines
