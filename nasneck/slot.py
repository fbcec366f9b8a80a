"""Quiet for a measurement of time: while one process of nasneck measures, the others on the machine wait.

    working()   around a training step, a batch of detections: many at once
    alone()     around a latency measurement: nobody works meanwhile

Two files are locked with ``flock``, so a process that is killed gives them back. The first is a turnstile: who wants to
be alone holds it, so that those at work come to an end and none starts anew; without it, two workers that take turns
would keep a third waiting for ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_POLL_S = 0.002


class Slot:
    """The machine's slot, shared by all processes of a user.

    Args:
        folder: Of the two files; None takes one below the system's folder for temporary files.
        patience_s: How long to wait for the others; then one measures beside them (one of them may be stopped, and
            nobody shall wait for it for ever).
    """

    def __init__(self, folder: Path | None = None, *, patience_s: float = 60.0) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"nasneck-{os.getuid()}"
        self._patience_s = patience_s
        self._files: tuple[int, int] | None = None
        self._process = 0

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Work that takes part in the load of the machine, for some seconds at most."""
        files = self._open()
        if files is None:
            yield
            return
        gate, room = files
        deadline = time.monotonic() + self._patience_s
        try:
            try:
                _take(gate, deadline, fcntl.LOCK_SH)  # waits while somebody wants to be alone
            finally:
                fcntl.flock(gate, fcntl.LOCK_UN)
            _take(room, deadline, fcntl.LOCK_SH)
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Wait until nobody works any more; gives False if that did not happen in time."""
        files = self._open()
        if files is None:
            yield False
            return
        gate, room = files
        deadline = time.monotonic() + self._patience_s
        try:
            yield _take(gate, deadline, fcntl.LOCK_EX) and _take(room, deadline, fcntl.LOCK_EX)
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)
            fcntl.flock(gate, fcntl.LOCK_UN)

    def _open(self) -> tuple[int, int] | None:
        """The files; None where there cannot be any, for which no training shall fail."""
        # A forked process opens files of its own: locks belong to the open file, which it would share with its parent.
        if self._process != os.getpid():
            self._process, self._files = os.getpid(), None
            with contextlib.suppress(OSError):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                gate, room = (os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("gate", "room"))
                self._files = gate, room
        return self._files


def _take(file: int, deadline: float, how: int) -> bool:
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)


SLOT = Slot()
