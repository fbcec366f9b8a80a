"""What runs on a worker of Ray Tune: it keeps its evaluator and measures one candidate after another."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Generator
from typing import Any

from ray import tune

from nasneck.errors import NasneckError
from nasneck.runner.cluster import Share
from nasneck.runner.desk import Space
from nasneck.runner.limit import ended_after, hard_limit
from nasneck.runner.measuring import Evaluate, broken_device, stages
from nasneck.runner.spool import Spool
from nasneck.trial import Measurement, State

REPLACED = "its GPU was in an error state"  # why a worker does not take another trial


class Worker(tune.Trainable):
    """One trial is one step, or one for each rung. Reused for trial after trial, so data and features are loaded once.

    A configuration has ``job``: ``number``, ``choices``, ``cache_key`` and ``latencies`` of a trial as JSON text. A
    result has ``measurement``, likewise (Tune would take a nested table apart), and at a rung ``rung_time`` and
    ``score`` for the scheduler; or ``fatal``: why no trial can be measured here.
    """

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  # Tune passes the parameters bound to the class
        self,
        config: dict[str, Any],
        *,
        make: Callable[[], Evaluate],
        space: Space[Any],
        spool: Spool | None,
        share: Share,
        reduction: float,
        timeout_s: float,
    ) -> None:
        """Make the evaluator. What is a mistake of the user's would be one for every trial: it is the answer."""
        self._space = space
        self._spool = spool
        self._reduction = reduction
        self._limit_s = hard_limit(timeout_s)
        self._fatal = ""
        self._broken = False
        self._stages: Generator[Measurement, None, None] | None = None
        self.reset_config(config)
        try:
            share.apply()
            self._evaluate = make()
        except NasneckError as error:
            self._fatal = f"worker on {socket.gethostname()}: {error}"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial.

        Raises:
            RuntimeError: the GPU cannot be used by this process any more; Tune then starts another worker.
        """
        self._give_up()
        if self._broken:
            raise RuntimeError(REPLACED)
        job = json.loads(new_config["job"])
        self._number = int(job["number"])
        self._choices = tuple(job["choices"])
        self._cache_key = str(job["cache_key"])
        self._latencies = dict(job["latencies"])
        return True

    def step(self) -> dict[str, Any]:
        """Measure the candidate up to its next rung, unless a worker that died had measured it."""
        if self._fatal:
            return {"done": True, "fatal": self._fatal}
        if self._stages is None:
            shared = self._spool if self._spool is not None and self._spool.shared else None
            known = shared.get(self._number, self._cache_key) if shared else None
            if known is not None:
                return _result(known, done=True)
            self._shared = shared
            self._deadline = time.monotonic() + self._limit_s
            self._latest = Measurement(State.ERROR, text="the evaluator gave nothing")
            self._stages = stages(self._measure, self._choices, self._latencies)
        with ended_after(self._deadline - time.monotonic(), self._overdue):
            measurement = next(self._stages, None)
        ended = measurement is None  # at a rung: what was known there is all there is
        measurement = self._latest if measurement is None else measurement
        self._latest = measurement
        if not ended and measurement.state is State.PRUNED and measurement.reward is not None:
            # What it is if the scheduler lets it go no further; also how far it has come, as the scheduler counts.
            result = _result(measurement, done=False)
            return {**result, "rung_time": self._reduction**measurement.rung, "score": measurement.reward}
        self._give_up()
        self._broken = broken_device(measurement)
        self._put(measurement)
        return _result(measurement, done=True)

    def cleanup(self) -> None:
        """The process is about to end."""
        self._give_up()

    def _measure(self, choices: Any, *latencies: Any) -> Any:
        return self._evaluate(self._space.decode(choices), *latencies)

    def _put(self, measurement: Measurement) -> None:
        if self._shared is not None:
            # A full disk is no reason to lose the measurement: it goes to the driver all the same.
            with contextlib.suppress(NasneckError):
                self._shared.put(self._number, self._choices, self._cache_key, measurement)

    def _overdue(self) -> None:
        """Runs in another thread, just before this process ends; the worker that follows finds it and goes on."""
        text = f"its worker was ended: it did not come to an end within {self._limit_s:.0f} s"
        self._put(Measurement(State.TIMEOUT, text=text))

    def _give_up(self) -> None:
        """Give back what a training that was stopped on its way holds."""
        if self._stages is not None:
            self._stages.close()
            self._stages = None


def _result(measurement: Measurement, *, done: bool) -> dict[str, Any]:
    return {"done": done, "measurement": measurement.to_json()}
