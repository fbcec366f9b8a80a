"""How studies stand: running, finished, stopped; and that looking disturbs nobody."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_process import Cli, Running

from nasneck.cli.status import Status, as_json, read_status
from nasneck.cli.status_text import as_text
from nasneck.errors import StudyError
from nasneck.runner.tally import Tally
from nasneck.study import Study
from nasneck.trial import Ask, Measurement, Outcome, State

EXPERIMENT = {
    "name": "mine",
    "strategy": {"name": "optuna", "options": {"sampler": "tpe"}},
    "search": {"trials": 6, "max_duplicates": 3},
}
HOUR = 3600.0


def add(study: Study, *results: Measurement | State | None, values: tuple[float, ...] | None = None) -> None:
    """Trials with these results; None leaves one in flight."""
    for result in results:
        number = study.next_number
        study.asked(Ask(number, (number,)), graph_key=f"g{number}")
        if result is not None:
            measurement = Measurement(result) if isinstance(result, State) else result
            told = ((measurement.reward,) if measurement.reward is not None else ()) if values is None else values
            study.told(number, Outcome(told, measurement.state), measurement, cache_key=f"k{number}")


def shift(folder: Path, **times: float) -> None:
    """Set when entries of the log were written, ``ask3=...`` in seconds since the epoch."""
    with closing(sqlite3.connect(folder / "study.sqlite")) as db, db:
        for name, moment in times.items():
            db.execute("UPDATE event SET time = ? WHERE kind = ? AND number = ?", (moment, name[:-1], int(name[-1])))


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with Study.create(tmp_path / "q", experiment=EXPERIMENT, seed=7) as study:
        yield study


def read(study: Study, **settings: Any) -> Status:
    return read_status(study.folder, **settings)


def lines(study: Study, **settings: Any) -> list[str]:
    return as_text(read(study, **settings), **settings).splitlines()


# -- what it says --------------------------------------------------------------------------------------------


def test_before_the_first_trial(study: Study) -> None:
    status = read(study)
    assert (status.experiment, status.strategy, status.seed, status.budget) == ("mine", "optuna (tpe)", 7, 6)
    assert (status.state, status.measured, status.best, status.counts) == ("running", 0, None, {})
    assert (status.candidates_per_hour, status.seconds_left) == (None, None)
    head, *rest = lines(study)
    assert re.fullmatch(rf".*/q: running \(process {os.getpid()} on \S+, for \d s\)", head)
    assert rest == [
        "  experiment  mine, strategy optuna (tpe), seed 7",
        f"  created     {study.created[:10]} {study.created[11:19]} UTC",
        "  trials      0 of 6 measured",
        "  best        none yet",
    ]


def test_counts_are_those_of_the_search(study: Study) -> None:
    add(study, *State, None, State.OK)
    status, tally = read(study), Tally(study.trials(), budget=6)
    assert status.measured == tally.measured == 7
    assert status.counts == {**dict.fromkeys(map(str, State), 1), "ok": 2, "running": 1}
    assert "  trials      7 of 6 measured: 2 ok, 1 pruned, 1 oom, 1 nan, 1 timeout, 1 error; besides" in (
        "\n".join(lines(study))
    )
    assert "; besides 1 cached, 1 rejected" in "\n".join(lines(study))
    assert [failure.state for failure in status.failures] == ["error", "timeout", "nan"], "the latest first"


def line(study: Study, label: str) -> str:
    (found,) = [line for line in lines(study) if line.startswith(f"  {label} ")]
    return found


def test_best(study: Study) -> None:
    best = Measurement(
        State.OK,
        reward=0.25,
        ap=0.25,
        ap_small=0.125,
        ap_medium=0.5,
        ap_large=-1.0,
        parameters=460_000,
        macs=107_000_000,
        latency_ms=7.12,
    )
    add(study, Measurement(State.OK, reward=0.125), best, dataclasses.replace(best, state=State.CACHED))
    add(study, Measurement(State.PRUNED, reward=0.9), Measurement(State.OK, reward=0.25))
    assert line(study, "best") == (
        "  best        trial 1, reward 0.2500; AP 25.0 (S 12.5, M 50.0, L -); 460 k parameters, 107 M MACs, 7.1 ms;"
        " graph g1"
    )
    add(study, dataclasses.replace(best, reward=0.2), values=(0.5,))
    assert "  best        trial 5, reward 0.2000 (objective 0.5000); AP" in line(study, "best")
    found = as_json(read(study))["best"]
    assert (found["number"], found["graph_key"], found["values"], found["ap_large"]) == (5, "g5", [0.5], -1.0)


def test_failures_are_told_with_their_text(study: Study) -> None:
    add(study, *(Measurement(State.ERROR, text=f"ValueError:\n  {number}") for number in range(5)))
    assert lines(study)[-3:] == [f"  failed      trial {number}, error: ValueError: {number}" for number in (4, 3, 2)]
    # What was stopped early, refused or known already did not go wrong.
    add(study, Measurement(State.TIMEOUT), State.PRUNED, State.REJECTED, State.CACHED, State.OK)
    assert lines(study)[-3] == "  failed      trial 5, timeout"


def test_a_replay_that_broke_is_told(study: Study) -> None:
    add(study, State.OK, State.OK, State.OK)
    study.mark_injected(1)
    assert lines(study)[-1].startswith("  note        trials 1 to 2 were given to the strategy from outside")
    assert len(read(study).warnings) == 1


def test_speed_is_that_of_this_run(study: Study) -> None:
    """An earlier run measured one and left one behind, which this one measured first."""
    add(study, State.OK, State.OK, State.OK, State.CACHED, State.OOM, State.REJECTED, None)
    now = time.time()
    os.utime(study.folder / "study.lock", (now - 2 * HOUR, now - 2 * HOUR))
    old, begin = now - 50 * HOUR, now - HOUR
    shift(study.folder, ask0=old, tell0=old + 9, ask1=old, tell1=begin - 1)
    shift(study.folder, ask2=begin, tell2=begin + 600, ask3=begin + 600, tell3=begin + 601, ask4=begin + 601)
    shift(study.folder, tell4=begin + 1200, ask5=begin + 1200, tell5=begin + 1201, ask6=begin + 1201)
    status = read(study, now=begin + 1320)
    assert status.candidates_per_hour == pytest.approx(6.0)
    assert status.seconds_left == pytest.approx(2 * 600 - 120)
    assert "  speed       6.0 candidates per hour, 18 min left" in lines(study, now=begin + 1320)
    assert read(study, now=now + 99 * HOUR).seconds_left == 0.0


def test_running_trials_and_for_how_long(study: Study) -> None:
    add(study, None, None)
    now = time.time()
    os.utime(study.folder / "study.lock", (now - 600, now - 600))
    shift(study.folder, ask0=now - 50 * HOUR, ask1=now - 60)
    assert lines(study, now=now)[-1] == "  running     trial 0 for 10 min, trial 1 for 60 s", "not since an earlier run"
    study.close()
    with Study.read(study.folder):
        found = read_status(study.folder)
    assert [(flight.number, flight.seconds) for flight in found.in_flight] == [(0, None), (1, None)]
    wanted = "  unfinished  trial 0, trial 1; measured first when the search goes on (--resume)"
    assert as_text(found).splitlines()[-1] == wanted


def test_many_running_trials(study: Study) -> None:
    add(study, *[None] * 23)
    assert lines(study)[-1].endswith("trial 19 for 0 s and 3 more") and len(read(study).in_flight) == 23


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ([], "stopped"),
        ([State.OK] * 5, "stopped"),
        ([State.OK] * 3 + [State.OOM] * 3, "finished"),
        ([State.OK] * 3 + [State.REJECTED] * 3, "stopped"),
        ([State.OK] + [State.CACHED] * 2, "stopped"),
        ([State.OK] + [State.CACHED, State.REJECTED] * 2 + [State.CACHED], "finished"),
        ([State.OK] + [State.CACHED] * 3 + [State.OK], "stopped"),
        ([State.OK] + [State.REJECTED] * 29, "stopped"),
        ([State.OK] + [State.REJECTED] * 30, "finished"),
    ],
)
def test_states_when_nobody_holds_it(study: Study, results: list[State], state: str) -> None:
    add(study, *results)
    assert read(study).state == "running"
    study.close()
    status = read_status(study.folder)
    assert (status.state, status.holder, status.since, status.seconds_left) == (state, None, None, None)


@pytest.mark.parametrize("experiment", [{}, {"search": 3, "strategy": "x", "name": 5}, {"search": {"trials": None}}])
def test_studies_of_any_experiment(tmp_path: Path, experiment: dict[str, Any]) -> None:
    with Study.create(tmp_path, experiment=experiment, seed=0) as study:
        add(study, State.OK)
    status = read_status(tmp_path)
    assert (status.experiment, status.strategy, status.budget, status.state) == (None, None, None, "stopped")
    assert "  trials      1 measured: 1 ok" in as_text(status)


def test_json_has_no_words_that_json_does_not_know(study: Study) -> None:
    add(study, Measurement(State.OK, reward=float("inf"), loss=float("nan")))
    found = json.loads(json.dumps(as_json(read(study)), allow_nan=False))
    assert found["best"]["reward"] is None and found["best"]["loss"] is None and found["best"]["values"] == [None]


# -- whom it disturbs ----------------------------------------------------------------------------------------


def test_nothing_is_changed(study: Study) -> None:
    add(study, State.OK, None)
    study.close()
    read_status(study.folder)  # SQLite's side files are there by now

    def tree() -> dict[str, tuple[int, bytes]]:
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in study.folder.iterdir()}

    before = tree()
    read_status(study.folder)
    after = tree()
    assert {name for name in before if "sqlite-" not in name} == {"study.sqlite", "study.lock"}
    assert {name: before[name] for name in before if "-shm" not in name} == {
        name: after[name] for name in after if "-shm" not in name
    }


READER = """\
import os, sys
from pathlib import Path
from nasneck.cli.status import read_status
from nasneck.cli.status_text import as_text
if os.geteuid() == 0:  # root may write everywhere
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
assert not os.access(sys.argv[1], os.W_OK)
print(as_text(read_status(Path(sys.argv[1]))))
"""


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_folder_that_may_only_be_read(state: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(place) / "q"
        with Study.create(folder, experiment=EXPERIMENT, seed=0) as study:
            add(study, State.OK, None)
            if state == "stopped":
                study.close()
            before = sorted(path.name for path in folder.iterdir())
            folder.chmod(0o555)
            try:
                args = [sys.executable, "-c", READER, str(folder)]
                ended = subprocess.run(args, capture_output=True, text=True, check=False)
                after = sorted(path.name for path in folder.iterdir())
            finally:
                folder.chmod(0o755)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"{folder}: {state}") and "1 of 6 measured: 1 ok" in ended.stdout
    assert after == before


# -- the command ---------------------------------------------------------------------------------------------


def count(folder: Path, state: str) -> int:
    try:
        return read_status(folder).counts.get(state, 0)
    except StudyError:
        return 0


def test_while_a_search_runs_and_after(cli: Cli, experiment: str) -> None:
    running: Running = cli.start("search", experiment, "--out", "q", "--set", "search.trials=500")
    running.until(lambda: count(cli.cwd / "q", "ok") >= 2)
    found = []
    for _ in range(5):
        found.append(json.loads(cli.good("status", "q", "--json"))[0])
    text = cli.good("status", "q")
    running.send(signal.SIGINT)
    ended = running.wait()
    assert (ended.code, ended.err) == (130, "")
    assert re.match(rf"q: running \(process {running.pid} on \S+, for \d+ s\)\n", text)
    assert re.search(r"  experiment  tiny, strategy random, seed 0\n", text)
    assert re.search(r"  trials +\d+ of 500 measured: \d+ ok", text) and re.search(
        r"  best +trial \d+, reward 0\.", text
    )
    assert re.search(r"  speed +\d+ candidates per hour, \d+ (s|min) left\n", text)
    measured = [one["measured"] for one in found]
    assert measured == sorted(measured) and {one["state"] for one in found} == {"running"}
    assert all(one["candidates_per_hour"] > 0 and one["seconds_left"] > 0 for one in found)
    stopped = cli.good("status", "q/study.sqlite")
    assert stopped.startswith("q: stopped\n") and "speed" not in stopped
    with Study.read(cli.cwd / "q") as study:
        left = study.in_flight()  # none if it came between two trials
    unfinished = re.search(r"  unfinished  trial (\d+); measured first when the search goes on", stopped)
    assert [unfinished and int(unfinished[1])] == ([trial.number for trial in left] or [None])


def test_while_a_search_prepares(cli: Cli, experiment: str) -> None:
    running = cli.start("search", experiment, "--out", "q", "--set", "proxy.backbone_train.steps=100000")
    running.until(lambda: (cli.cwd / "q/study.sqlite").exists())
    text = cli.good("status", "q")
    running.send(signal.SIGKILL)
    running.wait()
    assert text.startswith(f"q: running (process {running.pid} on ") and "0 of 3 measured\n" in text


def test_several_runs_and_folders_without_a_study(cli: Cli, study: Study) -> None:
    (cli.cwd / "empty").mkdir()
    ended = cli("status", study.folder, "empty", study.folder / "study.sqlite", "nowhere")
    assert ended.code == 2
    assert ended.err == (
        "nasneck: error: empty: holds no study (there is no study.sqlite); nowhere: holds no study (there is no"
        " study.sqlite)\n"
    )
    assert ended.out.count("q: running (") == 2 and "\n\n" in ended.out, "those that are there are told"
    assert not list((cli.cwd / "empty").iterdir())
    ended = cli("status", "empty", "--json")
    assert (ended.code, ended.out) == (2, "[]\n")
    assert len(json.loads(cli.good("status", study.folder, study.folder, "--json"))) == 2


def test_it_comes_at_once(study: Study) -> None:
    """No torch and no pandas, whose imports take seconds."""
    add(study, State.OK)
    code = (
        "import sys\nsys.modules.update(torch=None, pandas=None, numpy=None, rich=None)\n"
        "from nasneck.cli import main\nmain(sys.argv[1:])"
    )
    for args in (["status"], ["status", "--json"], ["study"]):
        command = [sys.executable, "-c", code, *args, str(study.folder)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, ""), args
