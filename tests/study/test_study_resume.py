"""Resume: the log is repeated, and checked."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from nasneck.decision import Choices, Decision
from nasneck.errors import StudyError
from nasneck.strategy import Strategy, make_strategy
from nasneck.strategy.random import RandomOptions
from nasneck.study import Asked, Study, resume
from nasneck.trial import Ask, Measurement, Outcome, State

DECISIONS = (Decision("a", 5, "x"), Decision("b", 7, "x"), Decision("c", 2, "y"))

names = pytest.mark.parametrize("name", ["random", "controller"])


def maker(name: str, seed: int = 0) -> Callable[[], Strategy]:
    return lambda: make_strategy(name, DECISIONS, seed=seed)


def value(choices: Choices) -> float:
    return sum((i + 2) * choice for i, choice in enumerate(choices)) % 11 / 11


class Driver:
    """Up to four asks at a time, told in any order, some failed; all decided by the length of the log."""

    def __init__(self, study: Study, strategy: Strategy) -> None:
        self.study, self.strategy = study, strategy

    def step(self) -> None:
        total = len(list(self.study.events()))
        rng = random.Random(total)
        open_asks = self.strategy.open_asks
        if len(open_asks) < 4 and (not open_asks or rng.random() < 0.5):
            warm = rng.random() < 0.2
            choices = tuple(rng.randrange(decision.choices) for decision in DECISIONS)
            ask = self.strategy.inject(choices) if warm else self.strategy.ask()
            self.study.asked(ask, graph_key=str(ask.choices), source="warm" if warm else "strategy")
        else:
            ask = rng.choice(open_asks)
            state = State.OOM if rng.random() < 0.2 else State.OK
            values = (value(ask.choices),) if state is State.OK else ()
            outcome = Outcome(values, state)
            measurement = Measurement(state, reward=values[0] if values else None)
            self.study.told(ask.number, outcome, measurement, cache_key=None)
            self.strategy.tell(ask.number, outcome)


def story(study: Study) -> list[object]:
    """The log without its times."""
    return [
        (event.ask, event.source) if isinstance(event, Asked) else (event.number, event.outcome)
        for event in study.events()
    ]


@names
@pytest.mark.parametrize("snapshot_at", [None, 37])
def test_resumed_study_goes_on_as_an_unbroken_one(tmp_path: Path, name: str, snapshot_at: int | None) -> None:
    events = 120
    with Study.create(tmp_path / "whole", experiment={}, seed=0) as study:
        driver = Driver(study, maker(name)())
        for _ in range(events):
            driver.step()
        whole = story(study)
    with Study.create(tmp_path / "parts", experiment={}, seed=0) as study:
        done = 0
        for stop in (1, 2, 37, 38, 75, events):
            resumed = resume(study, maker(name))
            assert resumed.warning == ""
            assert resumed.strategy.open_asks == tuple(Ask(trial.number, trial.choices) for trial in study.in_flight())
            driver = Driver(study, resumed.strategy)
            for _ in range(stop - done):
                driver.step()
            done = stop
            if stop == snapshot_at:
                snapshot = driver.strategy.snapshot()
                assert snapshot is not None
                study.keep_snapshot(snapshot)
        assert story(study) == whole


def test_snapshot_spares_the_replay(tmp_path: Path) -> None:
    class Counting(type(maker("random")())):  # type: ignore[misc]  (the class of a fresh random strategy)
        asked = 0

        def propose(self, number: int) -> Choices:
            Counting.asked += 1
            return super().propose(number)

    with Study.create(tmp_path, experiment={}, seed=0) as study:
        strategy = Counting(DECISIONS, seed=0)
        for _ in range(20):
            study.asked(strategy.ask(), graph_key="g")
        study.keep_snapshot(strategy.snapshot())
        study.asked(strategy.ask(), graph_key="g")
        Counting.asked = 0
        resumed = resume(study, lambda: Counting(DECISIONS, seed=0))
        assert Counting.asked == 1
        assert resumed.warning == ""
        assert resumed.strategy.ask() == strategy.ask()


def test_snapshot_that_no_longer_fits_is_passed_over(tmp_path: Path) -> None:
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        strategy = maker("random")()
        for _ in range(5):
            study.asked(strategy.ask(), graph_key="g")
        other = make_strategy("random", DECISIONS[:2], seed=0).snapshot()
        assert other is not None
        study.keep_snapshot(other)
        expected = strategy.ask()
        assert resume(study, maker("random")).strategy.ask() == expected
        study._db.execute("UPDATE snapshot SET tensors = ?", (b"no tensors",))
        assert resume(study, maker("random")).strategy.ask() == expected


class Changed(Strategy):
    """Random search of a library version that draws other numbers from ask ``change`` on."""

    name = "changed"
    description = "random search that changed"
    Options = RandomOptions
    change = 10**9

    def __init__(self, decisions: tuple[Decision, ...], *, seed: int) -> None:
        super().__init__(decisions, seed=seed)
        self._own = random.Random(seed)
        self.learnt: list[tuple[Ask, Outcome]] = []

    def propose(self, number: int) -> Choices:
        choices = tuple(self._own.randrange(decision.choices) for decision in self.decisions)
        if number < self.change:
            return choices
        return tuple((c + 1) % d.choices for c, d in zip(choices, self.decisions, strict=True))

    def learn(self, ask: Ask, outcome: Outcome) -> None:
        self.learnt.append((ask, outcome))


def test_other_library_version_is_said_once_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> Changed:
        return Changed(DECISIONS, seed=0)

    with Study.create(tmp_path, experiment={}, seed=0) as study:
        driver = Driver(study, make())
        for _ in range(40):
            driver.step()
        whole = story(study)
        study._db.execute("UPDATE meta SET value = json_set(value, '$.torch', '1.0') WHERE key = 'versions'")
        first_own = next(
            event.ask.number
            for event in study.events()
            if isinstance(event, Asked) and event.source == "strategy" and event.ask.number >= 6
        )
        monkeypatch.setattr(Changed, "change", 6)
        resumed = resume(study, make)
        assert f"no longer repeats the log from trial {first_own} on (torch 1.0 -> " in resumed.warning
        assert "\n" not in resumed.warning
        # Before that trial it asked by itself, and so used up the randomness that it had used.
        assert study.injected == ((first_own, study.next_number),)
        strategy = resumed.strategy
        assert isinstance(strategy, Changed)
        # Fed with all of the log, in its order, and in step with it.
        assert [(ask.number, outcome) for ask, outcome in strategy.learnt] == [
            entry
            for entry in whole
            if isinstance(entry[0], int)  # type: ignore[index]
        ]
        assert strategy.next_number == study.next_number
        assert strategy.open_asks == tuple(Ask(t.number, t.choices) for t in study.in_flight())
        # It goes on; the next resume repeats exactly that, and has nothing more to say.
        driver = Driver(study, strategy)
        for _ in range(20):
            driver.step()
        again = resume(study, make)
        assert again.warning == ""
        assert [again.strategy.ask() for _ in range(5)] == [strategy.ask() for _ in range(5)]
        # Back to the old version: the trials since are now the ones that it would not have asked.
        monkeypatch.setattr(Changed, "change", 10**9)
        assert "no longer repeats the log from trial" in resume(study, make).warning


@names
def test_other_versions_that_repeat_the_log_are_said_once(tmp_path: Path, name: str) -> None:
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        driver = Driver(study, maker(name)())
        for _ in range(30):
            driver.step()
        study._db.execute("UPDATE meta SET value = json_set(value, '$.torch', '1.0') WHERE key = 'versions'")
        resumed = resume(study, maker(name))
        assert resumed.warning.startswith("the study goes on with other versions (torch 1.0 -> ")
        assert "\n" not in resumed.warning
        assert [resumed.strategy.ask() for _ in range(5)] == [driver.strategy.ask() for _ in range(5)]
        assert resume(study, maker(name)).warning == ""
        assert study.versions["torch"] == "1.0", "what made it stays on record"


def test_empty_study_gives_a_fresh_strategy(tmp_path: Path) -> None:
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        assert resume(study, maker("random")).strategy.ask() == maker("random")().ask()


def test_log_of_another_space(tmp_path: Path) -> None:
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        study.asked(maker("random")().ask(), graph_key="g")
        with pytest.raises((StudyError, ValueError), match="3 choices given, but the space has 2"):
            resume(study, lambda: make_strategy("random", DECISIONS[:2], seed=0))
