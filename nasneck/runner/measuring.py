"""From a candidate to what the log and the strategy get of it; the same for every runner."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from nasneck.trial import Measurement, Outcome, State, Trial

G = TypeVar("G")


def outcome_of(measurement: Measurement) -> Outcome:
    """What a strategy is told of a measurement: its reward as the one objective.

    A cached copy of a measurement without a reward (a loss that was not finite) has no values either.
    """
    values = () if measurement.reward is None else (measurement.reward,)
    if not measurement.state.has_values:
        values = ()
    return Outcome(values, state=measurement.state, text=measurement.text)


def measure(evaluate: Callable[[G], Measurement], graph: G) -> Measurement:
    """Evaluate; whatever goes wrong becomes a measurement with a state and one line of text.

    ``KeyboardInterrupt`` and ``SystemExit`` pass.
    """
    try:
        measurement: Any = evaluate(graph)
    except MemoryError as error:
        return Measurement(State.OOM, text=one_line(error))
    except Exception as error:
        return Measurement(State.ERROR, text=one_line(error))
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
