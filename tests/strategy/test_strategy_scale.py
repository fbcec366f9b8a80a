"""The common scale: failed below every value, then by rung, then by value."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasneck.strategy import Scale
from nasneck.trial import Outcome, State


def filled(*outcomes: Outcome) -> Scale:
    scale = Scale()
    for outcome in outcomes:
        scale.add(outcome)
    return scale


LOW, MIDDLE, HIGH = Outcome((0.1,)), Outcome((0.2,)), Outcome((0.7,))
FAILED = Outcome((), state=State.OOM)


def test_rank_is_the_share_below_with_half_of_the_equals() -> None:
    scale = filled(LOW, MIDDLE, MIDDLE, HIGH, FAILED)
    # 5 outcomes: 1 failed, then 0.1, twice 0.2, 0.7.
    assert scale.rank(FAILED) == 0.0
    assert scale.rank(LOW) == pytest.approx((1 + 0.5) / 5)
    assert scale.rank(MIDDLE) == pytest.approx((2 + 1.0) / 5)
    assert scale.rank(HIGH) == pytest.approx((4 + 0.5) / 5)
    assert scale.rank(Outcome((0.5,))) == pytest.approx(4 / 5)  # not entered itself


def test_higher_rungs_lie_above_lower_ones_whatever_the_values() -> None:
    # A loss of an early rung against the AP of a late one.
    early, late = Outcome((900.0,), rung=0, state=State.PRUNED), Outcome((-3.0,), rung=1)
    scale = filled(early, late)
    assert scale.rank(late) > scale.rank(early) > 0


@pytest.mark.parametrize("state", [state for state in State if not state.has_values])
def test_states_without_values_get_the_lowest(state: State) -> None:
    scale = filled(LOW, HIGH, Outcome((), state=state))
    # Even if a value came along.
    assert scale.rank(Outcome((99.0,), state=state)) == 0.0
    assert scale.value(Outcome((99.0,), state=state)) == 0.1


@pytest.mark.parametrize("values", [(), (math.nan,), (math.inf,), (-math.inf,)])
def test_values_that_cannot_be_ordered_count_as_failed(values: tuple[float, ...]) -> None:
    scale = filled(LOW, Outcome(values))
    assert scale.rank(Outcome(values)) == 0.0
    assert scale.rank(LOW) == pytest.approx((1 + 0.5) / 2)


def test_cached_outcomes_are_placed_but_not_entered() -> None:
    scale = filled(LOW, HIGH)
    before = scale.rank(HIGH)
    for _ in range(50):
        scale.add(Outcome((0.7,), state=State.CACHED))
    assert scale.rank(HIGH) == before == scale.rank(Outcome((0.7,), state=State.CACHED))
    assert len(scale) == 2


def test_empty_scale() -> None:
    assert Scale().rank(HIGH) == 0.5
    assert Scale().rank(FAILED) == 0.0
    assert Scale().value(HIGH) == 0.7
    assert Scale().value(FAILED) == 0.0
    assert filled(FAILED).value(FAILED) == 0.0


def test_value_keeps_to_the_highest_rung() -> None:
    scale = filled(Outcome((-5.0,), rung=0), Outcome((0.3,), rung=1), Outcome((0.4,), rung=1), FAILED)
    assert scale.value(Outcome((0.4,), rung=1)) == 0.4
    assert scale.value(Outcome((-5.0,), rung=0)) == 0.3
    assert scale.value(FAILED) == 0.3


OUTCOMES = st.builds(
    Outcome,
    st.tuples(st.floats(-100, 100)),
    state=st.sampled_from(list(State)),
    rung=st.integers(0, 2),
)


@given(st.lists(OUTCOMES, max_size=30), st.lists(OUTCOMES, max_size=8))
def test_rank_keeps_the_order_of_rung_and_value_and_survives_json(entered: list[Outcome], asked: list[Outcome]) -> None:
    scale = filled(*entered)
    again = Scale.from_list(json.loads(json.dumps(scale.to_list())))
    for one in asked + entered:
        assert 0 <= scale.rank(one) <= 1
        assert again.rank(one) == scale.rank(one)
        for other in asked + entered:
            if not one.state.has_values and other.state.has_values:
                assert scale.rank(one) <= scale.rank(other)
            if one.state.has_values and other.state.has_values and len(scale):
                if (one.rung, one.values) < (other.rung, other.values):
                    assert scale.rank(one) <= scale.rank(other)
                if (one.rung, one.values) == (other.rung, other.values):
                    assert scale.rank(one) == scale.rank(other)
    # Entered values that differ have ranks that differ.
    places = {(o.rung, o.values) for o in entered if o.state.has_values and o.state is not State.CACHED}
    assert len({scale.rank(Outcome(values, rung=rung)) for rung, values in places}) == len(places)
