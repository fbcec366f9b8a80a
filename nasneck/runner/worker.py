"""What runs on a worker of Ray Tune: it keeps its evaluator and measures one candidate after another."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

from ray import tune

from nasneck.errors import NasneckError
from nasneck.runner.cluster import Share
from nasneck.runner.desk import Space
from nasneck.runner.measuring import measure
from nasneck.runner.spool import Spool
from nasneck.trial import Measurement

Evaluator = Callable[[Any], Measurement]


class Worker(tune.Trainable):
    """One trial is one step. Reused for trial after trial, so data and features are loaded once.

    A configuration has ``number``, ``choices`` and ``cache_key`` of a trial; its only result has
    ``measurement`` as JSON text (Tune would take a nested table apart), or ``fatal``: why no trial can be
    measured here.
    """

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  # Tune passes the parameters bound to the class
        self,
        config: dict[str, Any],
        *,
        make: Callable[[], Evaluator],
        space: Space[Any],
        spool: Spool | None,
        share: Share,
    ) -> None:
        """Make the evaluator. What is a mistake of the user's would be one for every trial: it is the answer."""
        self._space = space
        self._spool = spool
        self._fatal = ""
        self.reset_config(config)
        try:
            share.apply()
            self._evaluate = make()
        except NasneckError as error:
            self._fatal = f"worker on {socket.gethostname()}: {error}"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self._number = int(new_config["number"])
        self._choices = tuple(new_config["choices"])
        self._cache_key = str(new_config["cache_key"])
        return True

    def step(self) -> dict[str, Any]:
        """Measure the candidate, unless a worker that died had done so."""
        if self._fatal:
            return {"done": True, "fatal": self._fatal}
        shared = self._spool is not None and self._spool.shared
        known = self._spool.get(self._number, self._cache_key) if self._spool and shared else None
        if known is None:
            known = measure(lambda choices: self._evaluate(self._space.decode(choices)), self._choices)
            if self._spool and shared:
                # A full disk is no reason to lose the measurement: it goes to the driver all the same.
                with contextlib.suppress(NasneckError):
                    self._spool.put(self._number, self._choices, self._cache_key, known)
        return {"done": True, "measurement": json.dumps(known.to_dict())}
