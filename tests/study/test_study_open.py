"""Who may open what: locks, foreign and broken files, other experiments, readers."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import nasneck
from nasneck.errors import StudyError
from nasneck.study import Study
from nasneck.study.experiment import differences, flatten
from nasneck.trial import Ask, Measurement, Outcome, State

EXPERIMENT = {"proxy": {"steps": 100, "lr": 0.1, "sizes": (3, 5)}, "search": {"trials": 8}, "name": "a"}


def make(folder: Path, trials: int = 0) -> Path:
    with Study.create(folder, experiment=EXPERIMENT, seed=1) as study:
        for number in range(trials):
            study.asked(Ask(number, (number,)), graph_key=f"g{number}")
            measurement = Measurement(State.OK, reward=0.1, text="x" * 500)
            study.told(number, Outcome((0.1,)), measurement, cache_key=None)
    return folder / "study.sqlite"


def child(code: str, *args: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(nasneck.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], env=environment, stdout=subprocess.PIPE, text=True
    )


# --- folder in use ---------------------------------------------------------------------------------------


def test_folder_in_use_by_another_process_until_that_dies(tmp_path: Path) -> None:
    make(tmp_path)
    # The holder forks, as a data loader does: the worker outlives it and must not keep the lock.
    code = (
        "import os, sys, time\n"
        "from nasneck.study import Study\n"
        "study = Study.open(sys.argv[1])\n"
        "worker = os.fork()\n"
        "if worker: print(worker, flush=True)\n"
        "time.sleep(60)"
    )
    holder = child(code, tmp_path)
    assert holder.stdout is not None
    worker = int(holder.stdout.readline())
    try:
        text = f"{tmp_path.name}: the study is in use by process {holder.pid} on "
        with pytest.raises(StudyError, match=text):
            Study.open(tmp_path)
        with pytest.raises(StudyError, match="in use by process"):
            Study.create(tmp_path, experiment=EXPERIMENT, seed=1)
        with Study.read(tmp_path) as reader:
            assert reader.trials() == []
        holder.kill()
        holder.wait()
        os.kill(worker, 0)  # alive
        Study.open(tmp_path).close()
    finally:
        holder.kill()
        holder.wait()
        os.kill(worker, signal.SIGKILL)
        holder.stdout.close()


def test_folder_in_use_by_this_process(tmp_path: Path) -> None:
    make(tmp_path)
    with (
        Study.open(tmp_path),
        pytest.raises(StudyError, match=f"in use by process {os.getpid()}"),
    ):
        Study.open(tmp_path)
    Study.open(tmp_path).close()


def test_failed_opening_gives_the_folder_free(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(StudyError, match="another experiment"):
        Study.open(tmp_path, experiment={})
    with pytest.raises(StudyError, match="already holds a study"):
        Study.create(tmp_path, experiment=EXPERIMENT, seed=1)
    Study.open(tmp_path).close()


# --- foreign and broken files ----------------------------------------------------------------------------


def opened(folder: Path) -> list[str]:
    """Texts of the errors that opening to write and to read give, the same for both."""
    texts = []
    for opener in (Study.open, Study.read):
        with pytest.raises(StudyError) as caught:
            opener(folder)
        text = str(caught.value)
        assert "\n" not in text
        texts.append(text)
    return texts


def test_no_study_there(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        for text in opened(folder):
            assert text == f"{folder}: holds no study (there is no study.sqlite)"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"hello, I am a text file\n" * 100, b"SQLite format 3\0" * 4])
def test_not_a_study(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "study.sqlite").write_bytes(content)
    for text in opened(tmp_path):
        assert "study.sqlite: is" in text
    assert (tmp_path / "study.sqlite").read_bytes() == content
    with pytest.raises(StudyError, match="already holds a study"):
        Study.create(tmp_path, experiment=EXPERIMENT, seed=1)


def test_foreign_database(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "study.sqlite")
    db.execute("CREATE TABLE event (id INTEGER)")
    db.commit()
    db.close()
    before = (tmp_path / "study.sqlite").read_bytes()
    for text in opened(tmp_path):
        assert text.endswith("study.sqlite: is a database, but not a study of nasneck")
    assert (tmp_path / "study.sqlite").read_bytes() == before


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.75, 0.99])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    path = make(tmp_path, trials=60)
    content = path.read_bytes()
    assert len(content) > 40_000
    path.write_bytes(content[: int(len(content) * share)])
    for text in opened(tmp_path):
        assert "is damaged" in text or "is not a study that can be used" in text


def test_overwritten_pages(tmp_path: Path) -> None:
    path = make(tmp_path, trials=60)
    content = bytearray(path.read_bytes())
    content[8192:16384] = b"\xff" * 8192
    path.write_bytes(content)
    for text in opened(tmp_path):
        assert "is damaged" in text or "is not a study that can be used" in text


def test_other_schema(tmp_path: Path) -> None:
    path = make(tmp_path)
    db = sqlite3.connect(path)
    db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    db.commit()
    db.close()
    for text in opened(tmp_path):
        assert text.endswith("study.sqlite: has schema version 99; this nasneck reads version 1")


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="file: cannot be made a folder"):
        Study.create(tmp_path / "file", experiment={}, seed=0)


def test_half_made_study_is_no_obstacle(tmp_path: Path) -> None:
    # What a kill during creation leaves behind.
    (tmp_path / "study.sqlite.new").write_bytes(b"SQLite format 3\0 half")
    make(tmp_path)
    Study.open(tmp_path).close()
    assert not (tmp_path / "study.sqlite.new").exists()


# --- another experiment ----------------------------------------------------------------------------------


def test_same_experiment_opens(tmp_path: Path) -> None:
    make(tmp_path)
    Study.open(tmp_path, experiment=EXPERIMENT).close()


def test_other_experiment_is_refused_with_the_settings_named(tmp_path: Path) -> None:
    make(tmp_path)
    other = {"proxy": {"steps": 200, "sizes": (3, 5), "seed": 7}, "search": {"trials": 8}, "name": "a"}
    with pytest.raises(StudyError) as caught:
        Study.open(tmp_path, experiment=other)
    assert str(caught.value) == (
        f"{tmp_path}: the study was made with another experiment: proxy.lr was 0.1, is not set;"
        " proxy.seed was not set, is 7; proxy.steps was 100, is 200"
    )


def test_free_settings_may_change_and_are_stored(tmp_path: Path) -> None:
    make(tmp_path)
    more = {**EXPERIMENT, "search": {"trials": 50}}
    with pytest.raises(StudyError, match=r"search\.trials was 8, is 50$"):
        Study.open(tmp_path, experiment=more)
    for free in ("search.trials", "search"):
        with Study.open(tmp_path, experiment=more, free=[free]) as study:
            assert study.experiment["search"] == {"trials": 50}
    both = {**more, "name": "b", "search": {"trials": 60}}
    with pytest.raises(StudyError, match=r'experiment: name was "a", is "b"$'):
        Study.open(tmp_path, experiment=both, free=["search"])
    with Study.open(tmp_path) as study:
        assert study.experiment["search"] == {"trials": 50}


def test_differences() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": {}}, "e": [1]}) == {"a.b.c": 1, "a.d": {}, "e": [1]}
    assert differences({"a": {"b": 1}}, {"a": {"b": 1}}) == []
    assert differences({"a": {"b": 1}}, {"a": 1}) == ["a was not set, is 1", "a.b was 1, is not set"]
    # A free name is a whole setting or table, never the beginning of a word.
    assert differences({"trials": 1, "trials2": 1}, {"trials": 2, "trials2": 2}, free=["trials"]) == [
        "trials2 was 1, is 2"
    ]
    assert len(differences({"a": "x" * 500}, {"a": None})[0]) < 100


def test_many_differences_are_counted(tmp_path: Path) -> None:
    with Study.create(tmp_path, experiment={f"s{i}": 0 for i in range(9)}, seed=0):
        pass
    with pytest.raises(StudyError, match=r"s4 was 0, is 1; and 4 more$"):
        Study.open(tmp_path, experiment={f"s{i}": 1 for i in range(9)})


# --- readers ---------------------------------------------------------------------------------------------


def test_reader_sees_a_running_search_and_cannot_write(tmp_path: Path) -> None:
    with Study.create(tmp_path, experiment=EXPERIMENT, seed=1) as writer, Study.read(tmp_path) as reader:
        writer.asked(Ask(0, (1,)), graph_key="g")
        assert [trial.state for trial in reader.trials()] == [None]
        writer.told(0, Outcome((0.5,)), Measurement(State.OK, reward=0.5), cache_key="c")
        assert [trial.state for trial in reader.trials()] == [State.OK]
        with pytest.raises(StudyError, match="cannot be written: attempt to write a readonly database"):
            reader.asked(Ask(1, (1,)), graph_key="g")


def test_reader_of_a_finished_study_changes_nothing(tmp_path: Path) -> None:
    path = make(tmp_path, trials=3)
    before = path.read_bytes()
    with Study.read(tmp_path) as reader:
        assert len(reader.trials()) == 3
        assert reader.best() is not None
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_reader_of_a_folder_without_write_permission(tmp_path: Path) -> None:
    make(tmp_path, trials=3)
    tmp_path.chmod(0o500)
    try:
        with Study.read(tmp_path) as reader:
            assert len(reader.trials()) == 3
    finally:
        tmp_path.chmod(0o700)


def test_folder_names_with_special_characters(tmp_path: Path) -> None:
    folder = tmp_path / "50% of #runs? ü"
    make(folder, trials=1)
    with Study.open(folder) as study:
        assert len(study.trials()) == 1
    with Study.read(folder) as study:
        assert len(study.trials()) == 1
