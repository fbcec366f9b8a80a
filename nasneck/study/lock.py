"""One process per run folder. The operating system keeps the lock (``flock``), so it dies with its process.

Linux and macOS; the folder should lie on a local disk.
"""

from __future__ import annotations

import fcntl
import os
import socket
import weakref
from pathlib import Path

from nasneck.errors import StudyError


class FolderLock:
    """Holds ``<folder>/study.lock`` until :meth:`release`.

    The file stays when the lock is gone: deleting it would let two processes lock two files of one name.

    Raises:
        StudyError: another process holds it (its id and machine are named), or locking is not possible.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "study.lock"
        try:
            self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StudyError(f"{path}: cannot be opened for writing ({error.strerror})") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held = isinstance(error, BlockingIOError)
            holder = os.pread(self._fd, 200, 0).decode(errors="replace").strip() or "another process"
            self._close()
            why = f"is in use by {holder}" if held else f"cannot be locked ({error.strerror})"
            raise StudyError(f"{folder}: the study {why}") from None
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


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A forked child (a data loader's worker) inherits the open file and would keep the lock alive after its
    # parent was killed. Closing the child's copy leaves the parent's lock in place.
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)
