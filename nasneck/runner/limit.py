"""An end for evaluations that hang: a loop with a deadline of its own cannot help where it is never reached again."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

# Beyond its time limit, an evaluation that watches the clock itself gets so much to end by itself.
GRACE_SHARE, GRACE_S = 0.2, 5.0


class Overdue(BaseException):
    """An evaluation was interrupted from outside. No ``Exception``, as those are caught on the way by many."""


def hard_limit(timeout_s: float) -> float:
    """Seconds after which an evaluation with this time limit hangs; infinite for 0, no limit."""
    return timeout_s * (1 + GRACE_SHARE) + GRACE_S if timeout_s else float("inf")


@contextlib.contextmanager
def interrupted_after(seconds: float, *, limit_s: float | None = None) -> Iterator[None]:
    """Raise :class:`Overdue` in what runs inside, after so many seconds; at once if they are over.

    ``limit_s`` is the limit that its text names, if these seconds are what is left of one.

    By an alarm signal, so it works in the main thread alone (elsewhere nothing happens), and reaches whatever waits
    or runs in Python; code in C is interrupted when it returns.
    """
    if seconds == float("inf") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        limit = seconds if limit_s is None else limit_s
        raise Overdue(f"interrupted: it did not come to an end within {limit:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def ended_after(seconds: float, last: Callable[[], object]) -> Iterator[None]:
    """End this process if what runs inside takes longer; for workers, whose place another one takes.

    Args:
        seconds: Until then.
        last: Called before the end, by another thread. Where that thread does not get its turn, as the code that
            hangs holds the interpreter, the process ends some seconds later without it.
    """
    if seconds == float("inf"):
        yield
        return

    def end() -> None:
        try:
            last()
        finally:
            os._exit(1)

    timer = threading.Timer(max(0.0, seconds), end)
    timer.daemon = True
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  (a file with a number is wanted)
        faulthandler.dump_traceback_later(max(0.0, seconds) + GRACE_S, exit=True, file=nowhere)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            faulthandler.cancel_dump_traceback_later()
