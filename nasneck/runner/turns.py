"""Evaluations that take turns in this process, a training step each.

They go along side by side, so that what is the same for all of them in a step can be made once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from typing import Generic

from nasneck.runner.desk import G, Job
from nasneck.runner.halving import Halving
from nasneck.runner.limit import Overdue, hard_limit, interrupted_after
from nasneck.runner.measuring import Evaluate, stepwise
from nasneck.trial import Measurement, State


def in_turns(
    jobs: Sequence[Job[G]], evaluate: Evaluate, *, halving: Halving | None = None, timeout_s: float = 0.0
) -> Generator[tuple[Job[G], Measurement], None, None]:
    """Evaluate ``jobs`` and give each with its measurement as it ends.

    Closing the generator gives up those that have not ended.

    Args:
        jobs: What to evaluate.
        evaluate, halving, timeout_s: As for :func:`nasneck.runner.in_process.run`.
    """
    under_way = deque(_Evaluation(job, evaluate, halving, hard_limit(timeout_s)) for job in jobs)
    try:
        while under_way:
            for evaluation in list(under_way):
                measurement = evaluation.turn()
                if measurement is not None:
                    under_way.remove(evaluation)
                    yield evaluation.job, measurement
            under_way.rotate(-1)  # who comes first makes what the others share, and takes its time
    finally:
        for evaluation in under_way:
            evaluation.close()


class _Evaluation(Generic[G]):
    """One of those that take turns; its time limit is for its own turns."""

    def __init__(self, job: Job[G], evaluate: Evaluate, halving: Halving | None, limit_s: float) -> None:
        self.job = job
        self._found = stepwise(evaluate, job.graph, job.latencies)
        self._halving = halving
        self._limit_s = self._left_s = limit_s
        self._latest = Measurement(State.ERROR, text="the evaluator gave nothing")

    def turn(self) -> Measurement | None:
        """Go on to where others may have their turn; the measurement if this has come to its end."""
        begin = time.monotonic()
        try:
            with interrupted_after(self._left_s, limit_s=self._limit_s):
                for found in self._found:
                    if found is None:
                        return None
                    self._latest = found
                    if self._is_last(found):
                        break
        except Overdue as error:  # it came between two steps
            self._latest = Measurement(State.TIMEOUT, text=str(error))
        finally:
            self._left_s -= time.monotonic() - begin
        self.close()
        return self._latest

    def close(self) -> None:
        """Give back now what a training that was stopped holds."""
        self._found.close()

    def _is_last(self, found: Measurement) -> bool:
        if found.state is not State.PRUNED or found.reward is None:
            return True
        return self._halving is not None and not self._halving.keeps(found.rung, found.reward)
