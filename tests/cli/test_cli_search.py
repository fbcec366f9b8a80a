"""Searches: from nothing to files, refused, interrupted, killed, gone on with."""

from __future__ import annotations

import csv
import os
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli_process import Cli, Running

from nasneck import NeckGraph
from nasneck.study import Study
from nasneck.trial import State

MANY = "search.trials=16"


def told(folder: Path) -> int:
    """Results in the log, also while a search writes to it."""
    try:
        with closing(sqlite3.connect(f"file:{folder / 'study.sqlite'}?mode=ro", uri=True)) as db:
            return db.execute("SELECT count(*) FROM event WHERE kind = 'tell'").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def log(folder: Path) -> list[tuple[object, ...]]:
    """What has to be equal when two searches are: who was asked, and what came out."""
    with Study.read(folder) as study:
        trials = study.trials()
    assert all(trial.measurement is not None for trial in trials)
    return [
        (
            t.number,
            t.choices,
            t.graph_key,
            t.source,
            t.state,
            t.measurement and (t.measurement.reward, t.measurement.loss),
        )
        for t in trials
    ]


@pytest.fixture
def unbroken(cli: Cli, experiment: str) -> list[tuple[object, ...]]:
    """The log of 16 trials without a break."""
    cli.good("search", experiment, "--out", "unbroken", "--set", MANY)
    return log(cli.cwd / "unbroken")


def test_search_from_nothing(cli: Cli, experiment: str) -> None:
    out = cli.good("search", experiment, "--out", "runs/q", "--set", 'search.warm=["nas_fpn"]')
    folder = cli.cwd / "runs/q"
    assert [f"{n}/3 done" in out for n in range(5)] == [False, True, True, True, False]
    assert re.search(r"trial +0 +reward \d\.\d{4}  best \d\.\d{4}  1/3 done +\d+ s left", out)
    assert "backbone training: 100 %" in out and "3 trials measured" in out
    assert "nasneck compare runs/q fpn panet bifpn nas_fpn --out runs/q/compare" in out
    with Study.read(folder) as study:
        trials, best = study.trials(), study.best()
    assert [(t.number, t.state, t.source) for t in trials] == [
        (0, State.OK, "warm"),
        (1, State.OK, "strategy"),
        (2, State.OK, "strategy"),
    ]
    assert best is not None and f"graph {best.graph_key}" in out
    assert NeckGraph.from_json((folder / "best.json").read_text()).key() == best.graph_key
    assert (folder / "best.svg").read_text().startswith("<svg")
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["graph_key"] for row in rows] == [t.graph_key for t in trials]
    assert {row["command"] for row in rows} == {
        "nasneck search tiny.toml --out runs/q --set 'search.warm=[\"nas_fpn\"]'"
    }
    assert all(float(row["reward"]) >= 0 and row["commit"] and row["device"] for row in rows)
    names = {path.name for path in folder.iterdir()}
    assert names - {"study.sqlite-wal", "study.sqlite-shm"} == {
        "study.sqlite",
        "study.lock",
        "store",
        "best.json",
        "best.svg",
        "trials.csv",
    }


def test_a_study_is_not_overwritten(cli: Cli, experiment: str) -> None:
    cli.good("search", experiment, "--out", "q")
    before = log(cli.cwd / "q")
    assert "q: already holds a study; go on with it (--resume) or choose" in cli.bad("search", experiment, "--out", "q")
    assert log(cli.cwd / "q") == before
    # nothing is left to do, and that is no mistake
    assert "3 trials measured" in cli.good("search", experiment, "--out", "q", "--resume")
    assert log(cli.cwd / "q") == before


def test_resume_needs_a_study(cli: Cli, experiment: str) -> None:
    (cli.cwd / "mine").mkdir()
    for folder in ("mine", "nowhere"):
        assert f"{folder}: holds no study" in cli.bad("search", experiment, "--out", folder, "--resume")
    assert not list((cli.cwd / "mine").iterdir()) and not (cli.cwd / "nowhere").exists()


def test_resume_with_another_experiment(cli: Cli, experiment: str, shapes: Path) -> None:
    cli.good("search", experiment, "--out", "q")
    before = log(cli.cwd / "q")
    args = ["search", experiment, "--out", "q", "--resume"]
    for change, named in (
        ("proxy.steps=3", "proxy.train.steps was 2, is 3"),
        ("neck.channels=16", "neck.channels was 8, is 16"),
        ("strategy.name=controller", 'strategy.name was "random", is "controller"'),
        ("seed=1", "seed was 0, is 1"),
        ("space.repeats=2", "space.options.repeats was 1, is 2"),
        ("data.train_limit=10", "data.train_limit was null, is 10"),
    ):
        assert f"q: the study was made with another experiment: {named}" in cli.bad(*args, "--set", change)
    assert log(cli.cwd / "q") == before


def test_other_data_in_the_same_place_are_noticed(cli: Cli, experiment: str) -> None:
    (cli.cwd / "tiny.toml").write_text(re.sub(r'root = ".*"', 'root = "mine"', (cli.cwd / "tiny.toml").read_text()))
    cli.good("data", "shapes", "mine", "--images", 30, "--size", 80)
    cli.good("search", experiment, "--out", "q", "--set", "search.trials=1")
    (cli.cwd / "mine").rename(cli.cwd / "moved")  # elsewhere they are still the same
    cli.good("search", experiment, "--out", "q", "--resume", "--set", "data.root=moved")
    cli.good("data", "shapes", "mine", "--images", 30, "--size", 80, "--seed", 1)
    assert "data_digest was" in cli.bad("search", experiment, "--out", "q", "--resume")


