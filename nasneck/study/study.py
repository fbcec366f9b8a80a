"""A study: one folder with an append-only log of asks and tells, the only source of truth of a search.

    <folder>/study.sqlite     meta (experiment, versions, seed) | event (the log) | snapshot (of the strategy)
    <folder>/study.lock       held by the one process that may write

An ask is written before its evaluation starts, a result before the strategy is told. Whatever a killed
process had finished is therefore in the log, and :func:`nasneck.study.resume` can repeat how it came about.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from nasneck.decision import Decision
from nasneck.errors import StudyError
from nasneck.study import codec, database, trouble
from nasneck.study.experiment import as_json, differences
from nasneck.study.lock import FolderLock
from nasneck.study.records import (
    EVENTS,
    REPEATABLE,
    TRIALS,
    Asked,
    Told,
    current_versions,
    event_of,
    reward_of,
    trial_of,
)
from nasneck.trial import Ask, Measurement, Outcome, State, Trial

if TYPE_CHECKING:
    import pandas as pd
    from optuna.storages import BaseStorage
    from optuna.study import Study as OptunaStudy

    from nasneck.strategy.base import Snapshot

T = TypeVar("T")


class Study:
    """Made by :meth:`create`, :meth:`open` (both hold the folder until :meth:`close`) or :meth:`read`.

    Every method raises ``StudyError`` if the file cannot be read or written.
    """

    # In WAL mode NORMAL does not wait for the disk, and FULL takes all that was written before along.
    _light, _full = "NORMAL", "FULL"

    def __init__(self, folder: Path, db: sqlite3.Connection, lock: FolderLock | None) -> None:
        self.folder = folder
        self._db = db
        self._lock = lock
        # How far the log goes and which trials of it have no result, once known: only the holder of the lock writes.
        self._next: int | None = None
        self._open: set[int] | None = None

    @classmethod
    def create(
        cls, folder: str | Path, *, experiment: Mapping[str, Any], seed: int, decisions: Sequence[Decision] = ()
    ) -> Study:
        """Start a study in ``folder``, which is made if need be.

        Args:
            folder: May hold other files, but no study.
            experiment: The resolved settings, JSON-ready.
            seed: Of the strategy.
            decisions: The space, so that choices can be named later.

        Raises:
            StudyError: the folder holds a study, is in use, or cannot be written.
            ConfigError: an experiment that JSON cannot hold.
        """
        folder = Path(folder)
        meta = {
            "experiment": as_json(experiment),
            "versions": json.dumps(current_versions()),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": str(int(seed)),
            "injected": "[]",
        }
        if decisions:
            meta["decisions"] = json.dumps([[decision.name, decision.choices, decision.kind] for decision in decisions])
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"{folder}: cannot be made a folder ({error.strerror})") from None
        lock = FolderLock(folder)
        try:
            path = folder / database.FILE_NAME
            if path.exists():
                raise StudyError(f"{folder}: already holds a study; resume it or choose another folder")
            database.create(path, meta)
            return cls(folder, database.connect(path, write=True), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        experiment: Mapping[str, Any] | None = None,
        free: Collection[str] = (),
        complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda stored: stored,
    ) -> Study:
        """Open a study to go on with it.

        Args:
            folder: As given to :meth:`create`.
            experiment: If given, has to equal the stored one but for the ``free`` settings, whose new values
                are stored.
            free: Dotted names of settings, or of whole tables, that do not affect results.
            complete: Gives a stored experiment the defaults of settings that its version did not have.

        Raises:
            StudyError: no study there, a file that is none or is damaged, a folder in use, or another
                experiment (the settings that differ are named).
        """
        folder = Path(folder)
        if not (folder / database.FILE_NAME).is_file():
            raise StudyError(f"{folder}: holds no study (there is no {database.FILE_NAME})")
        lock = FolderLock(folder)
        try:
            study = cls(folder, database.connect(folder / database.FILE_NAME, write=True), lock)
        except BaseException:
            lock.release()
            raise
        try:
            if experiment is not None:
                study._agree(json.loads(as_json(experiment)), free, complete)
        except BaseException:
            study.close()
            raise
        return study

    @classmethod
    def read(cls, folder: str | Path) -> Study:
        """Open a study for reading only, without a lock; works while a search writes to it."""
        folder = Path(folder)
        return cls(folder, database.connect(folder / database.FILE_NAME, write=False), None)

    def close(self) -> None:
        """Close the file and give the folder free; a second call does nothing."""
        self._db.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def experiment(self) -> dict[str, Any]:
        """The resolved experiment."""
        return self._from_meta("experiment", json.loads)

    @property
    def seed(self) -> int:
        """Seed of the strategy."""
        return self._from_meta("seed", int)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The space that the study was created with.

        Raises:
            StudyError: the study does not say (it was made by an older version).
        """
        return self._from_meta("decisions", lambda text: tuple(Decision(*fields) for fields in json.loads(text)))

    @property
    def versions(self) -> dict[str, str]:
        """Versions of Python, torch and nasneck that made the study."""
        return self._from_meta("versions", json.loads)

    @property
    def latest_versions(self) -> dict[str, str]:
        """Those that it was last noted to go on with."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'latest_versions'")
        return json.loads(rows[0][0]) if rows else self.versions

    def note_versions(self, versions: Mapping[str, str]) -> None:
        """Note that the study goes on with these versions."""
        self._write("INSERT OR REPLACE INTO meta VALUES ('latest_versions', ?)", (json.dumps(dict(versions)),))

    @property
    def created(self) -> str:
        """Time of creation, ISO 8601, UTC."""
        return self._meta("created")

    @property
    def next_number(self) -> int:
        """Number of the next ask; so many are in the log."""
        if self._next is not None:
            return self._next
        found = self._rows("SELECT coalesce(max(number) + 1, 0) FROM event")[0][0]
        self._next = found if self._lock is not None else None
        return found

    def asked(self, ask: Ask, *, graph_key: str, source: str = "strategy") -> None:
        """Append an ask, before its evaluation starts; from then on it survives the end of this process.

        It is on disk with the next result, which is soon enough: if the machine loses power before, the evaluation is
        lost too, and the strategy asks the same again.

        Raises:
            StudyError: its number is not the next one.
        """
        if ask.number != self.next_number:
            raise StudyError(f"{self.folder}: trial {ask.number} asked, but {self.next_number} is next")
        open_asks = self._open_asks()
        self._write(
            "INSERT INTO event (kind, number, time, choices, graph_key, source) VALUES ('ask', ?, ?, ?, ?, ?)",
            (ask.number, time.time(), json.dumps(list(ask.choices)), graph_key, source),
            synchronous=self._light,
        )
        self._next = ask.number + 1
        open_asks.add(ask.number)

    def told(self, number: int, outcome: Outcome, measurement: Measurement, *, cache_key: str | None) -> None:
        """Append a result; it is on disk when this returns. Only then may the strategy be told.

        Raises:
            StudyError: a number that was never asked, or that has a result.
        """
        open_asks = self._open_asks()
        if number not in open_asks:
            states = dict(self._rows("SELECT kind, state FROM event WHERE number = ?", (number,)))
            if "ask" not in states:
                raise self._never_asked(number)
            raise StudyError(f"{self.folder}: trial {number} already has a result ({states['tell']})")
        self._write(
            "INSERT INTO event (kind, number, time, outcome, measurement, state, cache_key)"
            " VALUES ('tell', ?, ?, ?, ?, ?, ?)",
            (
                number,
                time.time(),
                codec.outcome_to_json(outcome),
                measurement.to_json(),
                measurement.state.value,
                cache_key,
            ),
        )
        open_asks.discard(number)

    def _open_asks(self) -> set[int]:
        if self._open is None:
            self._open = {trial.number for trial in self.in_flight()}
        return self._open

    def events(self, *, after: int = 0) -> Iterator[Asked | Told]:
        """The log in order, from the event behind ``after`` on (events count from 1)."""
        for row in self._rows(f"{EVENTS} WHERE id > ? ORDER BY id", (after,)):
            with trouble.decoding(self.folder, f"trial {row[0]}"):
                event = event_of(row)
            yield event

    def trials(self) -> list[Trial]:
        """All trials by number, running ones included."""
        return self._trials(f"{TRIALS} ORDER BY a.number")

    def trial(self, number: int) -> Trial:
        """One trial.

        Raises:
            StudyError: it was never asked.
        """
        found = self._trials(f"{TRIALS} AND a.number = ?", (number,))
        if not found:
            raise self._never_asked(number)
        return found[0]

    def in_flight(self) -> list[Trial]:
        """Trials asked and not told, by number."""
        return self._trials(f"{TRIALS} AND t.number IS NULL ORDER BY a.number")

    def best(self) -> Trial | None:
        """The measured trial with the highest reward, the earliest of equals; None before the first."""
        measured = [trial for trial in self.trials() if trial.state is State.OK and trial.measurement]
        return max(measured, key=reward_of, default=None)

    def measured_as(self, cache_key: str) -> Trial | None:
        """The first trial whose measurement stands for ``cache_key`` and can be used again.

        Those are finished (ok), not finite (nan) and rejected ones: the same graph, data and seed would give
        them again. Out of memory, timeouts and exceptions depend on the day and are measured anew.
        """
        states = ", ".join(f"'{state.value}'" for state in REPEATABLE)
        query = f"{TRIALS} AND t.cache_key = ? AND t.state IN ({states}) ORDER BY t.id LIMIT 1"
        found = self._trials(query, (cache_key,))
        return found[0] if found else None

    def measurement(self, cache_key: str) -> Measurement | None:
        """The measurement of :meth:`measured_as`."""
        trial = self.measured_as(cache_key)
        return trial.measurement if trial else None

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """Store the state of the strategy after the last event of the log, in place of an earlier one."""
        data, tensors = codec.snapshot_to_row(snapshot)
        self._write(
            "INSERT OR REPLACE INTO snapshot VALUES (1, (SELECT coalesce(max(id), 0) FROM event), ?, ?)",
            (data, tensors),
            synchronous=self._light,  # the log is enough without it
        )

    def latest_snapshot(self) -> tuple[int, Snapshot] | None:
        """The stored state of the strategy, and the last event that it contains.

        Raises:
            StudyError: it cannot be decoded (the log does not need it).
        """
        rows = self._rows("SELECT event, data, tensors FROM snapshot")
        if not rows:
            return None
        with trouble.decoding(self.folder, "the snapshot of its strategy"):
            return rows[0][0], codec.snapshot_from_row(*rows[0][1:])

    @property
    def injected(self) -> tuple[tuple[int, int], ...]:
        """Ranges [first, end) of trials that an earlier resume had to feed in as choices from outside."""
        return self._from_meta("injected", lambda text: tuple((first, end) for first, end in json.loads(text)))

    def mark_injected(self, first: int) -> None:
        """Note that all trials from ``first`` to the last one of the log are fed in from outside."""
        ranges = [*self.injected, (first, self.next_number)]
        self._write("UPDATE meta SET value = ? WHERE key = 'injected'", (json.dumps(ranges),))

    def count_deaths(self, numbers: Sequence[int]) -> dict[int, int]:
        """Note that a process ended while these trials were being measured in it; how many ended so over each."""
        before = self._deaths()
        counts = {number: before.get(number, 0) + 1 for number in numbers}
        if counts or before:  # trials that have come to an end need no count any more
            self._keep_deaths(counts)
        return counts

    def forgive_deaths(self) -> None:
        """Forget the counts, and do not count the present end of the process: it is on purpose."""
        self._keep_deaths({trial.number: -1 for trial in self.in_flight()})

    def _deaths(self) -> dict[int, int]:
        rows = self._rows("SELECT value FROM meta WHERE key = 'deaths'")
        with trouble.decoding(self.folder, "its deaths"):
            return {int(number): int(count) for number, count in json.loads(rows[0][0])} if rows else {}

    def _keep_deaths(self, counts: Mapping[int, int]) -> None:
        self._write("INSERT OR REPLACE INTO meta VALUES ('deaths', ?)", (json.dumps(list(counts.items())),))

    def frame(self) -> pd.DataFrame:
        """All trials by number as a table of pandas, one row each, running ones included.

        The columns are told in :mod:`nasneck.study.frame`.
        """
        from nasneck.study.frame import frame

        return frame(self)

    def to_optuna(self, storage: str | BaseStorage | None = None, study_name: str | None = None) -> OptunaStudy:
        """Copy all trials, running ones included, into a new study of Optuna that maximises ``reward``.

        The copy is for looking at (``optuna.visualization``, ``optuna.importance``, the dashboard); this study
        stays what it is. Parameters are named after decisions and hold indices of choices. How states map is
        said in :mod:`nasneck.study.optuna_export`; what was measured stands in user attributes, and
        ``duplicate_of`` in those of a cached trial.

        Args:
            storage: A storage of Optuna, or its URL, for example ``sqlite:///copy.db``; in memory by default.
            study_name: By default the name of the folder.

        Raises:
            StudyError: a study of that name is there, the storage cannot be used, or this study does not say
                its decisions.
            ConfigError: Optuna is not installed.
        """
        from nasneck.study.optuna_export import to_optuna

        return to_optuna(self, storage, study_name)

    def _agree(
        self,
        experiment: Mapping[str, Any],
        free: Collection[str],
        complete: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        stored = self.experiment
        found = differences(json.loads(as_json(complete(dict(stored)))), experiment, free=free)
        if found:
            more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
            raise StudyError(f"{self.folder}: the study was made with another experiment: {'; '.join(found[:5])}{more}")
        if stored != experiment:
            self._write("UPDATE meta SET value = ? WHERE key = 'experiment'", (as_json(experiment),))

    def _never_asked(self, number: int) -> StudyError:
        return StudyError(f"{self.folder}: trial {number} was never asked ({self.next_number} asks so far)")

    def _meta(self, key: str) -> str:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        if not rows:
            raise StudyError(f"{self.folder}: the study says nothing of its {key}")
        return rows[0][0]

    def _from_meta(self, key: str, decode: Callable[[str], T]) -> T:
        text = self._meta(key)
        with trouble.decoding(self.folder, f"its {key}"):
            return decode(text)

    def _trials(self, query: str, values: tuple[Any, ...] = ()) -> list[Trial]:
        trials = []
        for row in self._rows(query, values):
            with trouble.decoding(self.folder, f"trial {row[0]}"):
                trials.append(trial_of(row))
        return trials

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except trouble.FILE_ERRORS as error:
            why = trouble.explain(error, "try again")
            raise StudyError(f"{self.folder}: the study cannot be read: {why}") from None

    def _write(self, statement: str, values: tuple[Any, ...], *, synchronous: str | None = None) -> None:
        try:
            if synchronous is None:
                self._db.execute(statement, values)
                return
            self._db.execute(f"PRAGMA synchronous = {synchronous}")
            try:
                self._db.execute(statement, values)
            finally:
                self._db.execute(f"PRAGMA synchronous = {self._full}")
        except trouble.FILE_ERRORS as error:
            why = trouble.explain(error)
            raise StudyError(f"{self.folder}: the study cannot be written: {why}") from None
