"""A study as a file for ``optuna-dashboard``: whole, new, or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from nasneck.decision import Decision
from nasneck.errors import StudyError
from nasneck.study import Study
from nasneck.study.optuna_file import write_optuna
from nasneck.trial import Ask, Measurement, Outcome, State

DECISIONS = (Decision("cell0.inputs", 5, "inputs"), Decision("cell0.op", 2, "op"))


def filled(folder: Path, decisions: tuple[Decision, ...] = DECISIONS) -> Study:
    study = Study.create(folder, experiment={}, seed=0, decisions=decisions)
    for number in range(5):
        study.asked(Ask(number, (number, number % 2)), graph_key="g")
        if number < 4:
            measurement = Measurement(State.OK, reward=0.1 * number)
            study.told(number, Outcome((0.1 * number,)), measurement, cache_key=None)
    return study


@pytest.mark.parametrize("name", ["copy.db", "deep/er/copy", "50% of? #x & ü/c o p y?.db"])
def test_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with filled(tmp_path / "bccd") as study:
        assert write_optuna(study, path) == path
    assert [entry.name for entry in path.parent.iterdir() if entry.name != "bccd"] == [path.name], "nothing beside it"
    plain = path.rename(tmp_path / "plain.db")  # URLs do not go with every name
    storage = optuna.storages.RDBStorage(f"sqlite:///{plain}")
    try:
        copy = optuna.load_study(study_name="bccd", storage=storage)
        assert [trial.state.name for trial in copy.trials] == ["COMPLETE"] * 4 + ["RUNNING"]
        assert copy.best_trial.params == {"cell0.inputs": 3, "cell0.op": 1}
    finally:
        storage.remove_session()
        storage.engine.dispose()


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with filled(tmp_path / "bccd") as study:
        write_optuna(study, "copy.db")
    assert (tmp_path / "copy.db").stat().st_size > 10_000


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "copy.db"
    path.write_text("mine")
    with filled(tmp_path / "bccd") as study, pytest.raises(StudyError, match=r"copy\.db: is there already; a copy"):
        write_optuna(study, path)
    assert path.read_text() == "mine"


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with filled(tmp_path / "bccd", decisions=()) as study:
        with pytest.raises(StudyError, match="says nothing of its decisions"):
            write_optuna(study, tmp_path / "copies/copy.db")
        with pytest.raises(StudyError, match=r"file/copy\.db: cannot be written \((Not a directory|File exists)\)"):
            write_optuna(study, tmp_path / "file/copy.db")
    assert not list((tmp_path / "copies").iterdir())


def test_without_optuna(tmp_path: Path) -> None:
    filled(tmp_path / "bccd").close()
    code = (
        "import sys\n"
        "sys.modules['optuna'] = None\n"
        "from nasneck.errors import ConfigError\n"
        "from nasneck.study import Study\n"
        "from nasneck.study.optuna_file import write_optuna\n"
        "try:\n    write_optuna(Study.read(sys.argv[1]), sys.argv[2])\nexcept ConfigError as error:\n    print(error)"
    )
    args = [sys.executable, "-c", code, tmp_path / "bccd", tmp_path / "copies/copy.db"]
    ended = subprocess.run(args, capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("Optuna is missing (") and not (tmp_path / "copies").exists()
