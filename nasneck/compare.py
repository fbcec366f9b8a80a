"""Training several necks under one budget with several seeds.

Every training that has finished is a line of ``measurements.jsonl`` before the next one starts, so a
comparison that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasneck.errors import ConfigError
from nasneck.files import append_line
from nasneck.graph import NeckGraph
from nasneck.provenance import command, commit
from nasneck.proxy import ProxyTask
from nasneck.proxy.views import Progress
from nasneck.rows import measurement_row
from nasneck.study.lock import FolderLock
from nasneck.trial import Measurement, State

FILE_NAME = "measurements.jsonl"


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a comparison, done or about to start (``measurement`` is then None)."""

    name: str
    seed: int
    done: int
    total: int
    measurement: Measurement | None = None
    remembered: bool = False


def compare(
    task: ProxyTask,
    graphs: Mapping[str, NeckGraph],
    out: str | Path,
    *,
    seeds: Sequence[int],
    split: str = "test",
    steps: int | None = None,
    on_event: Callable[[Training], object] = lambda training: None,
    on_prepare: Progress | None = None,
) -> list[dict[str, Any]]:
    """Train every graph with every seed and return one row per training, in that order.

    Seeds are the outer loop, so that an early look at the rows compares all necks.

    Args:
        task: Trains and measures.
        graphs: Name -> graph.
        out: Folder of the comparison.
        seeds: Of weights and batches; the i-th training of all necks has the same batches.
        split: ``test`` or ``reward``.
        steps: Of each training; None takes the task's.
        on_event: Told before and after each training.
        on_prepare: Told of what is prepared before the first one.

    Raises:
        StudyError: another process works in ``out``.
        ConfigError: nothing to compare, or a folder that cannot be written.
    """
    if not graphs or not seeds:
        raise ConfigError("nothing to compare: at least one neck and one seed are wanted")
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be made a folder ({error.strerror})") from None
    lock = FolderLock(out)
    try:
        task.prepare(on_prepare, seed=seeds[0], steps=steps)
        known, made = _read(out / FILE_NAME)
        plan = [(name, seed) for seed in seeds for name in graphs]
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        for i, (name, seed) in enumerate(plan):
            key = task.cache_key(graphs[name], seed=seed, split=split, steps=steps)
            remembered = key in known
            if not remembered:
                on_event(Training(name, seed, i, len(plan)))
                known[key] = task.evaluate(graphs[name], seed=seed, split=split, steps=steps)
                # what failed may succeed another day, so it is not kept
                if known[key].state is State.OK:
                    made[key] = {"command": command(), "commit": commit()}
                    line = {"key": key, "measurement": known[key].to_dict(), "made": made[key]}
                    append_line(out / FILE_NAME, json.dumps(line))
            on_event(Training(name, seed, i + 1, len(plan), known[key], remembered))
            row = {"neck": name, "graph_key": graphs[name].key(), **measurement_row(known[key])}
            # A row that is remembered names what measured it, not what looks at it now.
            rows[name, seed] = row | made.get(key, {"command": command(), "commit": commit()})
    finally:
        lock.release()
    return [rows[name, seed] for name in graphs for seed in seeds]


def _read(path: Path) -> tuple[dict[str, Measurement], dict[str, dict[str, str]]]:
    """Measurements, and what made them, by cache key.

    A line that a crash cut short, or that is none of ours, is passed over.
    """
    known: dict[str, Measurement] = {}
    made: dict[str, dict[str, str]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                data = json.loads(line)
                known[data["key"]] = Measurement.from_dict(data["measurement"])
                made[data["key"]] = {name: str(data["made"][name]) for name in ("command", "commit")}
    return known, made
