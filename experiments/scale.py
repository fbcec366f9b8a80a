"""How cost grows as the work grows.

    python experiments/scale.py                    # all, some minutes on a quiet machine
    python experiments/scale.py cells workers      # some of it, printed and not written

    candidates   a search that evaluates for nothing: 100, 1,000, 10,000 trials of three strategies
    images       generated images of 128 px: the features of the cached backbone, and a training step
    pixels       images of 64, 128, 256 px: a training step, multiply-adds of the neck
    cells        2, 4, 8, 16 intermediate cells: to decode, to compile, to train
    workers      one and two: candidates per hour in the process and on Ray Tune, and the wait for the first one

Proxy tasks are ``quick`` with a backbone of random weights: what they cost does not depend on them. Rows are of one
``what`` each in the order of size; ``growth`` is by how much the value grew since the row before, ``size_growth`` by
how much the work did. The CSV is ``experiments/results/scale.csv``. Set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import pandas as pd
import torch
from overhead import Space, fair_workers, grow, new_study, rounded
from strategies import RESULTS

from nasneck import compile_neck
from nasneck.data import DataConfig, DetectionData, load_data
from nasneck.data.shapes import ShapesConfig
from nasneck.device import describe_device
from nasneck.experiment import experiment_from_dict
from nasneck.graph import NeckGraph
from nasneck.necks import nas_fpn
from nasneck.proxy import NECK_PRESETS, PRESETS, AugmentConfig, ProxyTask
from nasneck.proxy.weights import make_backbone
from nasneck.rows import write_csv
from nasneck.runner.progress import Progress
from nasneck.search import search
from nasneck.space import SearchSpace, load_space
from nasneck.strategy import make_strategy
from nasneck.study import Study

Row = dict[str, Any]
QUICK = replace(PRESETS["quick"], reward="loss", augment=AugmentConfig(views=2))  # no AP: its images would be features
NECK = NECK_PRESETS["quick"]
EVERY, STOPS = 8, 5  # a training stops after every so many steps, so many times
STRATEGIES = ("random", "evolution", "controller")


def row(what: str, size: int, value: float, unit: str, *, per: str, count: float | None = None) -> Row:
    """One measurement.

    Args:
        what: What was measured.
        size: Of the work.
        value: In ``unit``, for all of it.
        per: What the cost is divided by, in words.
        count: Its number; ``size`` by default.
    """
    return {
        "what": what,
        "size": size,
        "value": value,
        "unit": unit,
        "per_unit": value / (size if count is None else count),
        "per": per,
    }


def with_growth(rows: Sequence[Row]) -> list[Row]:
    """The rows with their growth since the row before of the same ``what``; none for the first."""
    before: dict[str, Row] = {}
    grown = []
    for found in rows:
        last = before.get(found["what"])
        growth: Mapping[str, float | None] = {"growth": None, "size_growth": None}
        if last is not None:
            growth = {"growth": found["value"] / last["value"], "size_growth": found["size"] / last["size"]}
        grown.append({**found, **growth})
        before[found["what"]] = found
    return grown


def candidates(folder: Path, seed: int, *, sizes: Sequence[int] = (100, 1000, 10_000)) -> Iterator[Row]:
    """Asks and tells of whole studies, without what evaluations would take."""
    space = Space(load_space("nas_fpn", repeats=1).decisions)
    for name in STRATEGIES:
        for size in sizes:
            strategy = make_strategy(name, space.decisions, seed=seed)
            with new_study(folder, Study) as study:
                tenths = list(grow(study, strategy, space, seed, trials=size))
            seconds = sum(tenth["ask_ms"] + tenth["tell_ms"] for tenth in tenths) / 1000 * (size // 10)
            yield row(f"search with {name}, no evaluation", size, seconds, "s", per="candidate")


def images(folder: Path, seed: int, *, sizes: Sequence[int] = (250, 500, 1000, 2000)) -> Iterator[Row]:
    """Training images of one set, for trainings as long as the preset's.

    These look at no more than ``steps`` times ``batch_size`` views, so the features of a large set are a part of it.
    """
    rows: list[Row] = []
    for size in sizes:
        data = shapes(folder, sizes[-1], seed, limit=size)
        with tempfile.TemporaryDirectory(dir=folder) as kept:
            task, seconds = prepared(data, canvas=128, seed=seed, steps=QUICK.train.steps, features=Path(kept))
            megabytes = sum(file.stat().st_size for file in Path(kept).rglob("*") if file.is_file()) / 2**20
            rows += [
                row("features of generated images", size, seconds, "s", per="image"),
                row("memory of features", size, megabytes, "MiB", per="image"),
                step_row("training step, by images", size, step_ms(task, nas_fpn(repeats=1), seed)[0]),
            ]
    yield from sorted(rows, key=lambda found: found["what"])  # stable: sizes stay in order


def pixels(folder: Path, seed: int, *, sizes: Sequence[int] = (64, 128, 256), count: int = 128) -> Iterator[Row]:
    """The same images on canvases of several sizes."""
    rows: list[Row] = []
    data = shapes(folder, count, seed)
    for size in sizes:
        task, _ = prepared(data, canvas=size, seed=seed, amp="off")  # as it has to be on the smallest canvas
        milliseconds, macs = step_ms(task, nas_fpn(repeats=1), seed)
        kilopixels = size * size / 1000
        rows += [
            row("training step, by side in px", size, milliseconds, "ms", per="1,000 px", count=kilopixels),
            row("multiply-adds of the neck, by side in px", size, macs / 1e6, "M", per="1,000 px", count=kilopixels),
        ]
    yield from sorted(rows, key=lambda found: found["what"])


def cells(
    folder: Path,
    seed: int,
    *,
    sizes: Sequence[int] = (2, 4, 8, 16),
    count: int = 128,
    graphs: int = 20,
    trained: int = 3,
) -> Iterator[Row]:
    """Random candidates of spaces with more and more intermediate cells, beside the five output cells."""
    rows: list[Row] = []
    task, _ = prepared(shapes(folder, count, seed), canvas=128, seed=seed)
    for size in sizes:
        space = load_space("nas_fpn", intermediate=size, repeats=1)
        total = size + 5
        decode, compiled, found = describe(space, task, graphs, seed)
        steps = [step_ms(task, graph, seed) for graph in found[:trained]]
        rows += [
            row("decode and key, by intermediate cells", size, decode, "ms", per="cell", count=total),
            row("compile, by intermediate cells", size, compiled, "ms", per="cell", count=total),
            row(
                "multiply-adds, by intermediate cells",
                size,
                fmean(m for _, m in steps) / 1e6,
                "M",
                per="cell",
                count=total,
            ),
            row(
                "training step, by intermediate cells",
                size,
                fmean(ms for ms, _ in steps),
                "ms",
                per="cell",
                count=total,
            ),
        ]
    yield from sorted(rows, key=lambda found: found["what"])


def describe(space: SearchSpace, task: ProxyTask, graphs: int, seed: int) -> tuple[float, float, list[NeckGraph]]:
    """Milliseconds to decode a candidate and give it its key, and to compile it, means; and the candidates."""
    rng = random.Random(seed)
    decode = compiled = 0.0
    found = []
    for choices in [space.sample(rng) for _ in range(graphs)]:
        start = time.perf_counter()
        graph = space.decode(choices)
        graph.key()
        decode += time.perf_counter() - start
        start = time.perf_counter()
        compile_neck(graph, task.in_channels, NECK.channels)
        compiled += time.perf_counter() - start
        found.append(graph)
    return 1000 * decode / graphs, 1000 * compiled / graphs, found


def workers(
    folder: Path,
    seed: int,
    *,
    trials: int = 4,
    images: int = 400,
    steps: int | None = None,
    counts: Sequence[int] = (1, 2),
) -> Iterator[Row]:
    """Searches of ``trials`` real candidates a worker, in the process and on a Ray of this machine.

    Candidates per hour are counted from the first result of every worker on, and the wait for the first result from
    the beginning of the search: for Ray's workers to start, import and compute features, and for one candidate.
    """
    from nasneck.runner.cluster import connected

    weights = folder / "backbone.pt"
    torch.save(make_backbone(QUICK.backbone, levels=NECK.inputs, seed=0).state_dict(), weights)
    train = {} if steps is None else {"train": {"steps": steps}}
    table = {
        "schema": "nasneck.experiment/1",
        "seed": seed,
        "device": "cpu",
        "data": {"root": str(folder / "searched"), "shapes": {"images": images, "size": 128}},
        "space": {"name": "nas_fpn", "repeats": 1},
        "proxy": {"backbone": {"weights": str(weights.absolute())}, **train},
        "strategy": {"name": "random"},
    }

    def measure(name: str, count: int, resources: Row) -> Iterator[Row]:
        ends: list[float] = []
        settings = {"search": {"trials": trials * count}, "resources": {"workers": count, **resources}}
        with tempfile.TemporaryDirectory(dir=folder) as out:
            start = time.perf_counter()
            search(
                experiment_from_dict({**table, **settings}, where="scale.py"),
                Path(out) / "study",
                on_event=lambda progress: ends.append(time.perf_counter()) if _ended(progress) else None,
            )
        rate = 3600 * (len(ends) - count) / (ends[-1] - ends[count - 1])
        yield row(f"candidates an hour, {name}", count, rate, "1/h", per="worker")
        yield row(f"wait for the first result, {name}", count, ends[0] - start, "s", per="search", count=1)

    yield from measure("in the process", 1, {})
    fair_workers()
    with connected(None, cpus=max(counts)):
        rows = [found for count in counts for found in measure("Ray Tune", count, {"address": "auto"})]
    yield from sorted(rows, key=lambda found: found["what"])


def _ended(progress: Progress) -> bool:
    return progress.trial.state is not None


def shapes(folder: Path, images: int, seed: int, *, limit: int | None = None) -> DetectionData:
    """Generated images of 128 px: so many to train on, or ``limit`` of them, and a few more."""
    total = images + images // 10 + 8
    made = ShapesConfig(images=total, seed=seed, val_fraction=4 / total)
    root = str(folder / f"shapes-{images}")
    return load_data(DataConfig(root=root, shapes=made, reward_images=4, train_limit=limit or images))


def prepared(
    data: DetectionData,
    *,
    canvas: int,
    seed: int,
    steps: int | None = None,
    features: Path | None = None,
    amp: Literal["auto", "off"] = "auto",
) -> tuple[ProxyTask, float]:
    """A task with the features of trainings of ``steps``, else of the timed ones, and the seconds these took."""
    config = replace(QUICK, canvas=canvas, amp=amp)
    weights = make_backbone(config.backbone, levels=NECK.inputs, seed=0).state_dict()
    task = ProxyTask(config, NECK, data, store=None, features=features, device="cpu", weights=weights)
    task.prepare_weights()
    start = time.perf_counter()
    task.prepare(seed=seed, steps=steps or _stops()[1])
    return task, time.perf_counter() - start


def step_row(what: str, size: int, milliseconds: float) -> Row:
    """A step's time, which is to be the same for all sizes."""
    return row(what, size, milliseconds, "ms", per="step", count=1)


