"""The other side of ``overhead.py tune``: Ray Tune without a search, with the settings of ours."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

# The same for both sides: they decide what Tune itself writes for every trial.
from nasneck.runner.tune import _SETTINGS, _environment


class Step(tune.Trainable):
    """Every trial is one step, on an actor that is used again."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Any next trial is fine."""
        return True

    def step(self) -> dict[str, Any]:
        """Nothing to do."""
        return {"done": True, "reward": 0.3}


class Counting(Searcher):
    """So many trials; notes when each ends."""

    def __init__(self, trials: int) -> None:
        super().__init__()
        self.left = trials
        self.ends: list[float] = []

    def suggest(self, trial_id: str) -> Any:
        """A configuration of one number."""
        if not self.left:
            return Searcher.FINISHED
        self.left -= 1
        return {"number": self.left}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())

    def __getstate__(self) -> dict[str, Any]:
        """Ours keeps nothing in Tune's files either."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Likewise."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never called."""


def run(scratch: Path, *, trials: int, workers: int) -> list[float]:
    """When each of the trials ended."""
    searcher = Counting(trials)
    with _environment(_SETTINGS):
        tune.Tuner(
            tune.with_resources(Step, tune.PlacementGroupFactory([{"CPU": 1.0}])),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=workers,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="bare",
                storage_path=str(scratch.absolute()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    return searcher.ends
