"""Real rewards: candidates of the NAS-FPN space, drawn uniformly, each scored once by the ``fast`` preset.

The setting is that of ``fidelity.toml``, built as ``fidelity.py`` builds it. Some are scored again with another seed:
how well the score agrees with itself is as much as a predictor of it can hope for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import fidelity
import numpy as np
import torch

from nasneck.decision import Choices
from nasneck.files import write_atomically
from nasneck.provenance import command, commit
from nasneck.proxy import ProxyTask
from nasneck.rows import measurement_row
from nasneck.search_space import build_space
from nasneck.trial import Measurement

SCORE = "fast"
CANDIDATES, AGAIN, DRAWN_WITH = 300, 60, 3001


class Scorer:
    """Scores candidates, one thread; each is a file before the next one starts, and is known from then on.

    Args:
        out: Folder for the files and, in ``store``, for backbone and features.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._way = fidelity.chosen(SCORE)
        self.space = build_space(self._way.experiment.space, self._way.experiment.neck)

    def score(self, choices: Choices, *, seed: int = 0) -> dict[str, Any]:
        """What is kept of an evaluation; ``cpu_seconds`` is the time of the process."""
        path = self.out / f"{'-'.join(map(str, choices))}.{seed}.json"
        if path.exists():
            return dict(json.loads(path.read_text()))
        graph = self.space.decode(choices)
        task = self._task
        begin = time.process_time()
        measurement = task.evaluate(graph, seed=seed)
        found = {
            "choices": " ".join(map(str, choices)),
            "graph_key": graph.key(),
            "cpu_seconds": round(time.process_time() - begin, 4),
            "measurement": measurement.to_dict(),
            "made": {"command": command(), "commit": commit()},
        }
        write_atomically(path, json.dumps(found), durable=False)
        return found

    @cached_property
    def _task(self) -> ProxyTask:
        """Ready and warm: what all candidates share is no candidate's time."""
        torch.set_num_threads(1)
        task = self._way.task(self.out / "store")
        for seed in (0, 1):
            task.prepare(seed=seed)
        task.evaluate(self.space.decode((0,) * len(self.space.decisions)), seed=0, steps=2)
        return task


def plan(count: int = CANDIDATES, again: int = AGAIN) -> list[tuple[int, int]]:
    """(number, seed) of every evaluation of the pool; those with another seed come last."""
    return [(number, 0) for number in range(count)] + [(number, 1) for number in range(min(again, count))]


def draw(sizes: list[int], count: int = CANDIDATES) -> list[Choices]:
    """So many vectors of choices, every decision uniform; ``sizes`` are the numbers of their choices."""
    rng = np.random.default_rng(DRAWN_WITH)
    return [tuple(int(rng.integers(size)) for size in sizes) for _ in range(count)]


def pool_rows(scorer: Scorer) -> Iterator[dict[str, Any]]:
    """Score the pool, a row an evaluation."""
    drawn = draw([decision.choices for decision in scorer.space.decisions])
    for number, seed in plan():
        found = scorer.score(drawn[number], seed=seed)
        measured = measurement_row(Measurement.from_dict(found["measurement"]))
        kept = {name: found[name] for name in ("choices", "graph_key", "cpu_seconds")}
        yield {"number": number, **kept, **measured, **found["made"]}
        if number % 50 == 0:
            print(f"pool {number} seed {seed}: {measured['state']} {measured['reward']}", flush=True)
