"""Ctrl-C while a result is on its way to the log, the strategy and the files."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from search_fakes import FakeGraph, FakeSpace, Listed, cache_key, reward

from nasneck.runner import Desk, Progress, run
from nasneck.runner.interrupts import deferred
from nasneck.study import Study
from nasneck.trial import Measurement, State

SPACE = FakeSpace(4, 5, 6, 2)


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Tests begun in the background of a shell script have inherited that interrupts are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_comes_after_what_it_would_have_broken() -> None:
    happened = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), deferred():
        signal.raise_signal(signal.SIGINT)
        happened.append("the rest")
    assert happened == ["the rest"] and signal.getsignal(signal.SIGINT) is before


def test_a_second_one_does_not_wait() -> None:
    happened = []
    with pytest.raises(KeyboardInterrupt), deferred():
        signal.raise_signal(signal.SIGINT)
        happened.append("some of it")
        signal.raise_signal(signal.SIGINT)
        happened.append("the rest")
    assert happened == ["some of it"]


def test_an_error_inside_goes_first() -> None:
    with pytest.raises(ValueError, match="mine"), deferred():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("mine")


def test_in_another_thread_nothing_happens() -> None:
    seen = []

    def work() -> None:
        with deferred():
            seen.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


def test_log_strategy_and_events_stay_in_step(tmp_path: Path) -> None:
    strategy = Listed(SPACE, [(i, 0, 0, 0) for i in range(4)])
    seen: list[int] = []

    def evaluate(graph: FakeGraph) -> Measurement:
        return Measurement(State.OK, reward=reward(graph))

    def on_event(progress: Progress) -> None:
        if progress.trial.state is not None:
            if progress.trial.number == 1:
                signal.raise_signal(signal.SIGINT)
            seen.append(progress.trial.number)

    with Study.create(tmp_path, experiment={}, seed=0) as study:
        summary = run(Desk(study, strategy, SPACE, cache_key, trials=4, on_event=on_event), evaluate)
        assert summary.reason == "interrupted" and summary.measured == 2
        assert [trial.state for trial in study.trials()] == [State.OK, State.OK]
    assert seen == [number for number, _ in strategy.told] == [0, 1]
