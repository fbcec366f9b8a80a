"""kill -9 and Ctrl-C, against real processes; with NASNECK_LONG=1, at least 20 kills for each strategy."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import search_child

import nasneck
from nasneck.study import Study
from nasneck.trial import State

CHILD = Path(__file__).with_name("search_child.py")
LONG = bool(os.environ.get("NASNECK_LONG"))
# Trials; among 210 graphs, so that most of the many are found.
FEW = {"random": 80, "controller": 60, "evolution": 60, "optuna": 50}
MANY = {"random": 180, "controller": 160, "evolution": 160, "optuna": 160}


def start(*args: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(nasneck.__file__).parents[1])}
    # Newer Pythons warn of forks in processes with threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(CHILD), *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def story(folder: Path) -> list[object]:
    with Study.read(folder) as study:
        return [
            (trial.number, trial.choices, trial.graph_key, trial.source, trial.state, trial.measurement)
            for trial in study.trials()
        ]


def check_integrity(folder: Path) -> None:
    db = sqlite3.connect(folder / "study.sqlite")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


@pytest.mark.timeout(3600 if LONG else 400)
@pytest.mark.parametrize(
    ("name", "trials", "seed"), [(name, n, seed) for seed, (name, n) in enumerate((MANY if LONG else FEW).items(), 1)]
)
def test_killed_and_resumed_equals_unbroken(tmp_path: Path, name: str, trials: int, seed: int) -> None:
    summary = search_child.search(name, tmp_path / "whole", trials)
    assert summary.reason == "budget"
    killed = tmp_path / "killed"
    killed.mkdir()
    process = start("kill", name, killed, trials, seed)
    out, errors = process.communicate(timeout=3000 if LONG else 240)
    assert process.returncode == 0 and not errors, errors
    kills = int(out)
    assert kills >= (20 if LONG else 5)
    check_integrity(killed)
    assert story(killed) == story(tmp_path / "whole")
    # Every evaluation once, but for those that a kill cut off and those whose failure is measured again.
    whole, again = (Counter((folder / "notes.txt").read_text().split("\n")) for folder in (tmp_path / "whole", killed))
    assert again.keys() == whole.keys()
    assert sum((again - whole).values()) <= kills


def test_ctrl_c(tmp_path: Path) -> None:
    process = start("search", "random", tmp_path, 1000, 0.01)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        limit = time.monotonic() + 60
        while not (tmp_path / "notes.txt").exists() or len((tmp_path / "notes.txt").read_text()) < 100:
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and errors == ""
    reason, measured, interrupted = out.split()
    assert (reason, interrupted) == ("interrupted", "True")
    check_integrity(tmp_path)
    with Study.open(tmp_path) as study:
        ended = [trial for trial in study.trials() if trial.state not in (None, State.CACHED)]
        assert len(ended) == int(measured) > 3
        assert len(study.in_flight()) <= 1
    summary = search_child.search("random", tmp_path, int(measured) + 5)
    assert summary.reason == "budget"
