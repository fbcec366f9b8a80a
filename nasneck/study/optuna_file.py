"""A study as a file that ``optuna-dashboard`` opens."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from nasneck.errors import StudyError
from nasneck.strategy.optuna_tools import quiet, require_optuna

if TYPE_CHECKING:
    from nasneck.study.study import Study


def write_optuna(study: Study, path: str | Path) -> Path:
    """Write all trials of ``study`` into a new SQLite storage of Optuna, see :meth:`nasneck.study.Study.to_optuna`.

    The file is complete under its name, or not there at all. Its study is called like the folder.

    Args:
        study: Any, also one that is being written.
        path: Of the file; folders are made.

    Raises:
        StudyError: there is a file already, it cannot be written, or the study does not say its decisions.
        ConfigError: Optuna is not installed.
    """
    require_optuna()
    import optuna

    path = Path(path)
    if os.path.lexists(path):
        raise StudyError(f"{path}: is there already; a copy for Optuna needs a new file")
    unfinished = path.absolute().with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()  # finds out in words of the system what SQLAlchemy tells in many lines
    except OSError as error:
        raise StudyError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        with quiet():
            # Connected here, as a name with a question mark would not survive a URL.
            storage = optuna.storages.RDBStorage("sqlite:///", engine_kwargs={"creator": lambda: _connect(unfinished)})
        try:
            study.to_optuna(storage)
        finally:
            storage.remove_session()
            storage.engine.dispose()
        unfinished.rename(path)
    except OSError as error:
        raise StudyError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return path


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=30, check_same_thread=False)
    db.execute("PRAGMA synchronous = OFF")  # half a file is thrown away anyway, and each trial is ten transactions
    db.execute("PRAGMA journal_mode = MEMORY")
    return db