def test_a_larger_budget_goes_on_as_if_it_had_been_there(cli: Cli, experiment: str, unbroken: list[object]) -> None:
    cli.good("search", experiment, "--out", "q", "--set", "search.trials=4")
    assert log(cli.cwd / "q") == unbroken[:4]
    out = cli.good("search", experiment, "--out", "q", "--set", MANY, "--resume")
    assert "  4/16 done" not in out and "  5/16 done" in out and "16 trials measured" in out
    assert log(cli.cwd / "q") == unbroken


def test_kill_loses_no_finished_trial(cli: Cli, experiment: str, unbroken: list[object]) -> None:
    """kill -9 at several points; each time the log only grows, and in the end it is that of an unbroken run."""
    folder, again, finished = cli.cwd / "q", [], 0
    for goal in (1, 4, 7):
        running = cli.start("search", experiment, "--out", "q", "--set", MANY, *again)
        running.until(lambda goal=goal: told(folder) >= goal)
        running.send(signal.SIGKILL)
        assert running.wait().code == -signal.SIGKILL
        assert told(folder) >= max(goal, finished)
        finished, again = told(folder), ["--resume"]
    assert finished < 16, "killed before the end"
    cli.good("search", experiment, "--out", "q", "--set", MANY, *again)
    assert log(folder) == unbroken


@pytest.mark.long
def test_kill_resume_of_a_controller(cli: Cli, experiment: str) -> None:
    """A strategy that learns: what it had been told before the kill is what it knows after."""
    # Losses, since all APs of trainings this short are 0, and large steps, so that what was learned shows.
    changes = [MANY, "proxy.reward=loss", "strategy.name=controller", "strategy.batch=2", "strategy.learning_rate=0.1"]
    settings = [f"--set={change}" for change in changes]
    cli.good("search", experiment, "--out", "unbroken", *settings)
    running = cli.start("search", experiment, "--out", "q", *settings)
    running.until(lambda: told(cli.cwd / "q") >= 5)
    running.send(signal.SIGKILL)
    running.wait()
    assert 5 <= told(cli.cwd / "q") < 16
    cli.good("search", experiment, "--out", "q", *settings, "--resume")
    assert log(cli.cwd / "q") == log(cli.cwd / "unbroken")


def test_interrupt(cli: Cli, experiment: str, unbroken: list[object]) -> None:
    """Ctrl-C says how to go on; the command that it names does, and its results are those of an unbroken run."""
    running = cli.start("search", experiment, "--out", "q q", "--set", MANY)
    running.until(lambda: told(cli.cwd / "q q") >= 3)
    running.send(signal.SIGINT)
    ended = running.wait()
    assert (ended.code, ended.err) == (130, "")
    assert re.search(r"interrupted after ([3-9]|1[0-5]) trials", ended.out)
    named = ended.out.splitlines()[-1]
    assert named == f"go on with: nasneck search tiny.toml --out 'q q' --set={MANY} --resume"
    cli.good("search", "tiny.toml", "--out", "q q", f"--set={MANY}", "--resume")
    assert log(cli.cwd / "q q") == unbroken


def test_interrupt_before_the_first_trial(cli: Cli, experiment: str) -> None:
    running = cli.start("search", experiment, "--out", "q", "--set", "proxy.backbone_train.steps=100000")
    running.until(lambda: running.out.exists() and "views of train: 100 %" in running.out.read_text())
    running.send(signal.SIGINT)
    ended = running.wait()
    assert (ended.code, ended.err) == (130, "")
    named = ended.out.splitlines()[-1]
    assert named.startswith("interrupted before the first trial; go on with: nasneck search tiny.toml --out q ")
    assert named.endswith(" --resume") == (cli.cwd / "q/study.sqlite").exists()
    assert not log(cli.cwd / "q")


def test_two_searches_in_one_folder(cli: Cli, experiment: str) -> None:
    first: Running = cli.start("search", experiment, "--out", "q", "--set", "search.trials=500")
    first.until(lambda: told(cli.cwd / "q") >= 1)
    args = ["search", experiment, "--out", "q", "--set", "search.trials=500", "--resume"]
    assert f"q: the study is in use by process {first.pid} on {os.uname().nodename}" in cli.bad(*args)
    assert cli.good("show", "q").startswith("nas_fpn"), "reading is possible meanwhile"
    first.send(signal.SIGKILL)
    first.wait()
    before = told(cli.cwd / "q")
    cli.good(*args[:4], "--set", f"search.trials={before + 1}", "--resume")  # the lock died with its process
    assert told(cli.cwd / "q") >= before + 1


def test_failing_candidates_are_rows(cli: Cli, experiment: str) -> None:
    """Candidates over their time are rows with a reason, and the search comes to its end."""
    ended = cli("search", experiment, "--out", "q", "--set", "proxy.timeout_s=0.0001")
    assert ended.code == 1 and "q/trials.csv says why" in ended.err
    with (cli.cwd / "q/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["timeout"] * 3
    assert all("steps" in row["text"] and row["reward"] == "" for row in rows)
