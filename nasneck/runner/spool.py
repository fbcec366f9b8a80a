"""Measurements on their way home: what a worker finished is in a file before it says so.

A worker writes ``<run>/.spool/<number>.json``, then answers; the driver commits the answer to the study and
takes the file away. Files that are left when a driver starts are results whose driver was killed in between:
:func:`bring_home` commits those that fit. The folder serves only where workers see the driver's file system;
elsewhere a worker finds no mark of this run there and writes nothing.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nasneck.decision import Choices
from nasneck.files import write_atomically
from nasneck.runner.measuring import Values, outcome_of, reward_alone
from nasneck.study.study import Study
from nasneck.trial import Measurement

SCHEMA = "nasneck.spool/1"
SCRATCH = "tune"
FOLDER = ".spool"  # in that of the study; a name that a user's folder hardly has, as files in it are taken away


@dataclass(frozen=True, slots=True)
class Spool:
    """The spool of one run.

    Args:
        folder: Absolute.
        mark: Content of a file in it, by which a worker knows that it sees the same folder.
    """

    folder: Path
    mark: str

    @classmethod
    def create(cls, folder: Path) -> Spool:
        """The spool in ``folder``, which is made and marked.

        Raises:
            ConfigError: it cannot be written.
        """
        spool = cls(folder.absolute(), uuid.uuid4().hex)
        write_atomically(spool.folder / "mark", spool.mark)
        return spool

    @property
    def shared(self) -> bool:
        """Whether this process sees the folder that the driver marked."""
        try:
            return (self.folder / "mark").read_text(encoding="utf-8") == self.mark
        except (OSError, UnicodeDecodeError):
            return False

    def put(self, number: int, choices: Choices, cache_key: str, measurement: Measurement) -> None:
        """Write a measurement, whole or not at all; it survives the end of this process, and of the driver.

        Waiting for the disk would cost more than all else: it guards against a loss of power in the moment before
        the driver commits, and a file that such a loss leaves empty is passed over.

        Raises:
            ConfigError: it cannot be written.
        """
        content = {
            "schema": SCHEMA,
            "number": number,
            "choices": list(choices),
            "cache_key": cache_key,
            "measurement": measurement.to_dict(),
        }
        write_atomically(self._path(number), json.dumps(content) + "\n", durable=False)

    def get(self, number: int, cache_key: str) -> Measurement | None:
        """What was put for this trial under this key, by whichever worker; None if there is nothing."""
        entry = _read(self._path(number))
        return entry.measurement if entry and entry.cache_key == cache_key else None

    def drop(self, number: int) -> None:
        """Take away what the study holds by now."""
        _drop(self._path(number))

    @property
    def scratch(self) -> Path:
        """A place for files that are of no use to a later run."""
        return self.folder / SCRATCH

    def remove(self) -> None:
        """Take the folder away, if no measurement is left in it."""
        _tidy(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.json"


def bring_home(study: Study, folder: Path, key_of: Callable[[Choices], str], values: Values = reward_alone) -> int:
    """Commit the measurements in ``folder`` that ``study`` waits for; take away all others.

    Args:
        study: Open for writing.
        folder: Of a spool; need not exist.
        key_of: Cache key of choices under the settings of now. A file counts only if its key is the same, so
            neither another study's nor another setting's is taken for this one's.
        values: What the strategy is told of a measurement.

    Returns:
        How many were committed.
    """
    waiting = {trial.number: trial.choices for trial in study.in_flight()}
    found = 0
    for path in sorted(folder.glob("*.json")):
        if not path.stem.isdecimal():
            continue  # not one of ours
        entry = _read(path)
        if (
            entry is not None
            and waiting.get(entry.number) == entry.choices
            and key_of(entry.choices) == entry.cache_key
        ):
            measurement = entry.measurement
            study.told(entry.number, outcome_of(measurement, values), measurement, cache_key=entry.cache_key)
            found += 1
        _drop(path)
    _tidy(folder)  # what a killed driver and its workers left; a search that goes on in this process makes no spool
    return found


def _drop(path: Path) -> None:
    with contextlib.suppress(OSError):  # what stays is passed over at the next start: the study holds it
        path.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    """Take away all but measurements, and the folder if there are none."""
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    # Of a worker that was killed as it wrote: half a measurement.
    for path in (folder / "mark", *folder.glob(".*.json.*"), *folder.glob(".mark.*")):
        _drop(path)
    with contextlib.suppress(OSError):
        folder.rmdir()


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    choices: Choices
    cache_key: str
    measurement: Measurement


def _read(path: Path) -> _Entry | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            return None
        measurement = Measurement.from_dict(data["measurement"])
        return _Entry(int(data["number"]), tuple(data["choices"]), str(data["cache_key"]), measurement)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
