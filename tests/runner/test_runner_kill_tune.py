"""kill -9 of the driver of workers on Ray, and what else ends it: nothing is lost, and nothing is left running.

the driver is killed  What was in the study, and what a worker had finished and left in the spool, is in it after the
                      next start and is not measured again. What was being measured is: at most one candidate for each
                      worker and kill. Workers end by themselves within seconds; of a Ray that was started for this
                      search, two small processes wait for a minute for its head to come back, and end then
the disk is full      One line of a StudyError, exit status 2; nothing is left running. What the study has no room for
                      is in the spool. A worker that has no room there either gives its measurement to the driver
it comes to its end   Nothing is left running, and no spool

With NASNECK_LONG=1: 25 kills for each of three strategies, and the minute is waited for.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

import nasneck
from nasneck.runner.spool import FOLDER, Spool, bring_home
from nasneck.study import Study
from nasneck.trial import Measurement, State, Trial

pytest.importorskip("ray")
import tune_child
from tune_child import WORKERS

LONG = bool(os.environ.get("NASNECK_LONG"))
AGENTS = re.compile("DashboardAgent|RuntimeEnvAgent")  # of Ray, one each on a machine
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if LONG else 400)]


class Drivers:
    """Starts drivers; see ``tune_child``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, place: Path, address: str | None, trials: int, name: str = "random", **settings: Any) -> int:
        """A search in ``place/q``, whose processes run in ``place/here``; its id."""
        (place / "here").mkdir(parents=True, exist_ok=True)
        search = {"name": name, "folder": str(place / "q"), "trials": trials, "address": address, **settings}
        return self.ask(search=search, cwd=str(place / "here"), log=str(place / "log"))["pid"]

    def wait(self, pid: int) -> int:
        return self.ask(wait=pid)["status"]


@dataclass(frozen=True)
class Cluster:
    address: str
    raylet: int
    own: frozenset[int]

    def workers(self) -> set[int]:
        """Processes that were started for a search."""
        return {child.pid for child in psutil.Process(self.raylet).children(recursive=True)} - self.own


@pytest.fixture(scope="module")
def drivers() -> Iterator[Drivers]:
    paths = [str(Path(__file__).parent), str(Path(nasneck.__file__).parents[1])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),  # workers import the fakes
        "OMP_NUM_THREADS": "1",
        "RAY_worker_niceness": "0",  # else they wait for the other tests
    }
    # Newer Pythons warn of forks in processes with threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(Path(__file__).with_name("tune_child.py"))]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Drivers(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def cluster(drivers: Drivers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two CPUs, which outlive the drivers."""
    started = drivers.ask(cluster=True, cwd=str(tmp_path_factory.mktemp("cluster")))
    own = frozenset(child.pid for child in psutil.Process(started["raylet"]).children(recursive=True))
    yield Cluster(started["address"], started["raylet"], own)


