"""A full disk and a locked file: what is lost, what is said.

the disk is full                StudyError at that write. All before it is intact; the trial is measured again, or its
                                measurement comes out of the spool, where a worker leaves it
another process locks the file  a write waits for PATIENCE_S, then it is a StudyError; nothing is lost, readers go on
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filled_study import DECISIONS, ask, check_integrity, everything, fill, key_of, new, result, tell

import nasneck
from nasneck.errors import StudyError
from nasneck.runner.spool import Spool, bring_home
from nasneck.strategy import Snapshot, make_strategy
from nasneck.study import Study, database, resume

LONG = bool(os.environ.get("NASNECK_LONG"))
FULL = "the study cannot be written: the disk is full; free some space, then go on with --resume"

# --- a full disk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pages", range(1, 30) if LONG else [1, 2, 5, 8])
def test_at_whichever_page_the_disk_is_full(tmp_path: Path, pages: int) -> None:
    with new(tmp_path) as study:
        fill(study)
        limit = study._db.execute("PRAGMA page_count").fetchone()[0] + pages
        study._db.execute(f"PRAGMA max_page_count = {limit}")
        finished: list[int] = []
        with pytest.raises(StudyError) as caught:
            for number in range(study.next_number, 10**6):
                ask(study, number)
                tell(study, number)
                finished.append(number)
                if pages % 2:
                    study.keep_snapshot(Snapshot({"n": "x" * 100 * number}))
        assert str(caught.value) == f"{tmp_path}: {FULL}"
        before = everything(study)
        assert [study.trial(number).measurement for number in finished] == [result(number) for number in finished]
    check_integrity(tmp_path)
    with Study.open(tmp_path) as study:
        assert everything(study) == before
        for trial in study.in_flight():
            tell(study, trial.number)
        ask(study, study.next_number)
        tell(study, study.next_number - 1)
        assert len(study.trials()) == len(before["trials"]) + 1 and not study.in_flight()


def test_full_disk_and_resume(tmp_path: Path) -> None:
    """The strategy goes on as if nothing had been, and what workers finished meanwhile comes out of the spool."""

    def make() -> Any:
        return make_strategy("random", DECISIONS, seed=3)

    asked = 60  # their results have no room in the pages that there are
    with new(tmp_path / "q") as study:
        strategy = make()
        for one in [strategy.ask() for _ in range(asked)]:
            study.asked(one, graph_key="g")
        study._db.execute("PRAGMA max_page_count = 1")  # SQLite takes the least that there can be: what there is
        with pytest.raises(StudyError, match=FULL):
            for trial in study.in_flight():
                tell(study, trial.number)
        spool = Spool.create(tmp_path / "spool")
        for trial in study.in_flight():
            spool.put(trial.number, trial.choices, key_of(trial.choices), result(trial.number))
    with Study.open(tmp_path / "q") as study:
        study._db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(StudyError, match=FULL):
            bring_home(study, spool.folder, key_of)
        waiting = {trial.number for trial in study.in_flight()}
        assert waiting and {int(path.stem) for path in spool.folder.glob("*.json")} >= waiting
    with Study.open(tmp_path / "q") as study:
        assert bring_home(study, spool.folder, key_of) == len(waiting)
        assert [trial.measurement for trial in study.trials()] == [result(number) for number in range(asked)]
        assert not spool.folder.exists()
        resumed = resume(study, make)
        assert not resumed.warning and resumed.strategy.ask() == strategy.ask()


# As a process of its own, with a real disk, or with files that may not grow.
CHILD = """
import resource, sys
from pathlib import Path
from nasneck.errors import StudyError
from nasneck.study import Study
from nasneck.trial import Ask, Measurement, Outcome, State

def fill_disk(full):
    if full:
        for size in (4096, 1):  # to the last byte
            try:
                with ballast.open("ab", buffering=0) as file:
                    while True:
                        file.write(b"x" * size)
            except OSError:
                pass
    else:
        ballast.unlink()

def limit_files(full):  # python ignores the signal that comes of it
    size = (folder / "study.sqlite-wal").stat().st_size + 20_000 if full else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def search(study):
    for trial in study.in_flight():
        tell(study, trial.number)
    for number in range(study.next_number, 150):
        study.asked(Ask(number, (number,)), graph_key="g")
        tell(study, number)

def tell(study, number):
    study.told(number, Outcome((0.5,)), Measurement(State.OK, reward=0.5, text="x" * 300), cache_key=f"{number}")
    told.append(number)

