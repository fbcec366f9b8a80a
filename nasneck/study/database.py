"""The SQLite file of a study: schema, opening and checking it, never its meaning.

WAL, so that readers do not wait for the writer; ``synchronous=FULL``, so that a committed result survives loss
of power. Every write is one statement and so a transaction of its own: nothing can be half-written.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from nasneck.errors import StudyError
from nasneck.study.trouble import FILE_ERRORS, RECOVER, explain, is_damage

FILE_NAME = "study.sqlite"
SCHEMA = 1
APPLICATION_ID = 0x6E6E636B  # "nnck", in the header of the file
PATIENCE_S = 30.0  # for another process that has locked the database: SQLite's shell, a program that makes backups

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE event (
    id          INTEGER PRIMARY KEY,  -- the order of the log
    kind        TEXT NOT NULL CHECK (kind IN ('ask', 'tell')),
    number      INTEGER NOT NULL,     -- of the trial
    time        REAL NOT NULL,        -- seconds since the epoch
    choices     TEXT,                 -- ask: JSON list
    graph_key   TEXT,                 -- ask: empty if the choices could not be decoded
    source      TEXT,                 -- ask: strategy | warm
    outcome     TEXT,                 -- tell: JSON, what the strategy was told
    measurement TEXT,                 -- tell: JSON
    state       TEXT,                 -- tell: that of the measurement
    cache_key   TEXT,                 -- tell: under which the measurement counts
    UNIQUE (number, kind)
);
CREATE INDEX event_cache_key ON event (cache_key) WHERE cache_key IS NOT NULL;
CREATE TABLE snapshot (
    id      INTEGER PRIMARY KEY CHECK (id = 1),  -- the latest is enough
    event   INTEGER NOT NULL,                    -- last event that it contains
    data    TEXT NOT NULL,
    tensors BLOB
);
"""

# A second copy of everything, for the check at opening compares indexes with their tables: a byte that changed on the
# disk is found, which SQLite's own structures would not show. The time comes first, so that entries are appended.
_COPIES = """
CREATE INDEX IF NOT EXISTS event_copy ON event
    (time, kind, number, choices, graph_key, source, outcome, measurement, state, cache_key);
CREATE INDEX IF NOT EXISTS meta_copy ON meta (value);
CREATE INDEX IF NOT EXISTS snapshot_copy ON snapshot (event, data, tensors);
"""


def create(path: Path, meta: Mapping[str, str]) -> None:
    """Make the file of a new study: complete under its name, or not there at all."""
    unfinished = path.with_name(f"{path.name}.new")
    try:
        unfinished.unlink(missing_ok=True)
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as db:
            # No journal file: one left behind by a kill would be taken for the next attempt's.
            db.execute("PRAGMA journal_mode = MEMORY")
            db.executescript(f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; {_TABLES} {_COPIES} COMMIT;")
            db.executemany("INSERT INTO meta VALUES (?, ?)", [("schema", str(SCHEMA)), *meta.items()])
        unfinished.replace(path)
        _sync_folder(path.parent)
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        text = explain(error, "try again") if isinstance(error, sqlite3.Error) else error
        raise StudyError(f"{path}: cannot be created: {text}") from None


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open the file of a study and check that it is one, unharmed and of this version's schema.

    Raises:
        StudyError: it is not there, not a database, not nasneck's, damaged or of another version.
    """
    if not path.is_file():
        raise StudyError(f"{path.parent}: holds no study (there is no {FILE_NAME})")
    db = None
    try:
        db = _open(path, write=write)
        _check(db, path)
        if write:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.executescript(_COPIES)  # a study of an older version has none yet
        return db
    except BaseException as error:
        if db is not None:
            db.close()
        if isinstance(error, FILE_ERRORS):
            what = "is not a study that can be used" if is_damage(error) else "cannot be opened"
            raise StudyError(f"{path}: {what}: {explain(error, 'try again')}") from None
        raise


def _open(path: Path, *, write: bool) -> sqlite3.Connection:
    uri = path.resolve().as_uri()
    if write:
        return sqlite3.connect(f"{uri}?mode=rw", uri=True, isolation_level=None, timeout=PATIENCE_S)
    db = sqlite3.connect(f"{uri}?mode=ro", uri=True, isolation_level=None, timeout=PATIENCE_S)
    try:
        db.execute("PRAGMA schema_version")
    except FILE_ERRORS as error:
        db.close()
        if not isinstance(error, sqlite3.OperationalError) or path.with_name(f"{path.name}-wal").exists():
            raise
        # A folder without write permission and no writer: SQLite cannot make its side files there.
        db = sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None)
    return db


def _check(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StudyError(f"{path}: is a database, but not a study of nasneck")
    page = db.execute("PRAGMA page_size").fetchone()[0]
    pending = path.with_name(f"{path.name}-wal")
    if path.stat().st_size % page and not (pending.exists() and pending.stat().st_size):
        raise StudyError(f"{path}: is damaged (its end is missing); {RECOVER}")
    damage = [row[0] for row in db.execute("PRAGMA integrity_check(1)")]
    if damage != ["ok"]:
        raise StudyError(f"{path}: is damaged ({' '.join(damage[0].split())}); {RECOVER}")
    schema = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    if schema is None or schema[0] != str(SCHEMA):
        found = schema[0] if schema else "none"
        raise StudyError(f"{path}: has schema version {found}; this nasneck reads version {SCHEMA}")
    with closing(sqlite3.connect(":memory:")) as plain:
        plain.executescript(_TABLES)
        if _columns(db) != _columns(plain):
            raise StudyError(f"{path}: is damaged (the definition of its tables); {RECOVER}")


def _columns(db: sqlite3.Connection) -> list[tuple[object, ...]]:
    return [row for name in ("meta", "event", "snapshot") for row in db.execute(f"PRAGMA table_info({name})")]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