def running_in(folder: Path) -> list[str]:
    """Command lines of processes below ``folder``: a driver, and what it started on this machine."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


def soon(none: Callable[[], object], seconds: float = 20) -> bool:
    """Whether there is nothing any more, within some seconds."""
    deadline = time.monotonic() + seconds
    while none() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not none()


def check_integrity(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "study.sqlite")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@dataclass(frozen=True)
class Left:
    """What a driver left behind when it ended."""

    driver: int
    told: dict[int, Trial]
    spooled: dict[int, Measurement]  # what the study has no result of
    keys: frozenset[str]  # of the graphs of both

    @classmethod
    def by(cls, driver: int, folder: Path) -> Left:
        if not (folder / "study.sqlite").exists():
            return cls(driver, {}, {}, frozenset())
        with tempfile.TemporaryDirectory() as name:  # a reader would repair the original
            for path in folder.glob("study.sqlite*"):
                shutil.copy(path, name)
            with Study.read(name) as study:
                trials = study.trials()
        told = {trial.number: trial for trial in trials if trial.state is not None}
        spool = Spool(folder / FOLDER, "")
        found = {trial.number: spool.get(trial.number, tune_child.key_of(trial.choices)) for trial in trials}
        spooled = {number: one for number, one in found.items() if one is not None and number not in told}
        keys = frozenset(trial.graph_key for trial in trials if trial.number in told.keys() | spooled.keys())
        return cls(driver, told, spooled, keys)


def started(place: Path) -> list[tuple[str, int]]:
    """Graph and driver of every evaluation that was begun."""
    if not (place / "notes").exists():
        return []
    lines = [line.split() for line in (place / "notes").read_text().splitlines()]
    return [(line[1], int(line[2])) for line in lines if line[0] == "start"]


def measuring(place: Path) -> bool:
    """Whether some evaluations came to their end, and another one is under way."""
    kinds = [line.split()[0] for line in (place / "notes").read_text().splitlines()]
    return kinds.count("start") > kinds.count("finish") > 5


def kill(drivers: Drivers, driver: int, place: Path, moment: Callable[[], bool], frozen: float) -> Left | None:
    """Kill a driver when the moment has come; None if it came to its end before.

    Args:
        frozen: So many seconds it stands still before, while workers finish what they are at.
    """
    deadline = time.monotonic() + 300
    while not moment():
        assert time.monotonic() < deadline, (place / "log").read_text()
        if psutil.Process(driver).status() == psutil.STATUS_ZOMBIE:
            assert drivers.wait(driver) == 0, (place / "log").read_text()
            return None
        time.sleep(0.01)
    if frozen:
        os.kill(driver, signal.SIGSTOP)
        time.sleep(frozen)
    os.kill(driver, signal.SIGKILL)
    assert drivers.wait(driver) == -signal.SIGKILL, (place / "log").read_text()
    return Left.by(driver, place / "q")


def check_story(place: Path, lefts: list[Left], trials: int) -> None:
    """That of a search that came to its end after its drivers were killed again and again."""
    check_integrity(place / "q")
    with Study.read(place / "q") as study:
        final = {trial.number: trial for trial in study.trials()}
    assert list(final) == list(range(len(final))) and all(trial.state for trial in final.values())
    assert sum(trial.state is State.OK for trial in final.values()) == trials
    starts, cut_off = started(place), 0
    for left in lefts:
        for number, trial in left.told.items():
            assert final[number] == trial
        # No two measurements are equal, so this one is neither lost nor made again.
        for number, measurement in left.spooled.items():
            assert final[number].measurement == measurement
        in_flight = {key for key, driver in starts if driver == left.driver} - left.keys
        assert len(in_flight) <= WORKERS
        cut_off += len(in_flight)
        before = [earlier.driver for earlier in lefts[: lefts.index(left) + 1]]
        again = {key for key, driver in starts if driver not in before} & left.keys
        assert not again, "it was finished"
    extra = len(starts) - len({key for key, _ in starts})
    assert extra <= cut_off


@dataclass(frozen=True)
class Killed:
    place: Path
    left: Left
    when: float


@pytest.fixture(scope="module")
def killed(drivers: Drivers, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """A driver that had started a Ray of its own, as the command line does."""
    place = tmp_path_factory.mktemp("killed")
    (place / "notes").touch()
    driver = drivers.start(place, None, 1000)
    left = kill(drivers, driver, place, lambda: measuring(place), 0.5)
    assert left is not None
    return Killed(place, left, time.monotonic())


@pytest.mark.long
def test_killed_with_a_ray_of_its_own(killed: Killed) -> None:
    place, left = killed.place, killed.left
    assert left.told and left.spooled
    assert soon(lambda: [process for process in running_in(place) if not AGENTS.search(process)])
    check_integrity(place / "q")
    with Study.open(place / "q") as study:
        assert bring_home(study, place / "q" / FOLDER, tune_child.key_of) == len(left.spooled)
        trials = {trial.number: trial for trial in study.trials()}
    assert all(trials[number] == trial for number, trial in left.told.items())
    assert all(trials[number].measurement == measurement for number, measurement in left.spooled.items())
    assert not (place / "q" / FOLDER).exists()


@pytest.mark.parametrize("name", ["random", "evolution", "controller"] if LONG else ["random"])
def test_killed_again_and_again(drivers: Drivers, cluster: Cluster, tmp_path: Path, name: str) -> None:
    rng, lefts, trials = random.Random(1), [], 300 if LONG else 40
    notes = tmp_path / "notes"
    notes.touch()
    while len(lefts) < (25 if LONG else 1):
        begin, size = time.monotonic(), notes.stat().st_size
        driver = drivers.start(tmp_path, cluster.address, trials, name)
        # The first one with results on their way, the second one before it measures anything, others at any moment.
        if not lefts:
            left = kill(drivers, driver, tmp_path, lambda: measuring(tmp_path), 0.5)
        elif len(lefts) % 4 == 1:
            wait = rng.uniform(0, 5)
            left = kill(drivers, driver, tmp_path, lambda: time.monotonic() > begin + wait, 0)  # noqa: B023
        else:
            goal = size + rng.randrange(30, 600)  # an evaluation makes two lines of some 20 bytes
            frozen = rng.choice([0, 0.05, 0.3])
            left = kill(drivers, driver, tmp_path, lambda: notes.stat().st_size >= goal, frozen)  # noqa: B023
        assert left is not None, "it was too quick to be killed"
        lefts.append(left)
        if len(lefts) % 2 == 0:  # else the next one comes while the workers of this one may still be there
            assert soon(cluster.workers), "workers whose driver is dead"
    driver = drivers.start(tmp_path, cluster.address, trials, name)
    assert drivers.wait(driver) == 0, (tmp_path / "log").read_text()
    assert (tmp_path / "log").read_text().splitlines()[-1] == f"{trials} trials measured"
    assert soon(cluster.workers) and soon(lambda: running_in(tmp_path))
    assert not (tmp_path / "q" / FOLDER).exists()
    assert any(left.spooled for left in lefts), "some were killed with results on their way"
    check_story(tmp_path, lefts, trials)
    if name == "random":  # the others ask by what they were told, and in which order
        strategy = tune_child.make(name)
        with Study.read(tmp_path / "q") as study:
            assert [trial.choices for trial in study.trials()] == [strategy.ask().choices for _ in study.trials()]


@pytest.mark.long
def test_a_full_disk(drivers: Drivers, cluster: Cluster, tmp_path: Path) -> None:
    driver = drivers.start(tmp_path, cluster.address, 300, pages=40, seconds=0.02)
    assert drivers.wait(driver) == 2
    assert (tmp_path / "log").read_text().splitlines()[-1] == (
        f"error: {tmp_path / 'q'}: the study cannot be written: the disk is full; free some space, then go on with"
        " --resume"
    )
    assert soon(cluster.workers) and soon(lambda: running_in(tmp_path))
    left = Left.by(driver, tmp_path / "q")
    check_integrity(tmp_path / "q")
    with Study.open(tmp_path / "q") as study:
        assert left.told and left.spooled and len(study.in_flight()) <= WORKERS
        assert bring_home(study, tmp_path / "q" / FOLDER, tune_child.key_of) == len(left.spooled)
        assert all(study.trial(number).measurement == one for number, one in left.spooled.items())


def test_a_worker_without_room_for_its_spool(drivers: Drivers, tmp_path: Path) -> None:
    pid = drivers.ask(no_room=str(tmp_path / "spool"), cwd=str(tmp_path), log=str(tmp_path / "log"))["pid"]
    assert drivers.wait(pid) == 0, (tmp_path / "log").read_text()
    reward = tune_child.reward(tune_child.SPACE.decode((1, 2, 3, 0)))
    assert (tmp_path / "log").read_text() == f"{reward} ['mark']\n"


@pytest.mark.long
def test_a_ray_of_its_own_ends_as_well(killed: Killed) -> None:
    assert soon(lambda: running_in(killed.place), killed.when + 120 - time.monotonic())
