"""Quiet while a latency is measured: across processes, and whatever becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nasneck
from nasneck.slot import Slot

WORKER = """
import sys, time
from pathlib import Path
from nasneck.slot import Slot
slot, folder = Slot(Path(sys.argv[1])), Path(sys.argv[2])
while True:
    with slot.working():
        with folder.joinpath(sys.argv[3]).open("a") as file:
            file.write(f"{time.monotonic()} {(time.sleep(0.01), time.monotonic())[1]}\\n")
"""


def start(slot: Path, folder: Path, name: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(Path(nasneck.__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-c", WORKER, str(slot), str(folder), name], env=env)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nobody_works_while_one_is_alone(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    workers = [start(tmp_path / "slot", tmp_path, name) for name in names]
    slot = Slot(tmp_path / "slot")
    try:
        for name in names:
            wait_for(tmp_path / name)
        alone = []
        for _ in range(10):
            with slot.alone() as quiet:
                assert quiet
                alone.append((time.monotonic(), (time.sleep(0.03), time.monotonic())[1]))
            time.sleep(0.02)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    for name in names:
        steps = [tuple(map(float, line.split())) for line in (tmp_path / name).read_text().splitlines()[:-1]]
        assert len(steps) > 10, "they went on in between"
        for begin, end in steps:
            assert all(end <= first or begin >= last for first, last in alone)


def test_who_is_killed_gives_the_slot_back(tmp_path: Path) -> None:
    worker = start(tmp_path / "slot", tmp_path, "a")
    wait_for(tmp_path / "a")
    worker.send_signal(signal.SIGSTOP)
    slot = Slot(tmp_path / "slot", patience_s=0.2)
    seen = set()
    for _ in range(5):  # stopped while it worked, or in between
        with slot.alone() as quiet:
            seen.add(quiet)
    worker.kill()
    worker.wait()
    with slot.alone() as quiet:
        assert quiet
    assert seen <= {True, False}


def test_who_does_not_get_it_in_time_goes_on(tmp_path: Path) -> None:
    one, other = Slot(tmp_path), Slot(tmp_path, patience_s=0.1)
    with one.working():
        with other.alone() as quiet:
            assert not quiet
        with other.working():  # many at once
            pass
    with other.alone() as quiet, Slot(tmp_path, patience_s=0.1).alone() as second:
        assert quiet and not second


def test_a_forked_process_has_files_of_its_own(tmp_path: Path) -> None:
    slot = Slot(tmp_path)
    with slot.working():
        child = os.fork()
        if child == 0:
            with Slot.working(slot):
                pass
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with Slot(tmp_path, patience_s=0.05).alone() as quiet:
            assert not quiet, "the child's end did not give away what its parent holds"


def test_nobody_waits_for_ever_for_one_that_is_alone(tmp_path: Path) -> None:
    one, other = Slot(tmp_path), Slot(tmp_path, patience_s=0.1)
    with one.alone() as quiet:
        assert quiet
        with other.working():  # the one that is alone may have been stopped
            pass


def test_without_a_place_for_files_everybody_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    slot = Slot(tmp_path / "file" / "below")
    with slot.working(), slot.alone() as quiet:
        assert not quiet


@pytest.fixture(autouse=True)
def _no_warning_of_forks(recwarn: pytest.WarningsRecorder) -> None:
    """Newer Pythons warn of forks in processes with threads."""
