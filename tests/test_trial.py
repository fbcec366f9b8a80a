"""What was measured, as JSON and back."""

from __future__ import annotations

import json
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from nasneck.trial import Measurement, State

MEASUREMENTS = st.builds(
    Measurement,
    st.sampled_from(State),
    reward=st.none() | st.floats(-10, 1),
    reward_kind=st.sampled_from(["ap", "loss"]),
    parameters=st.none() | st.integers(0, 10**9),
    image_size=st.none() | st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    rung=st.integers(0, 3),
    scores=st.lists(st.floats(-10, 0), max_size=3).map(tuple),
    attempts=st.integers(1, 3),
    text=st.text(max_size=5),
)


@given(MEASUREMENTS)
def test_round_trips(measurement: Measurement) -> None:
    assert Measurement.from_dict(json.loads(json.dumps(measurement.to_dict()))) == measurement
    assert Measurement.from_dict(json.loads(measurement.to_json())) == measurement


def test_the_text_leaves_out_what_says_nothing() -> None:
    assert Measurement(State.OOM, text="full").to_json() == '{"state": "oom", "text": "full"}'
    assert len(Measurement(State.OK, reward=0.0).to_dict()) == len(fields(Measurement))
