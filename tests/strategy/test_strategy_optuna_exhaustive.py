"""Optuna's samplers that go through a whole space: every vector of choices once, whatever is told."""

from __future__ import annotations

import itertools
import random

import pytest

from nasneck.decision import Decision
from nasneck.errors import ConfigError
from nasneck.strategy import Exhausted, Strategy, make_strategy
from nasneck.strategy.optuna_samplers import LIMITS
from nasneck.trial import Outcome, State

SMALL = (Decision("b", 3, "x"), Decision("one", 1, "x"), Decision("a", 2, "x"), Decision("c", 4, "y"))
VECTORS = set(itertools.product(range(3), range(1), range(2), range(4)))


def strategy_of(sampler: str, decisions: tuple[Decision, ...], seed: int = 0) -> Strategy:
    return make_strategy("optuna", decisions, seed=seed, options={"sampler": sampler})


@pytest.mark.parametrize("sampler", sorted(LIMITS))
@pytest.mark.parametrize("told", ["at once", "at the end", "shuffled", "failed"])
@pytest.mark.parametrize("seed", range(3))
def test_every_vector_exactly_once(sampler: str, told: str, seed: int) -> None:
    strategy, rng = strategy_of(sampler, SMALL, seed=seed), random.Random(seed)
    asked = []
    for _ in VECTORS:
        asked.append(strategy.ask())
        if told == "shuffled":
            while strategy.open_asks and rng.random() < 0.4:
                strategy.tell(rng.choice(strategy.open_asks).number, Outcome((rng.random(),)))
        elif told != "at the end":
            outcome = Outcome((), State.ERROR) if told == "failed" else Outcome((0.5,))
            strategy.tell(asked[-1].number, outcome)
    assert sorted(ask.choices for ask in asked) == sorted(VECTORS)
    for _ in range(2):
        with pytest.raises(Exhausted, match="all 24 vectors of choices were asked"):
            strategy.ask()
    for ask in strategy.open_asks:
        strategy.tell(ask.number, Outcome((), State.OOM))
    with pytest.raises(Exhausted):
        strategy.ask()
    assert strategy.next_number == len(VECTORS)


@pytest.mark.parametrize("sampler", sorted(LIMITS))
def test_order_is_shuffled_and_hangs_on_no_outcome(sampler: str) -> None:
    silent = strategy_of(sampler, SMALL)
    order = [silent.ask().choices for _ in VECTORS]
    assert order != sorted(order)
    assert [strategy_of(sampler, SMALL, seed=1).ask().choices for _ in VECTORS] != order
    talking = strategy_of(sampler, SMALL)
    for expected in order:
        ask = talking.ask()
        assert ask.choices == expected
        talking.tell(ask.number, Outcome((0.1,), State.PRUNED))


@pytest.mark.parametrize("sampler", sorted(LIMITS))
def test_injected_vectors_are_passed_over(sampler: str) -> None:
    reference, strategy = strategy_of(sampler, SMALL), strategy_of(sampler, SMALL)
    order = [reference.ask().choices for _ in VECTORS]
    given = [order[7], order[0], order[-1], order[7]]  # one of them twice
    for choices in given[:2]:
        strategy.inject(choices)
    asked = [strategy.ask().choices for _ in range(5)]
    for choices in given[2:]:
        strategy.tell(strategy.inject(choices).number, Outcome((), State.TIMEOUT))
    asked += [strategy.ask().choices for _ in range(len(VECTORS) - 3 - 5)]
    assert asked == [choices for choices in order if choices not in given]
    with pytest.raises(Exhausted):
        strategy.ask()
    strategy.inject(order[3])  # may be measured again, if somebody wants to
    with pytest.raises(Exhausted):
        strategy.ask()


def test_spaces_that_are_too_large() -> None:
    wide = tuple(Decision(f"d{i}", 10, "x") for i in range(6))
    with pytest.raises(ConfigError) as caught:
        strategy_of("grid", wide)
    assert str(caught.value) == (
        "strategy 'optuna': sampler 'grid' goes through all of a space, at most 100,000 vectors of choices, but this"
        " one has 1,000,000; use 'tpe' or 'random' instead"
    )
    with pytest.raises(ConfigError, match=r"at most 2,000 vectors of choices, but this one has 10,000; use 'grid'"):
        strategy_of("brute_force", wide[:4])
    assert len(strategy_of("grid", wide[:5]).ask().choices) == 5  # exactly the limit
    assert strategy_of("tpe", wide * 0 + tuple(Decision(f"d{i}", 1000, "x") for i in range(30))).ask()
