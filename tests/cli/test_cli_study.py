"""The trials of a study: as a table, as CSV, as a file for Optuna's dashboard; and scalars for TensorBoard."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from cli_process import Cli

from nasneck.study import Study
from nasneck.trial import Ask, Measurement, Outcome, State


@pytest.fixture
def mixed(cli: Cli) -> Path:
    """Three trials, the last one in flight."""
    folder = cli.cwd / "mixed"
    with Study.create(folder, experiment={}, seed=0) as study:
        for number in range(3):
            study.asked(Ask(number, (number,)), graph_key=f"g{number}", source="warm" if number == 0 else "strategy")
        good = Measurement(State.OK, 0.25, parameters=460_000, macs=107_000_000, latency_ms=7.12, seconds=31.4)
        study.told(0, Outcome((0.25,)), good, cache_key=None)
        study.told(1, Outcome((), State.OOM), Measurement(State.OOM, text="full"), cache_key=None)
    return folder


def test_table(cli: Cli, mixed: Path) -> None:
    head, *rows = cli.good("study", mixed).splitlines()
    assert head == "trial  source    state    reward  params   MACs  latency  time"
    assert rows == [
        "    0  warm      ok       0.2500   460 k  107 M   7.1 ms  31 s",
        "    1  strategy  oom           -       -      -        -     -",
        "    2  strategy  running       -       -      -        -     -",
    ], "the newest last"
    assert [line.split()[0] for line in cli.good("study", mixed / "study.sqlite", "--last", 2).splitlines()[1:]] == [
        "1",
        "2",
    ]
    assert len(cli.good("study", mixed, "--last", 99).splitlines()) == 4


def test_empty_table(cli: Cli) -> None:
    Study.create(cli.cwd / "q", experiment={}, seed=0).close()
    assert cli.good("study", "q").split() == ["trial", "source", "state", "reward", "params", "MACs", "latency", "time"]


def test_csv(cli: Cli, study: Path) -> None:
    assert cli.good("study", study, "--csv", "a/b/q.csv") == "a/b/q.csv\n"
    frame = pd.read_csv(cli.cwd / "a/b/q.csv")
    with Study.read(study) as read:
        wanted = read.frame()
    assert list(frame.columns) == list(wanted.columns) and len(frame) == 3
    assert list(frame["reward"]) == pytest.approx(list(wanted["reward"]))
    assert list(frame["cell0.op"]) == list(wanted["cell0.op"])


def test_file_for_optuna(cli: Cli, study: Path) -> None:
    said = cli.good("study", study, "--to-optuna", "copies/q.db", "--csv", "q.csv").splitlines()
    assert said == ["copies/q.db, to be seen with: optuna-dashboard sqlite:///copies/q.db", "q.csv"]
    with closing(sqlite3.connect(cli.cwd / "copies/q.db")) as db:
        assert db.execute("SELECT study_name FROM studies").fetchall() == [("q",)]
        assert db.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone() == (3,)
    before = (cli.cwd / "copies/q.db").read_bytes()
    (cli.cwd / "q.csv").unlink()
    error = cli.bad("study", study, "--to-optuna", "copies/q.db", "--csv", "q.csv")
    assert "copies/q.db: is there already" in error
    assert (cli.cwd / "copies/q.db").read_bytes() == before and not (cli.cwd / "q.csv").exists()


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["nowhere"], "nowhere: holds no study"),
        (["mixed", "--last", "0"], "--last 0 must be at least 1"),
        (["mixed", "--last", "2", "--csv", "q.csv"], "--last is for the table"),
        (["mixed", "--csv", "mixed/study.sqlite"], "mixed/study.sqlite: the name should end in .csv"),
        (["mixed", "--to-optuna", "mixed/study.sqlite"], "mixed/study.sqlite: is there already"),
        (["mixed", "--to-optuna", "q.db"], "says nothing of its decisions"),
    ],
)
def test_mistakes(cli: Cli, mixed: Path, args: list[str], match: str) -> None:
    before = sorted(cli.cwd.rglob("*"))
    assert match in cli.bad("study", *args)
    assert [path for path in sorted(cli.cwd.rglob("*")) if not path.name.endswith(("-wal", "-shm"))] == before
    assert len(cli.good("study", mixed).splitlines()) == 4


# -- scalars for TensorBoard ---------------------------------------------------------------------------------


def steps(folder: Path) -> list[int]:
    """Steps of the counted trials, as TensorBoard shows them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    assert set(found.Tags()["scalars"]) >= {"trial/reward", "trial/macs", "trial/latency_ms", "search/best_reward"}
    return [event.step for event in found.Scalars("search/measured")]


def test_scalars_of_a_search_that_was_killed_and_goes_on(cli: Cli, experiment: str) -> None:
    args = ["search", experiment, "--out", "q", "--tensorboard", "--set", "search.trials=9"]
    running = cli.start(*args)
    running.until(lambda: told(cli.cwd / "q") >= 3)
    running.send(signal.SIGKILL)
    running.wait()
    seen = steps(cli.cwd / "q")
    assert seen == list(range(len(seen))) and len(seen) >= 2, "what had ended was there to be seen"
    out = cli.good(*args, "--resume")
    assert "9 trials measured" in out
    assert steps(cli.cwd / "q") == list(range(told(cli.cwd / "q")))


def told(folder: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{folder / 'study.sqlite'}?mode=ro", uri=True)) as db:
            return db.execute("SELECT count(*) FROM event WHERE kind = 'tell'").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_going_on_after_ctrl_c_goes_on_with_scalars(cli: Cli, experiment: str) -> None:
    running = cli.start("search", experiment, "--out", "q", "--tensorboard", "--set", "search.trials=500")
    running.until(lambda: told(cli.cwd / "q") >= 2)
    running.send(signal.SIGINT)
    ended = running.wait()
    assert (ended.code, ended.err) == (130, "")
    assert ended.out.splitlines()[-1].endswith(" --tensorboard --resume")
    assert steps(cli.cwd / "q") == list(range(told(cli.cwd / "q")))


def test_no_scalars_unless_asked_for(cli: Cli, experiment: str) -> None:
    args = ["search", experiment, "--out", "q", "--set", "search.trials=1"]
    cli.good(*args)
    assert not (cli.cwd / "q/tensorboard").exists()
    assert "already holds a study" in cli.bad(*args, "--tensorboard")
    assert not (cli.cwd / "q/tensorboard").exists()
    cli.good(*args, "--tensorboard", "--resume")  # nothing is left to do but this
    assert steps(cli.cwd / "q") == [0]


def test_without_tensorboard_nothing_begins(cli: Cli, experiment: str) -> None:
    """In a process of its own, as the package is there for all others."""
    code = "import sys\nsys.modules['tensorboard'] = None\nfrom nasneck.cli import main\nmain(sys.argv[1:])"
    args = [sys.executable, "-W", "ignore", "-c", code, "search", experiment, "--out", "q", "--tensorboard"]
    ended = subprocess.run(args, capture_output=True, text=True, check=False, cwd=cli.cwd)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("nasneck: error: TensorBoard is missing (")
    assert ended.stderr.endswith("; pip install tensorboard\n") and ended.stderr.count("\n") == 1
    assert not (cli.cwd / "q").exists()
