"""Real rewards to replay: candidates of the NAS-FPN space, drawn uniformly, each scored once by the ``fast`` preset.

The setting is that of ``fidelity.toml``, built as ``fidelity.py`` builds it. Some are scored again with another seed:
how well the score agrees with itself is as much as a predictor of it can hope for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fidelity
import numpy as np
import torch

from nasneck.files import write_atomically
from nasneck.provenance import command, commit
from nasneck.rows import measurement_row
from nasneck.search import build_space
from nasneck.trial import Measurement

SCORE = "fast"
CANDIDATES, AGAIN, DRAWN_WITH = 300, 60, 3001


def plan(count: int = CANDIDATES, again: int = AGAIN) -> list[tuple[int, int]]:
    """(number, seed) of every evaluation; those with another seed come last."""
    return [(number, 0) for number in range(count)] + [(number, 1) for number in range(min(again, count))]


def draw(sizes: list[int], count: int = CANDIDATES) -> list[tuple[int, ...]]:
    """So many vectors of choices, every decision uniform; ``sizes`` are the numbers of their choices."""
    rng = np.random.default_rng(DRAWN_WITH)
    return [tuple(int(rng.integers(size)) for size in sizes) for _ in range(count)]


def score(out: Path) -> None:
    """Evaluate what is not in ``out`` yet, one thread; each evaluation is a file before the next one starts."""
    torch.set_num_threads(1)
    way = fidelity.chosen(SCORE)
    task, space = way.task(out.parent / "store"), build_space(way.experiment.space, way.experiment.neck)
    drawn = draw([decision.choices for decision in space.decisions])
    for seed in (0, 1):
        task.prepare(seed=seed)  # backbone and features: once for a study, so no candidate's time
    warm = False
    for number, seed in plan():
        path = out / f"{number}-{seed}.json"
        graph = space.decode(drawn[number])
        key = task.cache_key(graph, seed=seed)
        if path.exists() and json.loads(path.read_text())["key"] == key:
            continue
        if not warm:
            task.evaluate(graph, seed=seed, steps=2)
            warm = True
        begin = time.process_time()
        measurement = task.evaluate(graph, seed=seed)
        found = {
            "key": key,
            "number": number,
            "choices": " ".join(map(str, drawn[number])),
            "graph_key": graph.key(),
            "cpu_seconds": round(time.process_time() - begin, 4),
            "measurement": measurement.to_dict(),
            "made": {"command": command(), "commit": commit()},
        }
        write_atomically(path, json.dumps(found), durable=False)
        if number % 50 == 0:
            print(f"pool {number} seed {seed}: {measurement.state} {measurement.reward}", flush=True)


def rows(out: Path) -> Iterator[dict[str, Any]]:
    """A row an evaluation; ``cpu_seconds`` is the time of the process, ``seconds`` that of the clock."""
    for number, seed in plan():
        path = out / f"{number}-{seed}.json"
        if path.exists():
            found = json.loads(path.read_text())
            measured = measurement_row(Measurement.from_dict(found["measurement"]))
            kept = {name: found[name] for name in ("number", "choices", "graph_key", "cpu_seconds")}
            yield {**kept, **measured, **found["made"]}
