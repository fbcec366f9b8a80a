"""Strategies on a test problem over the NAS-FPN space whose truth is known.

    python experiments/synthetic.py

The problem is :class:`nasneck.strategy.landscape.Landscape`: rewards of variance 1, half of it from single decisions
and half from pairs, and noise of 0.2 in every evaluation. What counts is the true value of the candidate with the best
noisy reward so far. Seeds 0 to 9 decide about structure, noise and strategy; settings were chosen on seeds 100 to 109.
NSGA-II and Optuna's TPE search two independent landscapes at once; what counts is the hypervolume above (-2, -2) of
the true values on the front that they believe in.

What is done is in ``experiments/results/synthetic.csv``, one row a search and number of evaluations; the same command
goes on from there. It prints the table in the end.
"""

from __future__ import annotations

import csv
import platform
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from nasneck.device import describe_device
from nasneck.provenance import command, commit
from nasneck.space import load_space
from nasneck.strategy import make_strategy
from nasneck.strategy.landscape import Landscape
from nasneck.trial import Outcome

TARGET = Path(__file__).resolve().parent / "results" / "synthetic.csv"
DECISIONS = load_space("nas_fpn", repeats=1).decisions
MARKS = (50, 100, 150, 200, 300, 400, 1000, 2000)


@dataclass(frozen=True)
class Search:
    """One strategy, so many evaluations and seeds."""

    label: str
    strategy: str
    evaluations: int
    seeds: int = 10
    options: dict[str, Any] = field(default_factory=dict)
    objectives: int = 1


PLAN = (
    Search("random", "random", 2000),
    Search("evolution", "evolution", 400),
    Search("tpe", "optuna", 400, options={"sampler": "tpe"}),
    Search("controller fast", "controller", 400, options={"preset": "fast"}),
    Search("controller nasnet", "controller", 2000, options={"preset": "nasnet"}),
    Search("two: random", "random", 400, objectives=2),
    Search("two: nsgaii", "optuna", 400, options={"sampler": "nsgaii"}, objectives=2),
    Search("two: tpe", "optuna", 400, seeds=3, options={"sampler": "tpe"}, objectives=2),
    Search("gp", "optuna", 150, seeds=3, options={"sampler": "gp"}),
)


def main() -> int:
    """Run what is not done, then print the table."""
    torch.set_num_threads(1)
    made = {
        "command": command(),
        "commit": commit(),
        "hardware": describe_device(torch.device("cpu")),
        "python": platform.python_version(),
    }
    done = _done()
    for search in PLAN:
        for seed in range(search.seeds):
            if (search.label, seed) in done:
                continue
            start = time.monotonic()
            rows = [
                {"search": search.label, "seed": seed, "evaluations": n, "value": v} for n, v in values(search, seed)
            ]
            seconds = {"seconds": round(time.monotonic() - start, 2)}
            _append([{**row, **seconds, **made} for row in rows])
            print(search.label, seed, f"{rows[-1]['value']:.2f}", seconds["seconds"], "s", flush=True)
    print(table(pd.read_csv(TARGET)))
    return 0


def values(search: Search, seed: int) -> Iterator[tuple[int, float]]:
    """(evaluations, what was found by then), at every mark."""
    lands = [Landscape(DECISIONS, seed + 1000 * i) for i in range(search.objectives)]
    options = {**search.options, **({"objectives": search.objectives} if search.strategy == "optuna" else {})}
    strategy, noise = make_strategy(search.strategy, DECISIONS, seed=seed, options=options), random.Random(seed)
    seen: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
    for evaluations in range(1, search.evaluations + 1):
        ask = strategy.ask()
        noisy = tuple(land.evaluate(ask.choices, noise) for land in lands)
        seen.append((noisy, tuple(land.truth(ask.choices) for land in lands)))
        strategy.tell(ask.number, Outcome(noisy))
        if evaluations in MARKS:
            yield evaluations, max(seen)[1][0] if search.objectives == 1 else hypervolume(front(seen))


def front(seen: Sequence[tuple[tuple[float, ...], tuple[float, ...]]]) -> list[tuple[float, ...]]:
    """True values of those that no other one beats by its noisy values."""
    kept: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
    for noisy, true in sorted(seen, reverse=True):
        if not kept or noisy[1] > kept[-1][0][1]:
            kept.append((noisy, true))
    return [true for _, true in kept]


def hypervolume(points: Sequence[tuple[float, ...]], reference: float = -2.0) -> float:
    """Area that two objectives, both larger is better, dominate above the reference point."""
    area, height = 0.0, reference
    for x, y in sorted(points, reverse=True):
        if y > height and x > reference:
            area += (x - reference) * (y - height)
            height = y
    return area


def table(rows: pd.DataFrame) -> str:
    """Mean ± standard error over the seeds, in Markdown."""
    marks = sorted(rows["evaluations"].unique())
    lines = ["| search | seeds | " + " | ".join(f"{mark:,}" for mark in marks) + " |"]
    lines.append("|---|---:" + "|---:" * len(marks) + "|")
    for search in dict.fromkeys(rows["search"]):
        own = rows[rows["search"] == search]
        cells = []
        for mark in marks:
            found = own[own["evaluations"] == mark]["value"]
            cells.append(f"{found.mean():.2f} ± {found.sem():.2f}" if len(found) else "")
        lines.append(f"| {search} | {own['seed'].nunique()} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _done() -> set[tuple[str, int]]:
    if not TARGET.exists():
        return set()
    rows = pd.read_csv(TARGET)
    return set(zip(rows["search"], rows["seed"], strict=True))


def _append(rows: list[dict[str, Any]]) -> None:
    new = not TARGET.exists()
    with TARGET.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
