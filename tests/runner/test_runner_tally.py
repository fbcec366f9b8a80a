"""The counts of a search: what costs, what fails, what runs, how fast it goes."""

from __future__ import annotations

import pytest

from nasneck.runner.tally import Tally
from nasneck.study.records import FREE_OF_COST
from nasneck.trial import Measurement, State, Trial


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def asked(number: int) -> Trial:
    return Trial(number, (0,), "g")


def ended(number: int, state: State = State.OK, value: float | None = None, seconds: float | None = 2.0) -> Trial:
    values = () if value is None else (value,)
    measurement = Measurement(state, reward=value, seconds=seconds)
    return Trial(number, (0,), "g", state=state, measurement=measurement, values=values)


@pytest.mark.parametrize("state", list(State))
def test_every_state_counts_as_one_thing(state: State) -> None:
    tally = Tally([ended(0, state)], budget=5)
    counts = (tally.measured, tally.failed, tally.cached, tally.rejected, tally.pruned)
    assert counts == {
        State.OK: (1, 0, 0, 0, 0),
        State.CACHED: (0, 0, 1, 0, 0),
        State.REJECTED: (0, 0, 0, 1, 0),
        State.PRUNED: (1, 0, 0, 0, 1),
    }.get(state, (1, 1, 0, 0, 0))
    assert tally.ended == 1
    assert (tally.measured == 0) == (state in FREE_OF_COST)
    assert (tally.best is not None) == (state is State.OK)


def test_rows_of_what_costs_nothing_end_with_a_measured_trial() -> None:
    tally = Tally((), budget=9)
    for number, state in enumerate([State.CACHED, State.REJECTED, State.REJECTED, State.CACHED]):
        tally.add(ended(number, state), seconds=0.0)
    assert (tally.duplicates_in_a_row, tally.rejected_in_a_row) == (2, 2), "one does not end the row of the other"
    tally.add(ended(4, State.OOM), seconds=0.0)
    assert (tally.duplicates_in_a_row, tally.rejected_in_a_row) == (0, 0)


def test_what_costs_nothing_does_not_make_trials_look_quick() -> None:
    stored = [ended(0, seconds=4.0), ended(1, State.CACHED, seconds=0.0), ended(2, State.REJECTED, seconds=0.0)]
    progress = Tally(stored, budget=3, workers=2).progress(asked(3))
    assert (progress.seconds_per_trial, progress.seconds_left) == (4.0, 4.0)


def test_best_is_by_what_the_strategy_was_told_and_the_first_of_equals() -> None:
    tally = Tally([ended(3, value=0.2), ended(0, value=0.1), ended(2, value=0.2)], budget=9)
    assert tally.best is not None and tally.best.number == 2
    tally.add(ended(4, State.PRUNED, 0.9), seconds=1.0)
    tally.add(ended(5, State.CACHED, 0.9), seconds=1.0)
    assert tally.best.number == 2
    tally.add(ended(6, value=0.3), seconds=1.0)
    assert tally.best.number == 6


def test_running_are_those_that_started_and_have_not_ended() -> None:
    tally = Tally([asked(0), ended(1)], budget=9)
    assert tally.progress(asked(2)).running == 1, "what a killed run left behind is not running before it starts"
    assert tally.progress(asked(0)).running == 2
    assert tally.progress(asked(0)).running == 2
    tally.add(ended(2, State.REJECTED), seconds=0.0)
    assert tally.progress(ended(2, State.REJECTED)).running == 1


def test_speed_is_that_of_this_run_until_its_last_result(clock: Clock) -> None:
    tally = Tally([ended(number) for number in range(5)], budget=20, clock=clock)
    clock.now += 90.0
    assert tally.progress(asked(5)).candidates_per_hour is None
    tally.add(ended(5), seconds=90.0)
    assert tally.progress(ended(5)).candidates_per_hour == pytest.approx(40.0)
    clock.now += 90.0
    tally.add(ended(6, State.CACHED), seconds=0.0)
    progress = tally.progress(ended(6, State.CACHED))
    assert progress.candidates_per_hour == pytest.approx(40.0), "neither the trial that runs nor a duplicate changes it"
    assert progress.seconds == pytest.approx(180.0)
    tally.add(ended(7, State.NAN), seconds=90.0)
    assert tally.progress(ended(7)).candidates_per_hour == pytest.approx(40.0)


def test_progress_has_the_counts() -> None:
    states = [State.OK, State.CACHED, State.CACHED, *[State.REJECTED] * 3, *[State.PRUNED] * 4, *[State.OOM] * 5]
    progress = Tally([ended(number, state) for number, state in enumerate(states)], budget=30).progress(asked(99))
    assert (progress.measured, progress.budget) == (10, 30)
    assert (progress.cached, progress.rejected, progress.pruned, progress.failed) == (2, 3, 4, 5)
