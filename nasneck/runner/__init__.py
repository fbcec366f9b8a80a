"""Runners carry candidates from a desk to evaluators and measurements back.

``nasneck.runner.in_process`` does it one at a time in this process, ``nasneck.runner.tune`` with Ray Tune's
workers; the latter is imported only where it is used, as Ray is optional.
"""

from nasneck.runner.desk import Desk, Job
from nasneck.runner.halving import Halving, scores_of
from nasneck.runner.in_process import run
from nasneck.runner.measuring import cached_copy, measure, outcome_of
from nasneck.runner.progress import Progress, Summary

__all__ = ["Desk", "Halving", "Job", "Progress", "Summary", "cached_copy", "measure", "outcome_of", "run", "scores_of"]
