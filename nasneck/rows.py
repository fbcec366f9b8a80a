"""Measurements as rows of a CSV, each row complete in itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasneck.files import write_atomically
from nasneck.provenance import command, commit
from nasneck.trial import Measurement, Trial

_MEASURED = [
    "state",
    "reward",
    "reward_kind",
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "loss",
    "parameters",
    "macs",
    "latency_ms",
    "image_size",
    "seconds",
    "peak_memory_mb",
    "seed",
    "steps",
    "rung",
    "batch_size",
    "attempts",
    "split",
    "device",
    "text",
]


def measurement_row(measurement: Measurement) -> dict[str, Any]:
    """The fields of a measurement, then what made it."""
    values = measurement.to_dict()
    return {name: _short(values[name]) for name in _MEASURED}


def trial_rows(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """One row a trial, running ones included."""
    rows = []
    for trial in trials:
        measured = measurement_row(trial.measurement) if trial.measurement else dict.fromkeys(_MEASURED)
        rows.append(
            {
                "number": trial.number,
                "source": trial.source,
                "choices": " ".join(map(str, trial.choices)),
                "graph_key": trial.graph_key,
                **measured,
                "state": trial.state or "running",
            }
        )
    return rows


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``rows`` with the command and the commit that made them, unless they say it themselves.

    No rows give nothing but a header.
    """
    made = {"command": command(), "commit": commit()}
    names = list(dict.fromkeys(name for row in rows for name in row if name not in made)) or ["number"]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*names, *made], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**made, **row})
    return write_atomically(path, text.getvalue())


def _short(value: Any) -> Any:
    if isinstance(value, list):  # height and width
        return "x".join(map(str, value))
    # Six digits: more than any of these numbers can be repeated to.
    return float(f"{value:.6g}") if isinstance(value, float) else value
