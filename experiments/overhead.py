"""What a search costs beyond its evaluations, measured with evaluations that cost nothing.

    python experiments/overhead.py commit tune long optuna      # some of them, or all by default

    commit   a trial of the in-process runner, in durable commits of SQLite on the same disk     overhead_commit.csv
    tune     a trial of the runner on Ray Tune, in trials of bare Ray Tune on the same Ray       overhead_tune.csv
    long     asks, tells, memory and resume of one long study of the controller and evolution    overhead_long.csv
    optuna   asks and tells of Optuna's samplers as trials add up                                overhead_optuna.csv

The first two are ratios: both sides take turns in one run, so that a busy machine slows both. Set OMP_NUM_THREADS=1.
The CSVs go to ``experiments/results/``; ``--folder`` says on which disk the studies lie.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any, TypeVar, cast

import pandas as pd
import psutil
import torch
from strategies import RESULTS

from nasneck.decision import Choices, Decision
from nasneck.device import describe_device
from nasneck.rows import write_csv
from nasneck.runner import Desk
from nasneck.runner.measuring import measure
from nasneck.space import load_space
from nasneck.strategy import Strategy, make_strategy
from nasneck.strategy.landscape import Landscape
from nasneck.strategy.random import RandomStrategy
from nasneck.study import Study, codec, resume
from nasneck.trial import Measurement, Outcome, State

Row = dict[str, Any]
S = TypeVar("S", bound=Study)
MEMORY = Path("/dev/shm")  # a file system in memory, where there is one
SNAPSHOT_EVERY = 100  # the desk's own default


@dataclass(frozen=True)
class Graph:
    """Stands for a decoded graph."""

    choices: Choices

    def key(self) -> str:
        """As long as a real one."""
        return f"{hash(self.choices) % 2**128:032x}"


@dataclass(frozen=True)
class Space:
    """The decisions of a real space, without the time that its graphs take."""

    decisions: tuple[Decision, ...]

    def decode(self, choices: Choices) -> Graph:
        """Nothing to do."""
        return Graph(choices)


def measured(reward: float = 0.3) -> Measurement:
    """A measurement with all its fields, as a proxy gives it."""
    ap = dict.fromkeys(("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"), reward)
    cost = {"parameters": 460272, "macs": 106530816, "latency_ms": 12.9489, "peak_memory_mb": 1703.55}
    where = {"steps": 200, "device": "cpu: AMD EPYC, 2 threads"}
    return Measurement(
        State.OK, reward=reward, loss=1.09855, image_size=(512, 512), seconds=69.4655, **ap, **cost, **where
    )


@dataclass(frozen=True)
class NoWork:
    """Makes evaluators, and is one, that measures nothing."""

    measurement: Measurement

    def __call__(self) -> Callable[[Graph], Measurement]:
        return self.evaluate

    def evaluate(self, graph: Graph) -> Measurement:
        """The same for all."""
        return self.measurement


class Drawn(RandomStrategy):
    """Has drawn its choices beforehand: what a strategy thinks is no overhead of the runner."""

    def __init__(self, decisions: Sequence[Decision], *, seed: int) -> None:
        super().__init__(decisions, seed=seed)
        self._drawn = [super(Drawn, self).propose(number) for number in range(5000)]

    def propose(self, number: int) -> Choices:
        """The next one."""
        return self._drawn[number % len(self._drawn)]


def new_keys() -> Callable[[Graph], str]:
    """Cache keys that never repeat: a duplicate would cost less than a trial."""
    numbers = itertools.count()
    return lambda graph: f"{next(numbers):032x}"


@contextmanager
def new_study(folder: Path, kind: type[S]) -> Iterator[S]:
    """A study that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        study = cast(S, kind.create(Path(place) / "study", experiment={}, seed=0))
        with study:
            yield study


def commit(space: Space, folder: Path, seed: int, *, blocks: int = 60, size: int = 50) -> Iterator[Row]:
    """Blocks of trials and of commits in turn; a commit is one row of the size of a tell."""
    evaluate = NoWork(measured()).evaluate
    row = ("tell", 0, 0.0, measured().to_json() + 150 * "x")  # an outcome and a cache key beside it
    with (
        new_study(folder, Study) as study,
        closing(sqlite3.connect(study.folder / "bare.sqlite", isolation_level=None)) as db,
    ):
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, kind TEXT, number INTEGER, time REAL, text TEXT)")
        strategy = Drawn(space.decisions, seed=seed)
        desk = Desk(study, strategy, space, new_keys(), trials=10**9, snapshot_every=SNAPSHOT_EVERY)

        def trial() -> None:
            job = desk.next()
            assert job is not None
            desk.finish(job.number, measure(evaluate, job.graph))

        def bare() -> None:
            db.execute("INSERT INTO event (kind, number, time, text) VALUES (?, ?, ?, ?)", row)

        sides: dict[str, Callable[[], None]] = {"trial_ms": trial, "commit_ms": bare}
        for block in range(-1, blocks):
            took: dict[str, float] = {}
            for name, call in list(sides.items())[:: 1 if block % 2 else -1]:
                start = time.perf_counter()
                for _ in range(size):
                    call()
                took[name] = 1000 * (time.perf_counter() - start) / size
            if block >= 0:  # the first one warms up
                ratio = took["trial_ms"] / took["commit_ms"]
                yield {"block": block, "of": size, **{name: took[name] for name in sides}, "ratio": ratio}


