"""A damaged file: it is noticed, and what can be kept is kept.

a byte of study.sqlite changed,      StudyError at opening, never another trial than was written: everything is held
or its end is missing                twice, and compared. (Bytes that hold nothing may change.)
a byte of study.sqlite-wal changed,  all that was committed before it is kept, and the search goes on from there
or its end is missing
a row that is none of ours           StudyError by whatever reads it, with the trial, or what else it is
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from filled_study import READ, ask, check_integrity, everything, fill, new, tell

from nasneck.errors import StudyError
from nasneck.study import Study

LONG = bool(os.environ.get("NASNECK_LONG"))
seeds = pytest.mark.parametrize("seed", range(20 if LONG else 1))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a study, and all that can be read from it."""
    folder = tmp_path_factory.mktemp("whole")
    with new(folder) as study:
        fill(study)
        expected = everything(study)
    return (folder / "study.sqlite").read_bytes(), expected


def outcomes(folder: Path, files: dict[str, bytes]) -> Iterator[dict[str, Any] | None]:
    """What a reader and a writer can read of these files; None if it is a ``StudyError``."""
    for opener in (Study.read, Study.open):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        try:
            with opener(folder) as study:
                read = everything(study)
        except StudyError as error:
            assert "\n" not in str(error)
            yield None
        else:
            yield read


@seeds
def test_changed_bytes(tmp_path: Path, whole: tuple[bytes, dict[str, Any]], seed: int) -> None:
    content, expected = whole
    rng, refused = random.Random(seed), 0
    times = 1000 if LONG else 150
    for _ in range(times):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 1, 1, 2, 8])):
            # The header and the definitions of the tables more often than their share.
            place = rng.randrange(rng.choice([100, 4096, *[len(content)] * 6]))
            changed[place] ^= 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(1, 256)
        for read in outcomes(tmp_path / "q", {"study.sqlite": bytes(changed)}):
            assert read is None or read == expected
            refused += read is None
    assert refused > times, "most bytes hold something"


@seeds
def test_missing_end(tmp_path: Path, whole: tuple[bytes, dict[str, Any]], seed: int) -> None:
    content, _ = whole
    rng = random.Random(seed)
    lengths = [0, 1, 99, 100, 4096, len(content) - 4096, len(content) - 1]
    for length in [*lengths, *(rng.randrange(len(content)) for _ in range(500 if LONG else 40))]:
        assert list(outcomes(tmp_path / "q", {"study.sqlite": content[:length]})) == [None, None], length


def test_lost_pages(tmp_path: Path, whole: tuple[bytes, dict[str, Any]]) -> None:
    content, expected = whole
    for start in range(0, len(content), 4096):
        for page in (bytes(4096), b"\xff" * 4096, content[4096:8192]):
            changed = content[:start] + page + content[start + 4096 :]
            for read in outcomes(tmp_path / "q", {"study.sqlite": changed}):
                assert read == expected if changed == content else read is None, start


def test_a_column_that_is_no_key_any_more(tmp_path: Path, whole: tuple[bytes, dict[str, Any]]) -> None:
    """SQLite finds nothing wrong with the rows then, but gives them without their order."""
    content, expected = whole
    begin = content.index(b"INTEGER PRIMARY KEY,  -- the order of the log")
    for place in range(begin, begin + len(b"INTEGER PRIMARY KEY")):
        for byte in (b"X", b"\x9b", b" "):
            changed = content[:place] + byte + content[place + 1 :]
            for read in outcomes(tmp_path / "q", {"study.sqlite": changed}):
                assert read is None or read == expected, (place, byte)


def test_what_is_said_of_a_damaged_file(tmp_path: Path, whole: tuple[bytes, dict[str, Any]]) -> None:
    content, _ = whole
    place = content.index(b'"reward": 0.1')
    path = tmp_path / "study.sqlite"
    path.write_bytes(content[:place] + b'"reward": 0.7' + content[place + 13 :])
    with pytest.raises(StudyError) as caught:
        Study.open(tmp_path)
    said = str(caught.value)
    assert said.startswith(f"{path}: is damaged (row ") and said.endswith(
        " missing from index event_copy); restore a copy of the file, or save what can be read with:"
        " sqlite3 study.sqlite .recover"
    )


