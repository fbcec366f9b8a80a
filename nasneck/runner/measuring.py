"""From a candidate to what the log and the strategy get of it; the same for every runner."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any

from nasneck.runner.limit import Overdue
from nasneck.trial import Measurement, Outcome, State, Trial

Values = Callable[[Measurement], tuple[float, ...]]
# Measures a graph, given it and perhaps known latencies; see ``stepwise``.
Evaluate = Callable[..., Measurement | Iterator[Measurement | None]]


def reward_alone(measurement: Measurement) -> tuple[float, ...]:
    """The reward as the one objective."""
    return () if measurement.reward is None else (measurement.reward,)


def outcome_of(measurement: Measurement, values: Values = reward_alone) -> Outcome:
    """What a strategy is told of a measurement.

    A cached copy of a measurement without a reward (a loss that was not finite) has no values either.
    """
    told = values(measurement) if measurement.state.has_values else ()
    return Outcome(told, state=measurement.state, rung=measurement.rung, text=measurement.text)


def stepwise(
    evaluate: Evaluate, graph: object, latencies: Mapping[str, float]
) -> Generator[Measurement | None, None, None]:
    """Evaluate; whatever goes wrong becomes a measurement with a state and one line of text.

    ``KeyboardInterrupt`` and ``SystemExit`` pass.

    Args:
        evaluate: Returns a measurement, or an iterator: of what is known at each rung (state ``pruned``: what to
            record if it goes no further), and of the whole measurement in the end; a None between them says that
            others may have their turn.
        graph: What to evaluate.
        latencies: Known ones of this graph. Passed on only if there are any, so that a function of a graph alone
            is an evaluator too.
    """
    found: Any = None
    try:
        found = evaluate(graph, latencies) if latencies else evaluate(graph)
        if isinstance(found, Iterator):
            came = False
            for measurement in found:
                came = came or measurement is not None
                yield None if measurement is None else _checked(measurement)
            if not came:
                yield Measurement(State.ERROR, text="the evaluator gave nothing")
        else:
            yield _checked(found)
    except MemoryError as error:
        yield Measurement(State.OOM, text=one_line(error))
    except Overdue as error:
        yield Measurement(State.TIMEOUT, text=str(error))
    except Exception as error:
        yield Measurement(State.ERROR, text=one_line(error))
    finally:
        if isinstance(found, Generator):
            found.close()


def stages(evaluate: Evaluate, graph: object, latencies: Mapping[str, float]) -> Generator[Measurement, None, None]:
    """As :func:`stepwise`, from one measurement to the next."""
    with contextlib.closing(stepwise(evaluate, graph, latencies)) as found:
        for measurement in found:
            if measurement is not None:
                yield measurement


def measure(evaluate: Evaluate, graph: object) -> Measurement:
    """Evaluate without a stop; see :func:`stages`."""
    *_, last = stages(evaluate, graph, {})
    return last


def _checked(measurement: Any) -> Measurement:
    if not isinstance(measurement, Measurement):
        return Measurement(State.ERROR, text=f"the evaluator returned {measurement!r:.100}, no Measurement")
    if measurement.state.has_values and measurement.reward is None:
        return replace(measurement, state=State.ERROR, text="the evaluator gave no reward")
    if measurement.reward is not None and not math.isfinite(measurement.reward):
        text = measurement.text or f"the reward is {measurement.reward}"
        state = State.NAN if measurement.state.has_values else measurement.state
        return replace(measurement, state=state, reward=None, text=text)
    return measurement


def cached_copy(trial: Trial) -> Measurement:
    """The measurement of ``trial`` for an equal graph: same values, state ``cached``, no time spent."""
    if trial.measurement is None:
        raise ValueError(f"trial {trial.number} has no measurement")
    text = f"equal to trial {trial.number}"
    if trial.state is not State.OK:
        text += f" ({trial.state}: {trial.measurement.text})"
    return replace(trial.measurement, state=State.CACHED, seconds=0.0, text=text)


def one_line(error: BaseException) -> str:
    """Type and text of an exception on one line of at most 500 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__


def broken_device(measurement: Measurement) -> bool:
    """Whether the process that made this measurement cannot use its GPU any more.

    An error of a kernel, other than a lack of memory, makes all that follows in the same process fail.
    """
    return measurement.state is State.ERROR and any(
        sign in measurement.text for sign in ("CUDA error", "cudaError", "CUBLAS_STATUS_EXECUTION_FAILED")
    )
