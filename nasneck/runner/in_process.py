"""The plain way to search: one candidate at a time, in this process."""

from __future__ import annotations

from nasneck.errors import DeviceError
from nasneck.runner.desk import Desk, G, Job
from nasneck.runner.halving import Halving
from nasneck.runner.limit import Overdue, hard_limit, interrupted_after
from nasneck.runner.measuring import Evaluate, broken_device, stages
from nasneck.runner.progress import Summary
from nasneck.trial import Measurement, State


def run(desk: Desk[G], evaluate: Evaluate, *, halving: Halving | None = None, timeout_s: float = 0.0) -> Summary:
    """Search until the desk has no more jobs.

    Args:
        desk: Says what to evaluate and takes the measurements in.
        evaluate: Measures a graph; what it raises becomes the trial's text.
        halving: Decides at each rung of an evaluation whether it goes on; None lets all of them go on.
        timeout_s: Time limit of an evaluation. Evaluators keep to it themselves; one that hangs is interrupted a
            while later.

    Returns:
        How it ended. Ctrl-C is one of the ways: the running trial stays in the log without a result. After
        it the strategy may be a step behind the log; resume the study to go on.

    Raises:
        StudyError: a study that cannot be written.
        DeviceError: a GPU that can no longer be used by this process; the trial is recorded.
    """
    try:
        while (job := desk.next()) is not None:
            measurement = _measured(job, evaluate, halving, timeout_s)
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


def _measured(job: Job[G], evaluate: Evaluate, halving: Halving | None, timeout_s: float) -> Measurement:
    found = stages(evaluate, job.graph, job.latencies)
    measurement = Measurement(State.ERROR, text="the evaluator gave nothing")
    try:
        with interrupted_after(hard_limit(timeout_s)):
            for measurement in found:
                if measurement.state is not State.PRUNED or measurement.reward is None:
                    break
                if halving is not None and not halving.keeps(measurement.rung, measurement.reward):
                    break
    except Overdue as error:  # it came between two stages
        measurement = Measurement(State.TIMEOUT, text=str(error))
    finally:
        found.close()  # what a training that was stopped holds is given back now
    return measurement
