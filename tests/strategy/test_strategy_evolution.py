"""Regularised evolution: ageing, tournaments, mutation, and that it finds what is good."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable

import pytest

from nasneck.decision import Choices, Decision
from nasneck.errors import ConfigError
from nasneck.strategy import EvolutionOptions, EvolutionStrategy, make_strategy
from nasneck.strategy import evolution as evolution_module
from nasneck.trial import Outcome, State

WIDE = tuple(Decision(f"d{i}", 10, "toy") for i in range(6))


def tell(strategy: EvolutionStrategy, choices: tuple[int, ...], outcome: Outcome | float) -> None:
    outcome = outcome if isinstance(outcome, Outcome) else Outcome((outcome,))
    strategy.tell(strategy.inject(choices).number, outcome)


def vector(i: int) -> Choices:
    """Far from each other: no two of 0..9 have a choice in common."""
    return (i,) * len(WIDE)


def parents(strategy: EvolutionStrategy, asks: int) -> set[int]:
    """Which of :func:`vector` the next asks descend from."""
    found = set()
    for _ in range(asks):
        choices = strategy.ask().choices
        found.add(max(range(10), key=choices.count))
    return found


def changed(first: Choices, second: Choices) -> int:
    return sum(a != b for a, b in zip(first, second, strict=True))


# -- the queue ---------------------------------------------------------------------------------------


def test_the_oldest_dies_and_not_the_worst() -> None:
    strategy = EvolutionStrategy(WIDE, seed=0, population=3, tournament=50)
    for i, value in enumerate((0.9, 0.1, 0.5)):
        tell(strategy, vector(i), value)
    assert parents(strategy, 20) == {0}
    tell(strategy, vector(3), 0.2)  # the best one was the oldest
    assert parents(strategy, 20) == {2}
    tell(strategy, vector(4), 0.3)  # the worst one goes now, in its turn
    assert parents(strategy, 20) == {2}
    tell(strategy, vector(5), 0.25)
    assert parents(strategy, 20) == {4}


def test_age_counts_from_the_result_and_not_from_the_ask() -> None:
    strategy = EvolutionStrategy(WIDE, seed=0, population=2, tournament=50)
    first, second, third = (strategy.inject(vector(i)) for i in range(3))
    strategy.tell(third.number, Outcome((0.9,)))
    strategy.tell(second.number, Outcome((0.5,)))
    assert parents(strategy, 20) == {2}
    strategy.tell(first.number, Outcome((0.1,)))
    assert parents(strategy, 20) == {1}


def test_random_until_the_population_has_its_results() -> None:
    strategy = EvolutionStrategy(WIDE, seed=0, population=4, tournament=50)
    for i in range(3):
        tell(strategy, vector(i), i * 0.1)
    many = [strategy.ask().choices for _ in range(300)]  # asks alone change nothing
    for position in range(len(WIDE)):
        assert {choices[position] for choices in many} == set(range(10))
    tell(strategy, vector(3), 0.05)
    assert all(changed(strategy.ask().choices, vector(2)) == 1 for _ in range(20))


# -- tournaments -------------------------------------------------------------------------------------


def test_the_best_of_the_sample_is_the_parent() -> None:
    """With a sample of two of four, drawn with replacement: shares 7, 5, 3 and 1 sixteenths, best first."""
    strategy = EvolutionStrategy(WIDE, seed=1, population=4, tournament=2)
    for i, value in enumerate((0.2, 0.4, 0.1, 0.3)):
        tell(strategy, vector(i), value)
    winners = [strategy._winner().choices[0] for _ in range(4000)]
    shares = [winners.count(i) / 4000 for i in (1, 3, 0, 2)]
    assert shares == pytest.approx([7 / 16, 5 / 16, 3 / 16, 1 / 16], abs=0.03)


def test_a_sample_of_one_does_not_select() -> None:
    strategy = EvolutionStrategy(WIDE, seed=1, population=4, tournament=1)
    for i in range(4):
        tell(strategy, vector(i), float(i))
    assert parents(strategy, 60) == {0, 1, 2, 3}


def test_a_higher_rung_wins_whatever_the_values() -> None:
    strategy = EvolutionStrategy(WIDE, seed=0, population=3, tournament=50)
    tell(strategy, vector(0), Outcome((0.9,), rung=0))
    tell(strategy, vector(1), Outcome((0.2,), rung=1))
    tell(strategy, vector(2), Outcome((0.95,), state=State.PRUNED, rung=0))
    assert parents(strategy, 20) == {1}


# -- what does not join ------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome((), state=State.OOM), Outcome((), State.ERROR), Outcome((float("nan"),))])
def test_failed_ones_neither_win_nor_displace(outcome: Outcome) -> None:
    strategy = EvolutionStrategy(WIDE, seed=0, population=3, tournament=50)
    tell(strategy, vector(0), -5.0)
    for i in range(1, 9):
        tell(strategy, vector(i), outcome)
    assert parents(strategy, 30) == {0}, "and they count as results: the random start is over"


def test_nothing_but_failures_is_no_end() -> None:
    strategy = EvolutionStrategy(WIDE, seed=0, population=3)
    asks = []
    for _ in range(30):
        asks.append(strategy.ask())
        strategy.tell(asks[-1].number, Outcome((), state=State.ERROR))
    assert len({ask.choices for ask in asks}) == 30
    tell(strategy, vector(7), 0.1)
    assert parents(strategy, 20) == {7}


def test_cached_ones_do_not_fill_the_queue() -> None:
    strategy = EvolutionStrategy(WIDE, seed=0, population=3, tournament=50)
    for i, value in enumerate((0.3, 0.2, 0.1)):
        tell(strategy, vector(i), value)
    for _ in range(10):
        tell(strategy, vector(9), Outcome((0.3,), state=State.CACHED))
    assert parents(strategy, 20) == {0}
    tell(strategy, vector(4), 0.0)
    assert parents(strategy, 20) == {1}, "copies of a lucky number do not keep it alive"


# -- mutation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mutations", [1, 2, 5, 6, 9])
def test_so_many_decisions_change(mutations: int) -> None:
    decisions = (*WIDE, Decision("only", 1, "toy"))
    strategy = EvolutionStrategy(decisions, seed=0, population=1, mutations=mutations)
    tell(strategy, (*vector(0), 0), 0.5)
    children = [strategy.ask().choices for _ in range(25)]
    assert {changed(child, (*vector(0), 0)) for child in children} == {min(mutations, 6)}
    assert len(set(children)) == 25


def test_every_other_choice_is_equally_likely() -> None:
    strategy = EvolutionStrategy((Decision("a", 4, "toy"), Decision("b", 2, "toy")), seed=0)
    children = [strategy._mutant((2, 1)) for _ in range(4000)]
    shares = [children.count(child) / 4000 for child in ((0, 1), (1, 1), (3, 1), (2, 0))]
    assert shares == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2], abs=0.03)


def test_what_was_asked_before_gives_way() -> None:
    """A small space is gone through although nobody tells anything in between."""
    decisions = (Decision("a", 3, "toy"), Decision("b", 4, "toy"))
    strategy = EvolutionStrategy(decisions, seed=0, population=1)
    tell(strategy, (0, 0), 0.5)
    asks = [strategy.ask().choices for _ in range(11)]
    assert len({*asks, (0, 0)}) == 12
    assert strategy.ask().choices in {*asks, (0, 0)}, "used up, and still an answer"


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolution_module, "REMEMBERED", 5)
    strategy = EvolutionStrategy(WIDE, seed=0)
    asks = [strategy.ask().choices for _ in range(30)]
    assert strategy.state().data["asked"] == [list(choices) for choices in asks[-5:]]


# -- finding what is good ----------------------------------------------------------------------------

SIZES = (10, 15, 21, 28, 4, 4, 2, 2, 2, 2, 2, 2, 2, 5, 4)  # about those of a NAS-FPN space
TOY = tuple(Decision(f"d{i}", size, "toy") for i, size in enumerate(SIZES))


def toy(seed: int) -> Callable[[Choices], float]:
    """A sum over single decisions and neighbouring pairs; its standard deviation is about 4.5."""
    rng = random.Random(seed)
    single = [[rng.gauss(0, 1) for _ in range(size)] for size in SIZES]
    pairs = [[rng.gauss(0, 0.5) for _ in range(a * b)] for a, b in itertools.pairwise(SIZES)]

    def value(choices: Choices) -> float:
        own = sum(row[choice] for row, choice in zip(single, choices, strict=True))
        return own + sum(table[choices[i] * SIZES[i + 1] + choices[i + 1]] for i, table in enumerate(pairs))

    return value


def search(name: str, seed: int, *, trials: int = 150, workers: int = 1, failing: float = 0.0) -> tuple[float, float]:
    """True value of the candidate with the best noisy reward, and mean true value of the last 30 asks."""
    value, rng = toy(seed), random.Random(seed + 1)
    strategy = make_strategy(name, TOY, seed=seed)
    seen = []
    for _ in range(trials):
        while len(strategy.open_asks) < workers:
            strategy.ask()
        ask = rng.choice(strategy.open_asks)  # results come in any order
        true = value(ask.choices)
        failed = rng.random() < failing
        reward = true + rng.gauss(0, 1)
        strategy.tell(ask.number, Outcome((), state=State.OOM) if failed else Outcome((reward,)))
        seen.append((-1e9 if failed else reward, true))
    return max(seen)[1], statistics.mean(true for _, true in seen[-30:])


@pytest.mark.parametrize(
    ("workers", "failing", "best_gain", "late_gain"), [(1, 0.0, 3, 8), (12, 0.0, 2, 6), (4, 0.4, 1.5, 5)]
)
def test_beats_random_search_on_a_toy(workers: int, failing: float, best_gain: float, late_gain: float) -> None:
    found = {
        name: [search(name, seed, workers=workers, failing=failing) for seed in range(12)]
        for name in ("evolution", "random")
    }
    best, late = ({name: statistics.mean(run[i] for run in runs) for name, runs in found.items()} for i in (0, 1))
    assert best["evolution"] > best["random"] + best_gain
    assert late["evolution"] > late["random"] + late_gain
    assert all(mine[1] > other[1] for mine, other in zip(found["evolution"], found["random"], strict=True))


# -- options -----------------------------------------------------------------------------------------


def test_options() -> None:
    assert make_strategy("evolution", TOY, seed=0).options == EvolutionOptions(20, 20, 1)
    for name in ("population", "tournament", "mutations"):
        with pytest.raises(ConfigError, match=f"strategy 'evolution': {name} = 0 is less than 1"):
            make_strategy("evolution", TOY, seed=0, options={name: 0})
    with pytest.raises(ConfigError, match=r"population: 2\.5 is not a whole number"):
        make_strategy("evolution", TOY, seed=0, options={"population": 2.5})