class TimedStudy(Study):
    """A study that adds up how long it was being written."""

    seconds = 0.0

    def asked(self, *given: Any, **named: Any) -> None:
        """See :meth:`Study.asked`."""
        self._timed(super().asked, *given, **named)

    def told(self, *given: Any, **named: Any) -> None:
        """See :meth:`Study.told`."""
        self._timed(super().told, *given, **named)

    def _timed(self, write: Callable[..., None], *given: Any, **named: Any) -> None:
        start = time.perf_counter()
        write(*given, **named)
        self.seconds += time.perf_counter() - start


def tune(
    space: Space, folder: Path, seed: int, *, rounds: int = 8, trials: int = 200, workers: int = 2
) -> Iterator[Row]:
    """Searches by us and by bare Tune in turn: the same settings, workers and sizes.

    The time of a trial is taken over the second half of a run, when all workers have been started for long. The
    third side is ours with its study in memory: what the runner takes without the disk. ``commits_ms`` is how long the
    driver waited for a trial's two commits.
    """
    from nasneck.runner.cluster import connected

    fair_workers()
    folders = {"bare_ms": folder, "nasneck_ms": folder, "memory_ms": MEMORY}
    if not MEMORY.is_dir():
        del folders["memory_ms"]
    with connected(None, cpus=workers):
        for turn in range(-1, rounds):
            took: dict[str, float] = dict.fromkeys(folders, 0.0)
            commits = 0.0
            for name in list(folders)[:: 1 if turn % 2 else -1]:
                with new_study(folders[name], TimedStudy) as study:
                    run = _tune_bare if name == "bare_ms" else _tune_ours
                    ends = run(study, space, seed, trials, workers)
                    assert len(ends) == trials
                    took[name] = 1000 * (ends[-1] - ends[trials // 2 - 1]) / (trials - trials // 2)
                    if name == "nasneck_ms":
                        commits = 1000 * study.seconds / trials
            if turn >= 0:  # the first one starts Ray's own processes
                ratios = {"ratio": took["nasneck_ms"] / took["bare_ms"]}
                if "memory_ms" in took:
                    ratios["ratio_memory"] = took["memory_ms"] / took["bare_ms"]
                yield {"round": turn, "of": trials, "workers": workers, **took, "commits_ms": commits, **ratios}


def fair_workers() -> None:
    """Else the workers of a Ray that this process starts wait for other work on the machine.

    And they import what lies beside this file.
    """
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    os.environ |= {"RAY_worker_niceness": "0", "PYTHONPATH": path}


def _tune_ours(study: Study, space: Space, seed: int, trials: int, workers: int) -> list[float]:
    from nasneck.runner.cluster import Share
    from nasneck.runner.spool import FOLDER, Spool
    from nasneck.runner.tune import run_on_tune

    ends: list[float] = []
    desk = Desk(
        study,
        make_strategy("random", space.decisions, seed=seed),
        space,
        new_keys(),
        trials=trials,
        workers=workers,
        on_event=lambda progress: ends.append(time.perf_counter()) if progress.trial.state else None,
    )
    spool = Spool.create(study.folder / FOLDER)  # as a search has it
    make = NoWork(measured())
    run_on_tune(desk, make, space=space, workers=workers, share=Share(), spool=spool, scratch=spool.scratch)
    return ends


def _tune_bare(study: Study, space: Space, seed: int, trials: int, workers: int) -> list[float]:
    import overhead_bare

    return overhead_bare.run(study.folder / "tune", trials=trials, workers=workers)


def long(space: Space, folder: Path, seed: int, *, trials: int) -> Iterator[Row]:
    """One study each, with nearly a snapshot's trials more, so that resuming has most to repeat.

    ``ask`` is all of the desk's next job, ``tell`` all of its taking in of a result: strategy, log, snapshot.
    ``collect_max_ms`` is the longest garbage collection in a tell: now and then Python goes through all that its
    libraries have made, and the call in which that falls takes so much longer.
    """
    for name in ("controller", "evolution"):

        def make(name: str = name) -> Strategy:
            return make_strategy(name, space.decisions, seed=seed)

        with tempfile.TemporaryDirectory(dir=folder) as place:
            path = Path(place) / "study"
            with Study.create(path, experiment={}, seed=seed, decisions=space.decisions) as study:
                for row in grow(study, make(), space, seed, trials=trials):
                    yield {"strategy": name, **row}
            start = time.perf_counter()
            with Study.open(path) as study:
                Desk(study, resume(study, make).strategy, space, new_keys(), trials=10**9)
                seconds = time.perf_counter() - start
                stored = study.latest_snapshot()
                assert stored is not None
                text, tensors = codec.snapshot_to_row(stored[1])
                yield {
                    "strategy": name,
                    "trials": study.next_number,
                    "rss_mb": _rss_mb(),
                    "resume_s": seconds,
                    "events_repeated": len(list(study.events(after=stored[0]))),
                    "snapshot_kb": (len(text) + len(tensors or b"")) / 1000,
                    "file_mb": sum(file.stat().st_size for file in path.iterdir()) / 1e6,
                }


def grow(study: Study, strategy: Strategy, space: Space, seed: int, *, trials: int) -> Iterator[Row]:
    """A row for each tenth of so many trials, with means over it; then nearly a snapshot's trials more."""
    desk = Desk(study, strategy, space, new_keys(), trials=10**9, snapshot_every=SNAPSHOT_EVERY)
    landscape = Landscape(space.decisions, seed=seed)
    noise = random.Random(seed)
    asks: list[float] = []
    tells: list[float] = []
    collected: list[float] = []
    for number in range(1, trials + SNAPSHOT_EVERY):
        asking = time.perf_counter()
        job = desk.next()
        asks.append(time.perf_counter() - asking)
        assert job is not None
        measurement = measured(landscape.evaluate(job.graph.choices, noise))
        with collections_in(collected):
            telling = time.perf_counter()
            desk.finish(job.number, measurement)
            tells.append(time.perf_counter() - telling)
        if number % (trials // 10) == 0 and number <= trials:
            longest = 1000 * max(collected, default=0.0)
            yield {"trials": number, **_milliseconds(asks, tells), "collect_max_ms": longest, "rss_mb": _rss_mb()}
            asks, tells, collected = [], [], []
    desk.next()  # and one in flight


@contextmanager
def collections_in(seconds: list[float]) -> Iterator[None]:
    """Note how long each garbage collection inside takes."""

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal start
        if phase == "start":
            start = time.perf_counter()
        else:
            seconds.append(time.perf_counter() - start)

    start = 0.0
    gc.callbacks.append(note)
    try:
        yield
    finally:
        gc.callbacks.remove(note)


def optuna(space: Space, folder: Path, seed: int) -> Iterator[Row]:
    """Strategy alone, without a study; means over the last 25 trials before each row's number.

    ``repeat_s`` is all time since the first ask: as these strategies keep no snapshots, a resume takes so long.
    """
    marks = {"tpe": (100, 250, 500, 1000, 2000), "nsgaii": (100, 250, 500, 1000, 2000), "gp": (50, 100, 150)}
    for sampler, rows in marks.items():
        strategy = make_strategy("optuna", space.decisions, seed=seed, options={"sampler": sampler})
        landscape = Landscape(space.decisions, seed=seed)
        noise = random.Random(seed)
        asks: list[float] = []
        tells: list[float] = []
        for number in range(1, rows[-1] + 1):
            start = time.perf_counter()
            ask = strategy.ask()
            asks.append(time.perf_counter() - start)
            outcome = Outcome((landscape.evaluate(ask.choices, noise),))
            start = time.perf_counter()
            strategy.tell(ask.number, outcome)
            tells.append(time.perf_counter() - start)
            if number in rows:
                took = _milliseconds(asks[-25:], tells[-25:])
                yield {"sampler": sampler, "trials": number, **took, "repeat_s": sum(asks) + sum(tells)}


def _milliseconds(asks: Sequence[float], tells: Sequence[float]) -> dict[str, float]:
    return {
        "ask_ms": 1000 * fmean(asks),
        "tell_ms": 1000 * fmean(tells),
        "ask_max_ms": 1000 * max(asks),
        "tell_max_ms": 1000 * max(tells),
    }


def _rss_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


PARTS = ("commit", "tune", "long", "optuna")


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; by default all")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where studies are made (default: runs)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=10_000, help="of a long study (default: 10000)")
    given = parser.parse_args()
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; there are {', '.join(PARTS)}")
    given.folder.mkdir(parents=True, exist_ok=True)
    device = describe_device(torch.device("cpu"))
    space = Space(load_space("nas_fpn", repeats=1).decisions)
    for part in given.parts or PARTS:
        if part == "long":
            found = long(space, given.folder, given.seed, trials=given.trials)
        else:
            found = {"commit": commit, "tune": tune, "optuna": optuna}[part](space, given.folder, given.seed)
        rows = [{**rounded(row), "seed": given.seed, "device": device} for row in found]
        show(part, pd.DataFrame(rows).drop(columns=["seed", "device"]))
        print(write_csv(RESULTS / f"overhead_{part}.csv", rows), flush=True)
    return 0


def show(part: str, rows: pd.DataFrame) -> None:
    """The rows, or for ratios their medians and spread."""
    print(f"\n{part}")
    if "ratio" not in rows:
        print(rows.to_string(index=False, na_rep=""))
        return
    for name in (column for column in rows if column.endswith("_ms") or column.startswith("ratio")):
        values = [float(value) for value in rows[name]]
        low, _, high = quantiles(values, n=4)
        spread = f"quartiles {low:.3g} to {high:.3g}, extremes {min(values):.3g} to {max(values):.3g}"
        print(f"{name:>12}  median {median(values):.3g}  ({spread})")


def rounded(row: Row) -> Row:
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in row.items()}


if __name__ == "__main__":
    sys.exit(main())
