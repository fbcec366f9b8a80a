"""What went wrong with a candidate, in one line."""

from __future__ import annotations

import torch

from nasneck.errors import NasneckError
from nasneck.proxy.fit import NotFinite
from nasneck.trial import State

# torch has no exception of its own for these: what the allocators of CPU and CUDA libraries say.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


class OutOfTime(Exception):
    """The evaluation took longer than allowed."""


def reason(error: Exception) -> str:
    """What ``error`` says, in one line."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    # A DataLoader's worker sends its whole traceback; the last line is what happened.
    return lines[-1] if lines[0].startswith("Caught ") else lines[0]


def failure(error: Exception) -> tuple[State, str]:
    """The state of a trial that ended with ``error``, and its reason."""
    text = reason(error)
    if isinstance(error, NotFinite):
        return State.NAN, text
    if isinstance(error, OutOfTime):
        return State.TIMEOUT, text
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return State.OOM, text
    if isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _OUT_OF_MEMORY):
        return State.OOM, text
    if isinstance(error, NasneckError):
        return State.ERROR, text
    return State.ERROR, f"{type(error).__name__}: {text}"
