"""One process per run folder. The operating system keeps the lock (``flock``), so it dies with its process.

Linux and macOS; the folder should lie on a local disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from nasneck.errors import StudyError

FILE_NAME = "study.lock"
PATIENCE_S = 5.0  # with those who only look, see holder_of; one of them might be stopped while it does


class FolderLock:
    """Holds ``<folder>/study.lock`` until :meth:`release`.

    The file stays when the lock is gone: deleting it would let two processes lock two files of one name.

    Raises:
        StudyError: another process holds it (its id and machine are named), or locking is not possible.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / FILE_NAME
        try:
            self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StudyError(f"{path}: cannot be opened for writing ({error.strerror})") from None
        try:
            _take(self._fd)
        except OSError as error:
            held = isinstance(error, BlockingIOError)
            holder = os.pread(self._fd, 200, 0).decode(errors="replace").strip() or "another process"
            self._close()
            why = f"is in use by {holder}" if held else f"cannot be locked ({error.strerror})"
            raise StudyError(f"{folder}: the study {why}") from None
        with contextlib.suppress(OSError):  # a full disk; the name of the holder is a courtesy, the lock holds without
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        _held.add(self)

    def release(self) -> None:
        """Give the folder free; a second call does nothing."""
        _held.discard(self)
        self._close()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _take(fd: int) -> None:
    """Lock for writing, unless another writer does.

    Raises:
        BlockingIOError: one does.
        OSError: there are no locks on this file system.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            # A writer lets nobody share. Whoever looks whether there is one does, and is gone in a moment.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(fd, fcntl.LOCK_UN)
            if time.monotonic() > deadline:
                raise
        time.sleep(0.005)


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a folder.

    Args:
        name: Its id and machine.
        since: When it took the folder, in seconds since the epoch.
    """

    name: str
    since: float


def holder_of(folder: Path) -> Holder | None:
    """Who holds ``folder`` just now; None if nobody does. Nobody is kept from taking it, and nothing is written.

    Raises:
        StudyError: the lock cannot be looked at.
    """
    path = folder / FILE_NAME
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None  # of a study that was copied without it
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back as the file is closed
        return None
    except BlockingIOError:
        name = os.pread(fd, 200, 0).decode(errors="replace").strip()
        return Holder(name or "another process", os.fstat(fd).st_mtime)
    except OSError as error:
        raise StudyError(f"{path}: cannot be locked ({error.strerror})") from None
    finally:
        os.close(fd)


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A forked child (a data loader's worker) inherits the open file and would keep the lock alive after its
    # parent was killed. Closing the child's copy leaves the parent's lock in place.
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)