def finished(study):
    return [trial.number for trial in study.trials() if trial.state is not None]

def said(call):
    try:
        call()
    except StudyError as error:
        print(error)

fill_up, folder, told = {"disk": fill_disk, "file": limit_files}[sys.argv[1]], Path(sys.argv[2]), []
ballast = folder.parent / "ballast"
with Study.create(folder, experiment={}, seed=0) as study:
    for number in range(3):
        study.asked(Ask(number, (number,)), graph_key="g")
        tell(study, number)
    fill_up(True)
    said(lambda: search(study))
    assert finished(study) == told and len(told) < 100, told
if sys.argv[1] == "disk":
    fill_up(True)  # the log was taken into the main file, which gave some space free
    said(lambda: Study.open(folder).close())
    said(lambda: Study.create(folder.parent / "new", experiment={}, seed=0).close())
fill_up(False)
with Study.open(folder) as study:
    assert study._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert finished(study) == told
    search(study)
    assert finished(study) == told == list(range(150))
print("went on")
"""


def said_by(*command: object) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(nasneck.__file__).parents[1])}
    ended = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=120)
    assert not ended.returncode and not ended.stderr, ended.stderr
    return ended.stdout.splitlines()


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """As with a quota."""
    assert said_by(sys.executable, "-c", CHILD, "file", tmp_path / "q") == [
        f"{tmp_path / 'q'}: the study cannot be written: disk I/O error (the disk is full, over its quota, gone or"
        " failing); see to it, then go on with --resume",
        "went on",
    ]


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make a mount namespace")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=16m none {disk} && exec {sys.executable} -c "$0" disk {disk / "q"}'
    said = said_by(unshare, "-m", "--propagation", "private", "sh", "-c", script, CHILD)
    assert said == [
        f"{disk / 'q'}: {FULL}",
        f"{disk / 'q' / 'study.sqlite'}: cannot be opened: disk I/O error (the disk is full, over its quota, gone or"
        " failing); see to it, then try again",
        f"{disk / 'new' / 'study.sqlite'}: cannot be created: the disk is full; free some space, then try again",
        "went on",
    ]


# --- a file that another process holds -------------------------------------------------------------------

HOLDER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    db.execute(statement)
print("held", flush=True)
sys.stdin.readline()
"""
LOCKED = "another process has locked the database (database is locked); end it or wait for it, then"


@contextmanager
def held(folder: Path, *statements: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, which is none of ours, has executed ``statements``; it ends when its input does."""
    command = [sys.executable, "-I", "-S", "-c", HOLDER, str(folder / "study.sqlite"), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_write_waits_for_another_process_and_then_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE_S", 0.5)
    with new(tmp_path) as study:
        fill(study)
        before = everything(study)
        with held(tmp_path, "BEGIN IMMEDIATE"):
            start = time.monotonic()
            with pytest.raises(StudyError) as caught:
                ask(study, 40)
            assert str(caught.value) == f"{tmp_path}: the study cannot be written: {LOCKED} go on with --resume"
            assert 0.4 < time.monotonic() - start < 10
            assert everything(study) == before
            with Study.read(tmp_path) as reader:
                assert everything(reader) == before
        ask(study, 40)
    # A search can begin while the lock is held, as it only reads at first.
    with held(tmp_path, "BEGIN IMMEDIATE"), Study.open(tmp_path) as study, pytest.raises(StudyError, match="locked"):
        tell(study, 40)
    with Study.open(tmp_path) as study:
        tell(study, 40)


def test_a_short_lock_is_no_matter(tmp_path: Path) -> None:
    with new(tmp_path) as study, held(tmp_path, "BEGIN IMMEDIATE") as process:
        assert process.stdin is not None
        # Its input ends while the write below is waiting.
        with subprocess.Popen(["sleep", "0.5"], stdout=process.stdin):
            process.stdin.close()
            start = time.monotonic()
            ask(study, 0)
            assert time.monotonic() - start > 0.3


def test_a_file_that_nobody_else_may_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE_S", 0.2)
    with new(tmp_path) as study:
        ask(study, 0)
    path = tmp_path / "study.sqlite"
    with held(tmp_path, "PRAGMA locking_mode = EXCLUSIVE", "DELETE FROM snapshot"):
        for opener in (Study.open, Study.read):
            with pytest.raises(StudyError) as caught:
                opener(tmp_path)
            assert str(caught.value) == f"{path}: cannot be opened: {LOCKED} try again"
    Study.open(tmp_path).close()
