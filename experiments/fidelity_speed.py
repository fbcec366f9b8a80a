"""Candidates an hour: the quick score ``fast`` of settings/fidelity_scores.toml and the naive way, in one run.

    python experiments/fidelity_speed.py [--rounds 3] [--score fast]

Two one-thread processes on both sides. They take turns in blocks: both score one candidate the naive way, then both
score a dozen quickly, so that a busy machine slows both. What the quick way does once (draw views, train the backbone,
compute features) is timed first and charged to a study of 200 candidates; the start of processes is charged to nobody.

The blocks go to ``experiments/results/fidelity_speed.csv``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

import fidelity
import pandas as pd
import torch
from strategies import RESULTS

from nasneck.device import describe_device
from nasneck.rows import write_csv

STUDY = 200  # candidates that share what is done once
PROCESSES = 2
DOZEN = 12


def work(name: str, store: Path, rounds: int, number: int, barrier: Barrier, results: Any) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    sides = {"naive": fidelity.chosen("truth").task(None), "fast": fidelity.chosen(name).task(store)}
    graphs = list(fidelity.candidates(fidelity.chosen("truth").experiment).values())
    barrier.wait()
    begin = time.perf_counter()
    sides["fast"].prepare(seed=0)
    barrier.wait()  # the one that came second has waited for the features
    if number == 0:
        results.put({"what": "features", "candidates": 0, "seconds": time.perf_counter() - begin})
    for task in sides.values():
        task.evaluate(graphs[0], seed=0, steps=2)  # warms up
    for turn in range(rounds):
        for side, count in (("naive", 1), ("fast", DOZEN)):
            barrier.wait()
            begin = time.perf_counter()
            for i in range(count):
                graph = graphs[(turn * PROCESSES + number + i) % len(graphs)]
                assert sides[side].evaluate(graph, seed=0).state == "ok"
            seconds = time.perf_counter() - begin
            results.put(
                {"what": side, "round": turn, "process": number, "candidates": count, "seconds": seconds / count}
            )


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    """The rows of a run."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(1)
        task = fidelity.chosen(name).task(Path(folder))
        begin = time.perf_counter()
        task.prepare_weights()
        rows: list[dict[str, Any]] = [{"what": "backbone", "candidates": 0, "seconds": time.perf_counter() - begin}]
        barrier, results = context.Barrier(PROCESSES), context.Queue()
        processes = [
            context.Process(target=work, args=(name, Path(folder), rounds, number, barrier, results))
            for number in range(PROCESSES)
        ]
        for process in processes:
            process.start()
        rows += [results.get(timeout=600) for _ in range(1 + rounds * 2 * PROCESSES)]
        for process in processes:
            process.join()
    device = describe_device(torch.device("cpu"))
    return [{**row, "seconds": round(row["seconds"], 4), "device": device, "score": name} for row in rows]


def summary(rows: pd.DataFrame) -> dict[str, float]:
    """Candidates an hour of both sides, their ratio by rounds, and what is done once."""
    once = rows[rows["candidates"] == 0]["seconds"].sum()
    naive = rows[rows["what"] == "naive"].groupby("round")["seconds"].mean()
    fast = rows[rows["what"] == "fast"].groupby("round")["seconds"].mean()
    # Wall time of a study: what is done once, then the processes side by side.
    per_hour = {
        "naive": [3600 * PROCESSES / seconds for seconds in naive],
        "fast": [3600 * STUDY / (once + STUDY * seconds / PROCESSES) for seconds in fast],
    }
    ratios = [b / a for a, b in zip(per_hour["naive"], per_hour["fast"], strict=True)]
    return {
        "once_s": once,
        "naive_s": median(naive),
        "fast_s": median(fast),
        "naive_per_hour": median(per_hour["naive"]),
        "fast_per_hour": median(per_hour["fast"]),
        "ratio": median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--score", default="fast")
    given = parser.parse_args(arguments)
    rows = measure(given.score, given.rounds)
    print(write_csv(RESULTS / "fidelity_speed.csv", rows))
    for name, value in summary(pd.DataFrame(rows)).items():
        print(f"{name:>16} {value:.4g}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
