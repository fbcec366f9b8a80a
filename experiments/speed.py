"""Compiled necks beside the implementations that people use, and beside the machine's own limit.

    python experiments/speed.py                # about four minutes on one core; OMP_NUM_THREADS=1
    python experiments/speed.py --only BiFPN   # the cases whose name has this in it, printed only
    python experiments/speed.py --device cuda  # the same and further cases on a GPU

Every case is a ratio. Both sides have the same weights and features, their outputs are compared first, then they take
turns in blocks, on one thread, and the ratio is taken for each pair of blocks: a busy machine slows both. Time is the
process's own on the CPU. On a GPU there are further cases, CUDA graphs and ``torch.compile``; outputs are compared in
full float32 there, then both sides are timed with torch's defaults (convolutions in TF32).

The rows go to ``experiments/results/speed.csv`` or ``speed_cuda.csv``, in place of older ones of this processor.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from speed_cases import CASES, CUDA_CASES, WIDTHS, Case, Run
from strategies import RESULTS
from torch import Tensor

from nasneck.device import describe_device
from nasneck.rows import write_csv

TOLERANCE = {"cpu": 1e-4, "cuda": 1e-3}  # of outputs, relative to their largest value, in float32
CPU = torch.device("cpu")


def measure(case: Case, device: torch.device = CPU, *, rounds: int = 15, seconds: float = 0.2) -> dict[str, Any]:
    """The row of a case.

    Args:
        case: What is compared.
        device: Where.
        rounds: Pairs of blocks, two at least.
        seconds: What a block of the slower side takes, about.

    Raises:
        ValueError: outputs that differ by more than ``TOLERANCE``.
    """
    torch.manual_seed(0)
    with torch.no_grad():
        sides = case.make(case.pixels, case.channels, device)
        with full_float32():
            off = deviation(sides.ours(), sides.theirs()) if sides.alike else None
        if off is not None and not off <= TOLERANCE[device.type]:
            raise ValueError(f"{case.name} and {case.against}: outputs differ by {off:.2g}")
        runs = {"ours_ms": sides.ours, "theirs_ms": sides.theirs}
        repeats = {}
        for name, run in runs.items():
            took(run, 1, device)
            repeats[name] = max(1, round(seconds / max(took(run, 2, device) / 2, 1e-9))) if seconds else 1
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(rounds):
            for name in list(runs)[:: 1 if turn % 2 else -1]:
                times[name].append(1000 * took(runs[name], repeats[name], device) / repeats[name])
    ratios = [ours / theirs / sides.work for ours, theirs in zip(*times.values(), strict=True)]
    if case.sense == "at least":
        ratios = [1 / ratio for ratio in ratios]
    low, middle, high = quantiles(ratios, n=4)
    where = {"pixels": case.pixels, "channels": case.channels, "in_channels": " ".join(map(str, WIDTHS))}
    return {
        "case": case.name,
        "against": case.against,
        **where,
        "sense": case.sense,
        "bound": case.bound,
        "ratio": _short(middle),
        "ratio_low": _short(low),
        "ratio_high": _short(high),
        **{name: _short(median(values)) for name, values in times.items()},
        "rounds": rounds,
        "repeats": repeats["ours_ms"],
        "deviation": None if off is None else _short(off),
        "torch": torch.__version__,
        "device": describe_device(device),
    }


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Products of 24 bits on GPUs."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def took(run: Run, times: int, device: torch.device) -> float:
    """Seconds for so many runs: of this process alone on the CPU, of the clock with a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    for _ in range(times):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def deviation(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest difference of two maps, relative to the map's largest value."""
    assert [x.shape for x in ours] == [x.shape for x in theirs]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="part of the names of the cases wanted; nothing is written then")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of blocks (default: 15)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(given.device)
    rows = []
    for case in CASES if device == CPU else CUDA_CASES:
        if given.only and given.only not in case.name:
            continue
        rows.append(row := measure(case, device, rounds=given.rounds))
        print(
            f"{case.name:41} {case.against:26} {case.pixels} px {case.channels:3} channels: {row['ratio']:.3f}"
            f" ({row['ratio_low']:.3f} to {row['ratio_high']:.3f}), {case.sense} {case.bound:.2f};"
            f" {row['ours_ms']:.4g} and {row['theirs_ms']:.4g} ms",
            flush=True,
        )
    if not given.only:
        path = RESULTS / ("speed.csv" if device == CPU else "speed_cuda.csv")
        print(write_csv(path, [*of_others(path, describe_device(device)), *rows]))
    return 0


def of_others(path: Path, device: str) -> list[dict[str, Any]]:
    """The rows of other processors."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["device"] != device]


if __name__ == "__main__":
    sys.exit(main())