def test_a_study_of_before_is_given_its_second_copy(tmp_path: Path) -> None:
    with new(tmp_path) as study:
        fill(study)
        expected = everything(study)
        names = [
            name
            for (name,) in study._db.execute("SELECT name FROM sqlite_schema WHERE name LIKE '%\\_copy' ESCAPE '\\'")
        ]
        for name in names:
            study._db.execute(f"DROP INDEX {name}")
    for opener in (Study.read, Study.open):
        with opener(tmp_path) as study:
            assert everything(study) == expected
    with closing(sqlite3.connect(tmp_path / "study.sqlite")) as db:
        assert {name for (name,) in db.execute("SELECT name FROM sqlite_schema")} >= set(names) and len(names) == 3


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[int], list[Any]]:
    """Files of a search that was killed, the length of its log on the disk after every event, and the events."""
    folder = tmp_path_factory.mktemp("killed")
    names = ("study.sqlite", "study.sqlite-wal", "study.sqlite-shm")
    with new(folder) as study:
        lengths = []
        for number in range(30):
            for write in (ask, tell):
                write(study, number)
                lengths.append((folder / "study.sqlite-wal").stat().st_size)
        assert lengths == sorted(set(lengths)), "none of it is in the main file yet"
        return {name: (folder / name).read_bytes() for name in names}, lengths, list(study.events())


@seeds
@pytest.mark.parametrize("what", ["changed", "missing"])
def test_damaged_wal(
    tmp_path: Path, killed: tuple[dict[str, bytes], list[int], list[Any]], what: str, seed: int
) -> None:
    files, lengths, events = killed
    rng, content = random.Random(seed), files["study.sqlite-wal"]
    for _ in range(300 if LONG else 25):
        place = rng.randrange(len(content))
        changed = bytearray(content)
        changed[place] ^= rng.randrange(1, 256)
        damaged = bytes(changed) if what == "changed" else content[:place]
        kept = sum(length <= place for length in lengths)
        for read in outcomes(tmp_path / "q", {**files, "study.sqlite-wal": damaged}):
            assert read is not None and read["events"] == events[:kept]
        with Study.open(tmp_path / "q") as study:
            for trial in study.in_flight():
                tell(study, trial.number)
            ask(study, study.next_number)
        check_integrity(tmp_path / "q")


def test_damaged_shm(tmp_path: Path, killed: tuple[dict[str, bytes], list[int], list[Any]]) -> None:
    files, _, events = killed
    rng = random.Random(0)
    for _ in range(10):
        noise = rng.randbytes(len(files["study.sqlite-shm"]))
        for read in outcomes(tmp_path / "q", {**files, "study.sqlite-shm": noise}):
            assert read is not None and read["events"] == events


# --- rows that are none of ours ---------------------------------------------------------------------------

# What cannot be read then; a row of meta is read by the property of its name.
READERS = {
    "choices": ["trials", "events", "in_flight", "best", "trial", "measured_as", "measurement"],
    "outcome": ["events"],
    "measurement": ["trials", "events", "best", "trial", "measured_as", "measurement"],
    "state": ["trials", "best", "trial"],
    "data": ["latest_snapshot"],
    "tensors": ["latest_snapshot"],
}
PLACES = [
    ("event", "choices", "kind = 'ask'"),
    ("event", "outcome", "kind = 'tell'"),
    ("event", "measurement", "kind = 'tell'"),
    ("event", "state", "kind = 'tell'"),
    *[("meta", "value", f"key = '{key}'") for key in ("experiment", "seed", "decisions", "versions", "injected")],
    ("snapshot", "data", "true"),
    ("snapshot", "tensors", "true"),
]
JSON_OF_ANOTHER_KIND = ["'null'", "'5'", "'[{}]'"]


@pytest.mark.parametrize(("table", "column", "where"), PLACES)
@pytest.mark.parametrize("value", ["'{'", "CAST(X'FF00' AS TEXT)", "X'80'", *JSON_OF_ANOTHER_KIND])
def test_strange_rows(
    tmp_path: Path, whole: tuple[bytes, dict[str, Any]], table: str, column: str, where: str, value: str
) -> None:
    (tmp_path / "study.sqlite").write_bytes(whole[0])
    with closing(sqlite3.connect(tmp_path / "study.sqlite", isolation_level=None)) as db:
        db.execute(f"UPDATE {table} SET {column} = {value} WHERE {where}")
    refused = set()
    with Study.read(tmp_path) as study:
        for name, read in READ.items():
            try:
                read(study)
            except StudyError as error:
                refused.add(name)
                assert "\n" not in str(error) and ".recover" in str(error)
    must = {where.split("'")[1]} if table == "meta" else set(READERS[column])
    # A number is a seed, and an experiment or the data of a snapshot may be any JSON.
    assert refused >= must or (table != "event" and value in JSON_OF_ANOTHER_KIND), (refused, must)
