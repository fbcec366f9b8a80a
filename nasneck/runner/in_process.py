"""The plain way to search: in this process, one candidate at a time or a few in turns."""

from __future__ import annotations

import contextlib

from nasneck.errors import DeviceError
from nasneck.runner.desk import Desk, G, Job
from nasneck.runner.halving import Halving
from nasneck.runner.interrupts import deferred
from nasneck.runner.measuring import Evaluate, broken_device
from nasneck.runner.progress import Summary
from nasneck.runner.turns import in_turns


def run(
    desk: Desk[G], evaluate: Evaluate, *, halving: Halving | None = None, timeout_s: float = 0.0, together: int = 1
) -> Summary:
    """Search until the desk has no more jobs.

    Args:
        desk: Says what to evaluate and takes the measurements in.
        evaluate: Measures a graph; what it raises becomes the trial's text.
        halving: Decides at each rung of an evaluation whether it goes on; None lets all of them go on.
        timeout_s: Time limit of an evaluation. Evaluators keep to it themselves; one that hangs is interrupted a
            while later.
        together: So many candidates are asked at once and evaluated in turns, a training step each.

    Returns:
        How it ended. Ctrl-C is one of the ways: the running trials stay in the log without a result; resume the
        study to go on.

    Raises:
        StudyError: a study that cannot be written.
        DeviceError: a GPU that can no longer be used by this process; the trial is recorded.
    """
    try:
        while jobs := _some(desk, together):
            with contextlib.closing(in_turns(jobs, evaluate, halving=halving, timeout_s=timeout_s)) as ended:
                for job, measurement in ended:
                    with deferred():
                        desk.finish(job.number, measurement)
                    if broken_device(measurement):
                        raise DeviceError(
                            f"trial {job.number} left the GPU in a state in which this process cannot use it"
                            f" ({measurement.text}); go on with --resume"
                        )
    except KeyboardInterrupt:
        desk.interrupted()
        return desk.summary(interrupted=True)
    return desk.summary()


def _some(desk: Desk[G], count: int) -> list[Job[G]]:
    """The next jobs, at most ``count``."""
    jobs: list[Job[G]] = []
    while len(jobs) < count and (job := desk.next()) is not None:
        jobs.append(job)
        if job.left:  # by a process that ended: if it is the cause, it shall take no others with it
            break
    return jobs
