"""Drivers of searches on Ray, to be killed: processes of their own that need not import everything anew.

Reads one JSON request a line and answers each with one:

    {"cluster": true, "cwd": ...}                        starts a cluster of two CPUs; {"address": ..., "raylet": pid}
    {"search": {...}, "cwd": ..., "log": file}           forks a driver, see :func:`search`; {"pid": ...}
    {"no_room": folder, "cwd": ..., "log": file}         forks a worker of its own, see :func:`without_room`
    {"wait": pid}                                        {"status": exit status, or minus the signal}

A driver does what the command line does: it connects, opens its study, takes in what the spool holds, measures.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from search_fakes import FakeGraph, FakeSpace, cache_key, reward

from nasneck.errors import NasneckError, StudyError
from nasneck.runner import Desk, cluster
from nasneck.runner.cluster import Share, connected
from nasneck.runner.spool import FOLDER, Spool, bring_home
from nasneck.strategy import Strategy, make_strategy
from nasneck.study import Study, resume
from nasneck.trial import Measurement, State

WORKERS = 2
SPACE = FakeSpace(9, 9, 9, 3)
OPTIONS = {
    "controller": {"hidden": 8, "batch": 4, "epochs": 2},
    "evolution": {"population": 6, "tournament": 3},
    "random": {},
}


@dataclass(frozen=True)
class Noted:
    """Notes on the disk which evaluations start and finish, and for which driver; no two measurements are equal."""

    notes: Path
    driver: int
    seconds: float

    def __call__(self, graph: FakeGraph) -> Measurement:
        self._note(f"start {graph.key()} {self.driver} {os.getpid()}")
        time.sleep(self.seconds)
        text = f"{os.getpid()} {time.time_ns()}"
        self._note(f"finish {graph.key()} {self.driver} {os.getpid()}")
        return Measurement(State.OK, reward=reward(graph), text=text)

    def _note(self, text: str) -> None:
        with self.notes.open("ab", buffering=0) as file:
            file.write(f"{text}\n".encode())  # one write, so that two workers do not mix
            os.fsync(file.fileno())


@dataclass(frozen=True)
class Make:
    """Makes the evaluator of a worker, which begins when as many workers are there as there shall be.

    Tune gives a worker that is done the trial of one that is still starting, and ends the latter; with evaluations
    much shorter than a start, there would be one worker for ever.
    """

    evaluator: Noted
    workers: int

    def __call__(self) -> Callable[[FakeGraph], Measurement]:
        ready = self.evaluator.notes.with_name(f"ready {self.evaluator.driver}")
        with ready.open("ab", buffering=0) as file:
            file.write(b"\n")

        def evaluate(graph: FakeGraph) -> Measurement:
            patience = time.monotonic() + 60
            while ready.stat().st_size < self.workers and time.monotonic() < patience:
                time.sleep(0.01)
            return self.evaluator(graph)

        return evaluate


def make(name: str) -> Strategy:
    return make_strategy(name, SPACE.decisions, seed=5, options=OPTIONS[name])


def key_of(choices: tuple[int, ...]) -> str:
    return cache_key(SPACE.decode(choices))


def search(
    name: str, folder: str, *, trials: int, address: str | None, seconds: float = 0.1, pages: int | None = None
) -> str:
    """Make or resume the search in ``folder`` and return how it ended.

    Args:
        name: Of the strategy.
        folder: Of the study; the notes lie beside it.
        trials: To measure.
        address: Of a cluster; None for one of its own, as the command line starts it.
        seconds: Of each evaluation.
        pages: The size at which the study's file system is full.
    """
    from nasneck.runner.tune import run_on_tune

    out = Path(folder).absolute()
    with connected(address, cpus=WORKERS):
        held = (out / "study.sqlite").exists()
        with Study.open(out) if held else Study.create(out, experiment={}, seed=5) as study:
            bring_home(study, out / FOLDER, key_of)
            resumed = resume(study, lambda: make(name))
            if resumed.warning:
                raise StudyError(resumed.warning)
            if pages is not None:
                study._db.execute(f"PRAGMA max_page_count = {pages}")
            desk = Desk(study, resumed.strategy, SPACE, cache_key, trials=trials, workers=WORKERS, snapshot_every=10)
            spool = Spool.create(out / FOLDER)
            try:
                summary = run_on_tune(
                    desk,
                    Make(Noted(out.parent / "notes", os.getpid(), seconds), WORKERS),
                    space=SPACE,
                    workers=WORKERS,
                    share=Share(),
                    spool=spool,
                    scratch=spool.scratch,
                )
            finally:
                spool.remove()
    return summary.text


def without_room(folder: str) -> str:
    """What a worker answers whose disk is full, and what it has left in the spool."""
    from nasneck.runner.worker import Worker

    spool = Spool.create(Path(folder).absolute())
    choices = (1, 2, 3, 0)
    worker = Worker.__new__(Worker)
    worker.setup(
        {"job": json.dumps({"number": 0, "choices": choices, "cache_key": key_of(choices), "latencies": {}})},
        make=lambda: lambda graph: Measurement(State.OK, reward=reward(graph)),
        space=SPACE,
        spool=spool,
        share=Share(),
        reduction=1.0,
        timeout_s=0.0,
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, resource.RLIM_INFINITY))
    answer = worker.step()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return f"{json.loads(answer['measurement'])['reward']} {sorted(path.name for path in spool.folder.iterdir())}"


def _child(request: dict[str, Any]) -> NoReturn:
    status = 1
    try:
        _move(request["cwd"], request["log"])
        print(search(**request["search"]) if "search" in request else without_room(request["no_room"]), flush=True)
        status = 0
    except NasneckError as error:
        print(f"error: {error}", flush=True)
        status = 2
    except BaseException:
        traceback.print_exc(file=sys.stdout)
    sys.stdout.flush()
    os._exit(status)  # taking torch down in order takes a second


def _cluster(request: dict[str, Any], answer: int, stop: int) -> NoReturn:
    _move(request["cwd"], os.devnull)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": WORKERS, "include_dashboard": False})
    raylet = made.head_node.all_processes["raylet"][0].process.pid
    os.write(answer, json.dumps({"address": made.address, "raylet": raylet}).encode() + b"\n")
    os.close(answer)
    os.read(stop, 1)  # until the other end is closed
    made.shutdown()
    os._exit(0)


def _move(cwd: str, log: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    place = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(place, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def serve() -> None:
    """Until standard input ends; what a failed test has left running ends with it."""
    running: set[int] = set()
    started: tuple[int, int] | None = None  # a cluster: its process, and what it watches
    while line := sys.stdin.readline():
        request = json.loads(line)
        answer: dict[str, Any]
        if "wait" in request:
            answer = {"status": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
            running.discard(request["wait"])
        elif "cluster" in request:
            told, tell = os.pipe()
            watched, stop = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(told)
                os.close(stop)
                _cluster(request, tell, watched)
            os.close(tell)
            os.close(watched)
            started = pid, stop
            with os.fdopen(told) as lines:
                answer = json.loads(lines.readline())
        else:
            pid = os.fork()
            if pid == 0:
                if started is not None:
                    os.close(started[1])
                _child(request)
            answer = {"pid": pid}
            running.add(pid)
        print(json.dumps(answer), flush=True)
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if started is not None:
        os.close(started[1])
        os.waitpid(started[0], 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    cluster.ANSWER_S = 90.0  # other tests may keep the machine busy
    # Slow imports happen before the first fork; none of them starts a thread.

    make("controller").ask()
    serve()
