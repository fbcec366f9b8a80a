"""Successive halving by Ray Tune's ASHA, started with what a study knows."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler

from nasneck.runner.halving import Halving

TIME, SCORE = "rung_time", "score"


def make_scheduler(halving: Halving) -> ASHAScheduler:
    """A scheduler that decides as ``halving`` does, whose scores it takes over.

    Tune counts rungs in powers of the reduction, so rung ``r`` is reached at the "time" ``reduction ** r``.
    """
    rungs, reduction = len(halving.scores), halving.reduction
    scheduler = ASHAScheduler(
        time_attr=TIME,
        metric=SCORE,
        mode="max",
        grace_period=1,
        reduction_factor=reduction,
        max_t=math.ceil(reduction**rungs) + 1,  # beyond the last rung; what ends says so itself
    )
    # Its state is that of trials it was told of; those of earlier runs are told by its own methods.
    for rung, scores in enumerate(halving.scores):
        for index, score in enumerate(scores):
            trial: Any = SimpleNamespace(trial_id=f"before-{rung}-{index}")
            controller: Any = None
            scheduler.on_trial_add(controller, trial)
            scheduler.on_trial_result(controller, trial, {TIME: reduction**rung, SCORE: score})
    return scheduler