def _stops() -> tuple[list[int], int]:
    """Where the trainings that are timed stop, and their steps in all."""
    rungs = [EVERY * (stop + 1) for stop in range(STOPS)]
    return rungs, rungs[-1] + 1


def step_ms(task: ProxyTask, graph: NeckGraph, seed: int) -> tuple[float, int]:
    """Milliseconds of a training step, the median of some stretches after a first one, and the neck's multiply-adds."""
    rungs, steps = _stops()
    times = []
    with closing(task.stages(graph, seed=seed, steps=steps, rungs=rungs)) as stages:  # type: ignore[type-var]
        seen = [next(stages)]
        for _ in rungs[1:]:
            start = time.perf_counter()
            seen.append(next(stages))
            times.append(time.perf_counter() - start)
    macs = seen[0].macs
    if macs is None:
        raise RuntimeError(seen[0].text)
    return 1000 * median(times) / EVERY, macs


PARTS = {"candidates": candidates, "images": images, "pixels": pixels, "cells": cells, "workers": workers}


def main() -> int:
    """Measure, print, and write if it is all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; by default all")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="for data and studies (default: runs)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    given.folder.mkdir(parents=True, exist_ok=True)
    made = {"seed": given.seed, "device": describe_device(torch.device("cpu"))}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for part in given.parts or PARTS:
            start = time.perf_counter()
            found = with_growth(list(PARTS[part](Path(folder), given.seed)))
            print(f"\n{part}, {time.perf_counter() - start:.0f} s")
            print(pd.DataFrame(map(rounded, found)).to_string(index=False, na_rep=""), flush=True)
            rows += [{"part": part, **rounded(one), **made} for one in found]
    if not given.parts:
        print(write_csv(RESULTS / "scale.csv", rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
