"""The plain way to search: one candidate at a time, in this process."""

from __future__ import annotations

from collections.abc import Callable

from nasneck.runner.desk import Desk, G
from nasneck.runner.measuring import measure
from nasneck.runner.progress import Summary
from nasneck.trial import Measurement


def run(desk: Desk[G], evaluate: Callable[[G], Measurement]) -> Summary:
    """Search until the desk has no more jobs.

    Args:
        desk: Says what to evaluate and takes the measurements in.
        evaluate: Measures a graph; what it raises becomes the trial's text.

    Returns:
        How it ended. Ctrl-C is one of the ways: the running trial stays in the log without a result. After
        it the strategy may be a step behind the log; resume the study to go on.

    Raises:
        StudyError: a study that cannot be written.
    """
    try:
        while (job := desk.next()) is not None:
            desk.finish(job.number, measure(evaluate, job.graph))
    except KeyboardInterrupt:
        return desk.summary(interrupted=True)
    return desk.summary()
