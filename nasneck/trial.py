"""The values that cross the seams of a search: what is asked, what came out, what was measured.

No torch here: these values go to disk as JSON and travel between processes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from nasneck.decision import Choices


class State(StrEnum):
    """How a trial ended."""

    OK = "ok"  # measured
    CACHED = "cached"  # an equal graph had been measured; the values are that measurement's
    PRUNED = "pruned"  # stopped early because it was hopeless
    REJECTED = "rejected"  # refused before training: over a budget
    OOM = "oom"  # out of memory
    NAN = "nan"  # the loss or the weights became not finite
    TIMEOUT = "timeout"
    ERROR = "error"  # any other exception

    @property
    def has_values(self) -> bool:
        """Whether an outcome in this state carries values a learner can compare."""
        return self in (State.OK, State.CACHED, State.PRUNED)


@dataclass(frozen=True, slots=True)
class Ask:
    """A candidate that a strategy wants measured.

    Two workers may hold equal choices; the number tells them apart.
    """

    number: int
    choices: Choices


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a strategy is told of one of its asks.

    Args:
        values: One value per objective, larger is better (an early loss arrives as its negative). Empty
            where the state carries none.
        state: How the trial ended.
        rung: Fidelity at which the values were taken; values of different rungs are never compared directly.
        text: The reason, for the states that need one.
    """

    values: tuple[float, ...]
    state: State = State.OK
    rung: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the proxy task measured of one graph with one seed.

    Args:
        state: How the evaluation ended; the numbers below may be None unless it is ``ok``.
        reward: What the search maximises: an AP in 0..1 or a negative loss, as ``reward_kind`` says.
        reward_kind: ``"ap"`` or ``"loss"``.
        ap, ap50, ap75: COCO AP at IoU .50:.95, .50 and .75, in 0..1.
        ap_small, ap_medium, ap_large: AP by object area in pixels of the evaluated canvas; -1 if the bin is
            empty.
        loss: Mean training loss over the last steps.
        parameters: Trainable parameters of the neck.
        macs: Multiply-adds of the neck for one image.
        latency_ms: Median time of the neck for one image, in milliseconds, on ``device``.
        image_size: Height and width in pixels that ``macs`` and ``latency_ms`` are for; None for the canvas.
        seconds: Wall time of the whole evaluation, without the turns of others in the same process.
        peak_memory_mb: Peak memory of the process (CPU) or of the device allocator (CUDA), in MiB; also of others that
            took turns with it.
        seed: Seed of weights and batch order.
        steps: Training steps taken.
        rung: Fidelity that ``reward`` belongs to, see :class:`Outcome`.
        scores: What was compared at each lower rung, the lowest first: minus the early loss.
        batch_size: Images per step, where it had to be less than the setting says; else None.
        attempts: How often it was begun, those included that ended with their process.
        split: The split that the AP was taken on, ``"reward"`` or ``"test"``.
        device: Where it ran, for example ``"cpu: AMD EPYC, 2 threads"``.
        text: The reason, where the state needs one.
    """

    state: State
    reward: float | None = None
    reward_kind: str = "ap"
    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    ap_small: float | None = None
    ap_medium: float | None = None
    ap_large: float | None = None
    loss: float | None = None
    parameters: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    image_size: tuple[int, int] | None = None
    seconds: float | None = None
    peak_memory_mb: float | None = None
    seed: int = 0
    steps: int = 0
    rung: int = 0
    scores: tuple[float, ...] = ()
    batch_size: int | None = None
    attempts: int = 1
    split: str = "reward"
    device: str = ""
    text: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, read back by :meth:`from_dict`."""
        values = {name: getattr(self, name) for name in _DEFAULTS}  # asdict copies deeply, at 20 times the cost
        size = None if self.image_size is None else list(self.image_size)
        return {"state": self.state.value, **values, "scores": list(self.scores), "image_size": size}

    def to_json(self) -> str:
        """The same as text, less the fields that say nothing: for logs, where most rows are short ones."""
        values = {name: value for name, default in _DEFAULTS.items() if (value := getattr(self, name)) != default}
        return json.dumps({"state": self.state.value, **values})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Measurement:
        """Inverse of :meth:`to_dict`; fields that this version does not know are left out."""
        known = {f.name for f in fields(cls)}
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in known}
        return cls(**{**values, "state": State(data["state"])})


_DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Measurement) if f.name != "state"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate of a study, from its ask to its measurement.

    ``measurement`` is None while the trial runs; ``state`` is None likewise. ``source`` says who chose it:
    ``"strategy"`` or ``"warm"`` (given by the user before the search). ``values`` are what its strategy was told,
    one per objective, larger is better.
    """

    number: int
    choices: Choices
    graph_key: str
    state: State | None = None
    measurement: Measurement | None = None
    source: str = "strategy"
    values: tuple[float, ...] = ()
    started: float = field(default=0.0, compare=False)


def latency_key(device: str, image_size: tuple[int, int]) -> str:
    """What a latency holds for beside the graph, for example ``cuda: NVIDIA H100 @ 640x640``."""
    return f"{device} @ {image_size[0]}x{image_size[1]}"
