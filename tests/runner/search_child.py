"""Searches to be killed. Run as a program; the parent process watches and kills its forks.

search_child.py kill STRATEGY FOLDER TRIALS SEED   forks a search, kills it -9 at a random moment, and so on
                                                   until a fork comes to the end; prints the kills
search_child.py search STRATEGY FOLDER TRIALS SECONDS   one search; prints its summary
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from search_fakes import FakeSpace, FileEvaluator, cache_key, run

from nasneck.errors import StudyError
from nasneck.runner import Summary
from nasneck.strategy import make_strategy
from nasneck.study import Study, resume

SPACE = FakeSpace(6, 5, 7, 3)
WARM = [(0, 1, 2, 0), (5, 4, 6, 1), (5, 4, 6, 2)]
OPTIONS = {
    "controller": {"hidden": 8, "batch": 4, "epochs": 2},
    "evolution": {"population": 6, "tournament": 3},
    "optuna": {"sampler": "tpe", "settings": {"n_startup_trials": 5}},
    "random": {},
}


def search(name: str, folder: Path, trials: int, *, seconds: float = 0.002) -> Summary:
    if (folder / "study.sqlite").exists():
        study = Study.open(folder, experiment={"strategy": name})
    else:
        study = Study.create(folder, experiment={"strategy": name}, seed=5)
    with study:
        resumed = resume(study, lambda: make_strategy(name, SPACE.decisions, seed=5, options=OPTIONS[name]))
        if resumed.warning:
            raise StudyError(resumed.warning)
        evaluate = FileEvaluator(folder / "notes.txt", seconds)
        return run(
            study,
            resumed.strategy,
            SPACE,
            evaluate,
            cache_key,
            trials=trials,
            warm=WARM,
            snapshot_every=20,
        )


def kill_again_and_again(name: str, folder: Path, trials: int, seed: int) -> int:
    """Each fork gets a random distance to go, seen by its notes, and then some milliseconds more."""
    rng, kills, notes = random.Random(seed), 0, folder / "notes.txt"
    notes.touch()
    while True:
        goal = notes.stat().st_size + rng.choice([0, 15, 60, 150])
        child = os.fork()
        if child == 0:
            search(name, folder, trials)
            os._exit(0)
        ended, status = 0, 0
        while not ended and notes.stat().st_size < goal:
            time.sleep(0.0005)
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            time.sleep(rng.uniform(0, 0.01))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return kills if code == 0 else -1
        kills += 1


if __name__ == "__main__":
    mode, name, folder, trials, extra = sys.argv[1:]
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    # Slow imports happen before the first fork.
    if name == "controller":
        torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    elif name == "optuna":
        make_strategy(name, SPACE.decisions, seed=0).ask()
    if mode == "kill":
        print(kill_again_and_again(name, Path(folder), int(trials), int(extra)))
    else:
        print("ready", flush=True)
        summary = search(name, Path(folder), int(trials), seconds=float(extra))
        print(summary.reason, summary.measured, summary.interrupted, flush=True)
