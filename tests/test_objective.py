"""Objectives: what a strategy is told, limits, Pareto fronts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasneck.errors import ConfigError
from nasneck.objective import ObjectiveConfig, pareto_front
from nasneck.settings import build
from nasneck.trial import Measurement, State, Trial

GOOD = Measurement(State.OK, reward=0.4, ap=0.4, latency_ms=5.0, parameters=2000, macs=30_000)


def test_the_reward_alone_by_default() -> None:
    assert ObjectiveConfig().values(GOOD) == (0.4,)


def test_costs_are_minimised() -> None:
    objective = ObjectiveConfig(names=("reward", "latency", "parameters", "macs"))
    assert objective.values(GOOD) == (0.4, -5.0, -2000.0, -30_000.0)


def test_soft_constraint_is_mnasnets() -> None:
    objective = ObjectiveConfig(soft="latency", target=2.5, weight=-0.07)
    assert objective.values(GOOD) == (pytest.approx(0.4 * 2**-0.07),)  # twice the target: 5 % less
    assert pytest.approx(0.953, abs=1e-3) == 2**-0.07
    on_target = ObjectiveConfig(soft="macs", target=30_000.0, weight=-0.3)
    assert on_target.values(GOOD) == (pytest.approx(0.4),)


def test_an_early_loss_is_left_as_it_is() -> None:
    early = Measurement(State.PRUNED, reward=-1.5, reward_kind="loss", latency_ms=50.0)
    assert ObjectiveConfig(soft="latency", target=1.0).values(early) == (-1.5,)


@pytest.mark.parametrize(
    "measurement",
    [
        Measurement(State.OOM, latency_ms=5.0),
        Measurement(State.REJECTED, reward=0.4, latency_ms=5.0),
        Measurement(State.OK, reward=0.4),
    ],
)
def test_no_values_without_all_parts(measurement: Measurement) -> None:
    assert ObjectiveConfig(names=("reward", "latency")).values(measurement) == ()
    assert ObjectiveConfig(soft="latency", target=1.0).values(measurement) == ()


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"max_params": 2000}, ""),
        ({"max_params": 1999}, "2,000 parameters are more than 1,999"),
        ({"max_macs": 1e4}, "30,000 multiply-adds are more than 10,000"),
        ({"max_latency_ms": 4.5}, "5 ms are more than 4.5"),
        ({"max_latency_ms": 5}, ""),
    ],
)
def test_limits(limits: dict[str, float], text: str) -> None:
    assert ObjectiveConfig(**limits).over(GOOD) == text


def test_a_table_of_costs_has_no_limits_and_a_latency() -> None:
    bounded = ObjectiveConfig(max_params=1, max_macs=1, max_latency_ms=1, latency_runs=4, image_size=(8, 8))
    assert bounded.to_report == ObjectiveConfig(latency_runs=4, image_size=(8, 8))
    assert ObjectiveConfig(latency_runs=0).to_report == ObjectiveConfig()


def test_what_is_not_known_is_over_no_limit() -> None:
    assert ObjectiveConfig(max_params=1, max_macs=1, max_latency_ms=1).over(Measurement(State.OK)) == ""


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"names": ["latency"]}, "reward comes first"),
        ({"names": []}, "reward comes first"),
        ({"names": ["reward", "macs", "macs"]}, "each once"),
        ({"names": ["reward", "speed"]}, "'speed' is not one of reward, latency, parameters, macs"),
        ({"soft": "latency"}, "soft and target go together"),
        ({"target": 5}, "soft and target go together"),
        ({"soft": "latency", "target": 5, "weight": 0.07}, "weight 0.07 must be below 0"),
        ({"soft": "latency", "target": 5, "names": ["reward", "macs"]}, "soft is for one objective"),
        ({"max_params": 0}, "max_params 0 must be above 0"),
        ({"image_size": [0, 640]}, "image_size"),
        ({"in_channels": {"3": 0}}, "in_channels.3 0 must be at least 1"),
        ({"latency_runs": -1}, "latency_runs -1 must be at least 1, or 0 if nothing asks for latency"),
        ({"latency_runs": 0, "max_latency_ms": 9.0}, "latency_runs 0 must be at least 1"),
        ({"latency_runs": 0, "names": ["reward", "latency"]}, "latency_runs 0 must be at least 1"),
        ({"latency_runs": 0, "soft": "latency", "target": 9.0}, "latency_runs 0 must be at least 1"),
    ],
)
def test_settings_that_do_not_fit(table: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^here: .*{text}"):
        build(ObjectiveConfig, table, where="here")


def trial(number: int, values: tuple[float, ...], state: State = State.OK) -> Trial:
    return Trial(number, (), str(number), state, Measurement(state), values=values)


POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=12)


@given(POINTS)
def test_the_front_is_what_nobody_beats(points: list[tuple[int, int, int]]) -> None:
    trials = [trial(number, tuple(map(float, values))) for number, values in enumerate(points)]

    def beaten(one: Trial) -> bool:
        return any(
            all(a >= b for a, b in zip(other.values, one.values, strict=True)) and other.values != one.values
            for other in trials
        )

    expected = {one.values: one.number for one in reversed(trials) if not beaten(one)}
    front = pareto_front(trials)
    assert {one.values: one.number for one in front} == expected
    assert [one.values for one in front] == sorted(expected, reverse=True)


def test_the_front_is_of_measured_trials() -> None:
    trials = [trial(0, (0.1, -1.0)), trial(1, (-0.5, 0.0), State.PRUNED), trial(2, (0.9, 9.0), State.CACHED)]
    trials += [trial(3, (), State.OOM), Trial(4, (), "running")]
    assert [one.number for one in pareto_front(trials)] == [0]
