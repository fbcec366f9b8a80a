"""Candidates an hour: the quick score ``fast`` of settings/fidelity_scores.toml and the naive way, in one run.

    python experiments/fidelity_speed.py [--rounds 3] [--score fast]    # or shared
    python experiments/fidelity_speed.py --setting gpu --processes 1 8

Two one-thread processes on both sides, or as many as are asked for. They take turns in blocks: all score one candidate
the naive way, then all score a dozen quickly, so that a busy machine slows both. What the quick way does once (draw
views, train backbone and shared weights, compute features) is timed first and charged to a study of 200 candidates; the
start of processes is charged to nobody.

The blocks go to ``experiments/results/fidelity_speed.csv``, for the other setting ``fidelity_gpu_speed.csv``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

import fidelity
import pandas as pd
import torch

from nasneck.device import describe_device
from nasneck.provenance import command, commit

STUDY = 200  # candidates that share what is done once
DOZEN = 12
SAME = ("score", "processes", "device")  # of the rows of a run


@dataclass(frozen=True)
class Plan:
    """What is measured: a score of a setting in so many rounds and processes."""

    score: str
    setting: fidelity.Setting = fidelity.CPU
    rounds: int = 3
    processes: int = 2

    @property
    def fast(self) -> fidelity.Score:
        """The quick way."""
        return fidelity.chosen(self.score, self.setting)

    @property
    def naive(self) -> fidelity.Score:
        """The other one."""
        return fidelity.chosen("truth", self.setting)


def work(plan: Plan, store: Path, number: int, barrier: Barrier, results: Any) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    sides = {"naive": plan.naive.task(None), "fast": plan.fast.task(store)}
    graphs = list(fidelity.candidates(plan.naive.experiment).values())
    barrier.wait()
    begin = time.perf_counter()
    sides["fast"].prepare(seed=0)
    barrier.wait()  # the one that came second has waited for the features
    if number == 0:
        results.put({"what": "features", "candidates": 0, "seconds": time.perf_counter() - begin})
    for task in sides.values():
        task.evaluate(graphs[0], seed=0, steps=2)  # warms up
    for turn in range(plan.rounds):
        for side, count in (("naive", 1), ("fast", DOZEN)):
            barrier.wait()
            begin = time.perf_counter()
            for i in range(count):
                graph = graphs[(turn * plan.processes + number + i) % len(graphs)]
                assert sides[side].evaluate(graph, seed=0).state == "ok"
            seconds = time.perf_counter() - begin
            results.put(
                {"what": side, "round": turn, "process": number, "candidates": count, "seconds": seconds / count}
            )


def measure(plan: Plan) -> list[dict[str, Any]]:
    """The rows of a run."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(1)
        task = plan.fast.task(Path(folder))
        begin = time.perf_counter()
        task.prepare_weights()
        rows: list[dict[str, Any]] = [{"what": "backbone", "candidates": 0, "seconds": time.perf_counter() - begin}]
        barrier, results = context.Barrier(plan.processes), context.Queue()
        processes = [
            context.Process(target=work, args=(plan, Path(folder), number, barrier, results))
            for number in range(plan.processes)
        ]
        for process in processes:
            process.start()
        rows += [results.get(timeout=600) for _ in range(1 + plan.rounds * 2 * plan.processes)]
        for process in processes:
            process.join()
    made = {"device": describe_device(task.device), "score": plan.score, "processes": plan.processes}
    return [{**row, "seconds": round(row["seconds"], 4), **made} for row in rows]


def summary(rows: pd.DataFrame, study: int = STUDY) -> dict[str, float]:
    """Candidates an hour of both sides, their ratio by rounds, and what is done once; for one number of processes."""
    processes = int(rows["processes"].iloc[0])
    once = rows[rows["candidates"] == 0]["seconds"].sum()
    naive = rows[rows["what"] == "naive"].groupby("round")["seconds"].mean()
    fast = rows[rows["what"] == "fast"].groupby("round")["seconds"].mean()
    # Wall time of a study: what is done once, then the processes side by side.
    per_hour = {
        "naive": [3600 * processes / seconds for seconds in naive],
        "fast": [3600 * study / (once + study * seconds / processes) for seconds in fast],
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
    parser.add_argument("--setting", choices=list(fidelity.SETTINGS), default="cpu")
    parser.add_argument("--processes", type=int, nargs="+", default=[2])
    given = parser.parse_args(arguments)
    setting = fidelity.SETTINGS[given.setting]
    for processes in given.processes:
        found = measure(Plan(given.score, setting, given.rounds, processes))
        keep(setting.csv("speed"), found)
        print(f"{processes} processes")
        for name, value in summary(pd.DataFrame(found)).items():
            print(f"{name:>16} {value:.4g}", flush=True)
    return 0


def keep(path: Path, rows: list[dict[str, Any]]) -> None:
    """Put rows into a CSV in place of those it holds of the same score, number of processes and processor."""
    made = {"command": command(), "commit": commit()}
    new = pd.DataFrame([{**row, **made} for row in rows])
    if path.exists():
        old = pd.read_csv(path)
        same = (old[list(SAME)] == new[list(SAME)].iloc[0]).all(axis=1)
        new = pd.concat([old[~same], new])
    new.to_csv(path, index=False)


if __name__ == "__main__":
    raise SystemExit(main())
