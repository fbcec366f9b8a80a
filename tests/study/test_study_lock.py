"""Looking at a folder's lock without taking it from anybody."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nasneck.errors import StudyError
from nasneck.study import Study
from nasneck.study.lock import FolderLock, holder_of


@contextmanager
def shared(folder: Path) -> Iterator[None]:
    """What somebody does who looks whether the folder is held, for as long as the block."""
    with (folder / "study.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


def test_holder(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None and not list(tmp_path.iterdir()), "nothing is made"
    before = time.time() - 1
    lock = FolderLock(tmp_path)
    holder = holder_of(tmp_path)
    assert holder is not None
    assert holder.name == f"process {os.getpid()} on {os.uname().nodename}"
    assert before < holder.since < time.time() + 1
    with pytest.raises(StudyError, match="in use by process"):
        FolderLock(tmp_path)
    assert holder_of(tmp_path) is not None, "looking and failing take nothing away"
    lock.release()
    assert holder_of(tmp_path) is None


def test_holder_dies(tmp_path: Path) -> None:
    code = "import sys, time\nfrom nasneck.study import Study\n"
    code += "Study.create(sys.argv[1], experiment={}, seed=0)\nprint('x', flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "x\n"
        found = holder_of(tmp_path)
        assert found is not None and found.name.startswith(f"process {holder.pid} on ")
        holder.kill()
    assert holder_of(tmp_path) is None


def test_who_looks_keeps_nobody_out(tmp_path: Path) -> None:
    """A search that starts in the very moment waits for it."""
    Study.create(tmp_path, experiment={}, seed=0).close()
    looking, done = threading.Event(), threading.Event()

    def look() -> None:
        with shared(tmp_path):
            looking.set()
            done.wait(0.3)

    thread = threading.Thread(target=look)
    thread.start()
    looking.wait()
    Study.open(tmp_path).close()
    done.set()
    thread.join()


def test_many_look_and_one_writes(tmp_path: Path) -> None:
    Study.create(tmp_path, experiment={}, seed=0).close()
    code = "import sys\nfrom pathlib import Path\nfrom nasneck.study.lock import holder_of\n"
    code += "print('x', flush=True)\nwhile True:\n    holder_of(Path(sys.argv[1]))"
    args = [sys.executable, "-c", code, str(tmp_path)]
    lookers = [subprocess.Popen(args, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for looker in lookers:
            assert looker.stdout is not None and looker.stdout.readline() == "x\n"
        for _ in range(100):
            FolderLock(tmp_path).release()
    finally:
        for looker in lookers:
            looker.kill()
            looker.wait()
            assert looker.stdout is not None
            looker.stdout.close()


def test_a_writer_is_told_at_once_and_a_looker_that_stays_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Study.create(tmp_path, experiment={}, seed=0).close()
    with Study.open(tmp_path):
        start = time.monotonic()
        with pytest.raises(StudyError, match="in use by process"):
            Study.open(tmp_path)
        assert time.monotonic() - start < 2
    monkeypatch.setattr("nasneck.study.lock.PATIENCE_S", 0.2)
    with shared(tmp_path), pytest.raises(StudyError, match="in use by"):
        Study.open(tmp_path)
    Study.open(tmp_path).close()
