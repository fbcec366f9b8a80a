"""What goes wrong with the file of a study, in words of a user: what it was, and what can be done."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from nasneck.errors import StudyError

# What SQLite raises, and what Python does where a damaged byte leaves a text, or SQLite's message on it, no UTF-8.
FILE_ERRORS = (sqlite3.Error, UnicodeError)
RECOVER = "restore a copy of the file, or save what can be read with: sqlite3 study.sqlite .recover"


def is_damage(error: Exception) -> bool:
    """Whether one of ``FILE_ERRORS`` says that the content of the file is not what SQLite wrote."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # found by Python, not by SQLite: a text that is none, or a mistake of ours (a closed study)
        return not isinstance(error, sqlite3.ProgrammingError)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def explain(error: Exception, then: str = "go on with --resume") -> str:
    """Cause and remedy of one of ``FILE_ERRORS``, on one line.

    Args:
        error: As caught.
        then: What to do when the cause is gone.
    """
    text = " ".join(str(error).split())
    if is_damage(error):
        return f"it is damaged ({text}); {RECOVER}"
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the bits above tell kinds of one error apart
        case sqlite3.SQLITE_FULL:
            return f"the disk is full; free some space, then {then}"
        case sqlite3.SQLITE_IOERR:
            return f"{text} (the disk is full, over its quota, gone or failing); see to it, then {then}"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"another process has locked the database ({text}); end it or wait for it, then {then}"
    return text


@contextlib.contextmanager
def decoding(folder: Path, what: str) -> Iterator[None]:
    """Whatever goes wrong as ``what`` is decoded is a ``StudyError``: it is not what was written."""
    try:
        yield
    except StudyError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise StudyError(f"{folder}: {what} cannot be decoded ({reason}); {RECOVER}") from None
