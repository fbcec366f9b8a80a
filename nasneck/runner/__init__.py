"""Runners: loops that carry candidates from a strategy to an evaluator and results into a study."""

from nasneck.runner.in_process import run
from nasneck.runner.measuring import cached_copy, measure, outcome_of
from nasneck.runner.progress import Progress, Summary

__all__ = ["Progress", "Summary", "cached_copy", "measure", "outcome_of", "run"]
