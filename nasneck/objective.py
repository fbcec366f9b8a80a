"""What a search is after: the reward, other costs beside it, and limits that no candidate may pass.

    names = ["reward"]                 one objective, the default
    names = ["reward", "latency"]      two: the reward up, the latency down; a Pareto front comes out
    soft = "latency", target = 5.0     one, with a soft constraint: reward * (latency / target) ** weight
    max_params = 2e6                   a hard one: over it, a candidate is refused before it is trained

Costs are those of the neck as it will be deployed: at ``image_size``, with ``channels`` and ``in_channels``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from nasneck.errors import ConfigError
from nasneck.trial import Measurement, State, Trial

Cost = Literal["latency", "parameters", "macs"]

LATENCY_RUNS = 10

# Name of a cost -> field of a measurement, unit, and the limit's name.
FIELDS: Mapping[str, str] = {"latency": "latency_ms", "parameters": "parameters", "macs": "macs"}


@dataclass(frozen=True, slots=True)
class ObjectiveConfig:
    """What is maximised, and within which limits.

    Args:
        names: ``reward`` first, then any of ``latency``, ``parameters`` and ``macs``, which are minimised.
        soft: A cost that enters the reward as ``reward * (cost / target) ** weight``.
        target: In ms, parameters or multiply-adds; needed with ``soft``.
        weight: Below 0. MnasNet (arXiv 1807.11626) has -0.07, with which twice the latency costs 5 % of the AP;
            MnasFPN (arXiv 1912.01106) has -0.3.
        max_latency_ms, max_params, max_macs: Limits; null sets none.
        image_size: Height and width of the images that costs are for; null takes the proxy's canvas.
        channels: Width of the deployed neck; null takes the proxy's.
        in_channels: Widths of the deployed backbone by level; empty takes the proxy's.
        latency_runs: Forward passes whose median is taken; 0 measures no latency, which saves a search whose objective
            does not ask for it a few hundredths of a second a candidate, in which its other workers have to wait.
    """

    names: tuple[str, ...] = ("reward",)
    soft: Cost | None = None
    target: float | None = None
    weight: float = -0.07
    max_latency_ms: float | None = None
    max_params: float | None = None
    max_macs: float | None = None
    image_size: tuple[int, int] | None = None
    channels: int | None = None
    in_channels: Mapping[int, int] = field(default_factory=dict)
    latency_runs: int = LATENCY_RUNS

    def __post_init__(self) -> None:
        known = ("reward", *FIELDS)
        for name in self.names:
            if name not in known:
                raise ConfigError(f"names: {name!r} is not one of {', '.join(known)}")
        if not self.names or self.names[0] != "reward" or len(set(self.names)) < len(self.names):
            raise ConfigError(f"names {list(self.names)}: reward comes first, then other costs, each once")
        if (self.soft is None) != (self.target is None):
            raise ConfigError("soft and target go together: which cost, and how much of it")
        if self.soft is not None and len(self.names) > 1:
            raise ConfigError("soft is for one objective; with several, name the cost in names")
        for name in ("target", "max_latency_ms", "max_params", "max_macs"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} {value:g} must be above 0")
        if not self.weight < 0:
            raise ConfigError(f"weight {self.weight:g} must be below 0, or more of a cost would be better")
        if self.image_size is not None and min(self.image_size) < 1:
            raise ConfigError(f"image_size {list(self.image_size)} must be a height and a width in pixels")
        for name, value in (
            ("channels", self.channels),
            *((f"in_channels.{k}", v) for k, v in self.in_channels.items()),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"{name} {value} must be at least 1")
        wanted = self.max_latency_ms is not None or "latency" in (*self.names, self.soft)
        if self.latency_runs < (1 if wanted else 0):
            raise ConfigError(f"latency_runs {self.latency_runs} must be at least 1, or 0 if nothing asks for latency")

    @property
    def to_report(self) -> ObjectiveConfig:
        """The same for a table of costs: without limits, and with a latency."""
        runs = self.latency_runs or LATENCY_RUNS
        return replace(self, max_latency_ms=None, max_params=None, max_macs=None, latency_runs=runs)

    @property
    def bounded(self) -> bool:
        """Whether a candidate can be refused by what its graph alone tells."""
        return self.max_params is not None or self.max_macs is not None

    def values(self, measurement: Measurement) -> tuple[float, ...]:
        """What a strategy is told, larger is better; empty if the measurement lacks a part of it."""
        if measurement.reward is None or not measurement.state.has_values:
            return ()
        reward = measurement.reward
        # An early loss, which is negative, stays as it is: it is only compared with others of its rung.
        if self.soft is not None and self.target is not None and measurement.reward_kind == "ap":
            cost = getattr(measurement, FIELDS[self.soft])
            if not cost:
                return ()
            reward *= (cost / self.target) ** self.weight
        costs = [getattr(measurement, FIELDS[name]) for name in self.names[1:]]
        if any(cost is None for cost in costs):
            return ()
        return (reward, *(-float(cost) for cost in costs))

    def over(self, measurement: Measurement) -> str:
        """The first limit that is passed, in words; empty if none is."""
        for name, unit, limit in (
            ("parameters", "parameters", self.max_params),
            ("macs", "multiply-adds", self.max_macs),
            ("latency_ms", "ms", self.max_latency_ms),
        ):
            value = getattr(measurement, name)
            if limit is not None and value is not None and value > limit:
                return f"{value:,.6g} {unit} are more than {limit:,.6g}"
        return ""


def pareto_front(trials: Iterable[Trial]) -> list[Trial]:
    """The measured trials that no other one beats in every objective, by falling reward.

    Of trials with equal values the earliest stands for all.
    """
    measured = [trial for trial in trials if trial.state is State.OK and trial.values]
    first = {trial.values: trial for trial in sorted(measured, key=lambda trial: -trial.number)}
    front: list[Trial] = []
    for trial in sorted(first.values(), key=lambda trial: trial.values, reverse=True):
        # Whatever beats it has at least its reward, and so came before it.
        if not any(_dominates(other.values, trial.values) for other in front):
            front.append(trial)
    return front


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
