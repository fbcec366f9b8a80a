"""What every strategy of STRATEGIES has to keep, one of Optuna's with every sampler. A new one joins by being there."""

from __future__ import annotations

import io
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nasneck
from nasneck.decision import Decision, check_choices
from nasneck.errors import ConfigError, SpaceError, StudyError
from nasneck.strategy import STRATEGIES, Exhausted, Snapshot, Strategy, make_strategy
from nasneck.strategy.optuna_samplers import CLASSES, LIMITS
from nasneck.trial import Ask, Outcome, State

DECISIONS = (
    Decision("cell0.inputs", 6, "inputs"),
    Decision("cell0.level", 3, "level"),
    Decision("cell0.op", 2, "op"),
    Decision("cell1.inputs", 10, "inputs"),
    Decision("cell1.only", 1, "op"),
    Decision("order", 5, "order"),
)
FAILED = [state for state in State if not state.has_values]


@dataclass(frozen=True)
class Case:
    """A strategy, with options for some."""

    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    exhaustive: bool = False  # asks every vector once, then raises Exhausted
    trials: int = 60  # at most, where trials are told; past the random start in any case
    examples: int = 25  # of hypothesis


def optuna_case(sampler: str) -> Case:
    # Past the random start early, so that the sampler itself is what is tested.
    settings = {
        "tpe": {"n_startup_trials": 4},
        "gp": {"n_startup_trials": 4},
        "nsgaii": {"population_size": 8},
        "nsgaiii": {"population_size": 8},
    }
    options = {"sampler": sampler, "settings": settings.get(sampler, {})}
    if sampler == "gp":  # about a tenth of a second per ask
        return Case("optuna", options, trials=12, examples=10)
    return Case("optuna", options, exhaustive=sampler in LIMITS)


CASES = {name: Case(name) for name in STRATEGIES if name != "optuna"}
CASES |= {f"optuna-{sampler}": optuna_case(sampler) for sampler in CLASSES}

every = pytest.mark.parametrize("name", sorted(CASES))


def fresh(name: str, seed: int = 3, decisions: tuple[Decision, ...] = DECISIONS) -> Strategy:
    return make_strategy(CASES[name].strategy, decisions, seed=seed, options=CASES[name].options)


def few(name: str, trials: int) -> int:
    return min(trials, CASES[name].trials)


def reward(choices: tuple[int, ...]) -> Outcome:
    return Outcome((sum((i + 1) * c for i, c in enumerate(choices)) % 17 / 17,))


def live(strategy: Strategy, trials: int) -> list[Ask]:
    asks = []
    for _ in range(trials):
        asks.append(strategy.ask())
        strategy.tell(asks[-1].number, reward(asks[-1].choices))
    return asks


def through_disk(snapshot: Snapshot) -> Snapshot:
    buffer = io.BytesIO()
    torch.save(dict(snapshot.tensors), buffer)
    tensors = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    return Snapshot(json.loads(json.dumps(snapshot.data)), tensors)


@every
def test_choices_are_legal_and_numbers_count_up(name: str) -> None:
    asks = live(fresh(name), few(name, 45))
    assert [ask.number for ask in asks] == list(range(few(name, 45)))
    for ask in asks:
        assert check_choices(DECISIONS, ask.choices) == ask.choices
        assert all(type(choice) is int for choice in ask.choices)


@every
def test_every_choice_can_be_asked(name: str) -> None:
    strategy = fresh(name)
    asks = [strategy.ask() for _ in range(300)]
    for position, decision in enumerate(DECISIONS):
        assert {ask.choices[position] for ask in asks} == set(range(decision.choices))


@every
def test_same_seed_same_asks_and_another_seed_others(name: str) -> None:
    assert live(fresh(name), few(name, 30)) == live(fresh(name), few(name, 30))
    assert live(fresh(name, seed=4), few(name, 30)) != live(fresh(name, seed=3), few(name, 30))


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, list[list[int]]]:
    """Asks of all cases in one other process, with another hash seed and more threads."""
    code = (
        "import json, torch; torch.set_num_threads(2)\n"
        "from test_strategy_contract import CASES, few, fresh, live\n"
        "print(json.dumps({name: [ask.choices for ask in live(fresh(name), few(name, 30))] for name in CASES}))"
    )
    root = Path(nasneck.__file__).parents[1]
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "12345",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "PYTHONPATH": os.pathsep.join([str(root), str(Path(__file__).parent)]),
    }
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stderr == ""
    return json.loads(out.stdout)


@every
def test_same_asks_in_another_process_with_other_hash_seed_and_threads(
    name: str, elsewhere: dict[str, list[list[int]]]
) -> None:
    here = [list(ask.choices) for ask in live(fresh(name), few(name, 30))]
    assert elsewhere[name] == here


@every
def test_many_asks_before_any_tell_and_tells_in_any_order(name: str) -> None:
    strategy = fresh(name)
    asks = [strategy.ask() for _ in range(64)]
    assert strategy.open_asks == tuple(asks)
    random.Random(0).shuffle(asks)
    for ask in asks:
        strategy.tell(ask.number, reward(ask.choices))
    assert strategy.open_asks == ()
    assert strategy.next_number == 64
    assert strategy.ask().number == 64


@every
def test_failed_outcomes_survive(name: str) -> None:
    strategy = fresh(name)
    for state in FAILED * 10:
        strategy.tell(strategy.ask().number, Outcome((), state=state, text="reason"))
    # Also what no well-behaved runner sends: values that are no numbers, and none where there should be some.
    for values in ((float("nan"),), (float("inf"),), ()):
        strategy.tell(strategy.ask().number, Outcome(values))
    strategy.tell(strategy.ask().number, Outcome((), state=State.CACHED))
    strategy.tell(strategy.ask().number, Outcome((0.5,), state=State.PRUNED, rung=2))
    for ask in live(strategy, few(name, 30)):
        check_choices(DECISIONS, ask.choices)


@every
def test_negative_losses_as_rewards(name: str) -> None:
    strategy = fresh(name)
    for i in range(few(name, 30)):
        strategy.tell(strategy.ask().number, Outcome((-1000.0 - i,)))
    check_choices(DECISIONS, strategy.ask().choices)


@every
@pytest.mark.parametrize("decisions", [(Decision("a", 1, "x"), Decision("b", 1, "x")), (Decision("only", 4, "x"),)])
def test_degenerate_spaces(name: str, decisions: tuple[Decision, ...]) -> None:
    strategy, size = fresh(name, decisions=decisions), math.prod(decision.choices for decision in decisions)
    if CASES[name].exhaustive:
        assert len({ask.choices for ask in live(strategy, size)}) == size
        with pytest.raises(Exhausted):
            strategy.ask()
        assert strategy.next_number == size
    else:
        for ask in live(strategy, few(name, 45)):
            check_choices(decisions, ask.choices)


@every
def test_impossible_spaces(name: str) -> None:
    with pytest.raises(SpaceError, match="no decisions"):
        fresh(name, decisions=())
    with pytest.raises(SpaceError, match="'op' occurs more than once"):
        fresh(name, decisions=(Decision("op", 2, "op"), Decision("op", 3, "op")))


@every
def test_unknown_and_double_tells(name: str) -> None:
    strategy = fresh(name)
    with pytest.raises(StudyError, match=r"cannot tell trial 0, it was never asked \(0 asks so far\)"):
        strategy.tell(0, Outcome((0.5,)))
    ask = strategy.ask()
    strategy.tell(ask.number, Outcome((0.5,)))
    with pytest.raises(StudyError, match="cannot tell trial 0, it was told before"):
        strategy.tell(ask.number, Outcome((0.5,)))
    with pytest.raises(StudyError, match="cannot tell trial -1"):
        strategy.tell(-1, Outcome((0.5,)))


@every
def test_injected_choices_are_numbered_and_checked(name: str) -> None:
    strategy, reference = fresh(name), fresh(name)
    assert strategy.inject([5, 2, 1, 9, 0, 4]) == Ask(0, (5, 2, 1, 9, 0, 4))
    # No randomness used: the first ask of its own is the same as without the injection.
    assert strategy.ask().choices == reference.ask().choices
    strategy.tell(0, Outcome((0.5,)))
    with pytest.raises(SpaceError, match=r"choice 6 for decision 'cell0.inputs' is not in 0\.\.5"):
        strategy.inject([6, 0, 0, 0, 0, 0])
    with pytest.raises(SpaceError, match="2 choices given"):
        strategy.inject([0, 0])
    assert strategy.next_number == 2


@every
def test_global_generators_are_left_alone(name: str) -> None:
    torch_before, random_before, numpy_before = torch.get_rng_state(), random.getstate(), np.random.get_state()
    live(fresh(name), few(name, 30))
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert random.getstate() == random_before
    numpy_after = np.random.get_state()
    assert np.array_equal(numpy_after[1], numpy_before[1]) and numpy_after[2:] == numpy_before[2:]


@every
def test_global_generators_do_not_matter(name: str) -> None:
    expected = live(fresh(name), few(name, 30))
    random_before, numpy_before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        random.seed(99)
        np.random.seed(99)
        try:
            assert live(fresh(name), few(name, 30)) == expected
        finally:
            random.setstate(random_before)
            np.random.set_state(numpy_before)


# A script of calls: ask, inject, or tell one of the open asks (chosen by the number), now and then failed.
CALLS = st.lists(
    st.one_of(
        st.just(("ask", 0, True)),
        st.tuples(st.just("inject"), st.integers(0, 10**6), st.just(True)),
        st.tuples(st.just("tell"), st.integers(0, 10**6), st.booleans()),
    ),
    max_size=60,
)


def play(strategy: Strategy, calls: list[tuple[str, int, bool]]) -> list[object]:
    """Make the calls; return the log: asks with their source, and tells."""
    log: list[object] = []
    for kind, number, fine in calls:
        if kind == "ask":
            log.append(("strategy", strategy.ask()))
        elif kind == "inject":
            rng = random.Random(number)
            choices = [rng.randrange(decision.choices) for decision in DECISIONS]
            log.append(("warm", strategy.inject(choices)))
        elif strategy.open_asks:
            ask = strategy.open_asks[number % len(strategy.open_asks)]
            outcome = reward(ask.choices) if fine else Outcome((), state=State.OOM)
            strategy.tell(ask.number, outcome)
            log.append((ask.number, outcome))
    return log


def replay(strategy: Strategy, log: list[object]) -> None:
    for left, right in log:  # type: ignore[misc]  (pairs by construction)
        if left == "strategy":
            assert strategy.ask() == right
        elif left == "warm":
            assert strategy.inject(right.choices) == right
        else:
            strategy.tell(left, right)


@every
def test_replay_of_a_log_equals_the_live_strategy(name: str) -> None:
    @settings(max_examples=CASES[name].examples, deadline=None)
    @given(calls=CALLS, seed=st.integers(0, 5))
    def check(calls: list[tuple[str, int, bool]], seed: int) -> None:
        first, second = fresh(name, seed), fresh(name, seed)
        replay(second, play(first, calls))
        assert second.open_asks == first.open_asks
        assert live(second, few(name, 12)) == live(first, few(name, 12))

    check()


@every
def test_restored_strategy_goes_on_identically(name: str) -> None:
    if fresh(name).snapshot() is None:
        pytest.skip(f"{name} keeps no snapshots")

    @settings(max_examples=CASES[name].examples, deadline=None)
    @given(calls=CALLS, seed=st.integers(0, 5))
    def check(calls: list[tuple[str, int, bool]], seed: int) -> None:
        first = fresh(name, seed)
        play(first, calls)
        snapshot = first.snapshot()
        assert snapshot is not None
        second = fresh(name, seed)
        second.restore(through_disk(snapshot))
        assert second.open_asks == first.open_asks
        for ask in first.open_asks:
            first.tell(ask.number, reward(ask.choices))
            second.tell(ask.number, reward(ask.choices))
        assert live(second, few(name, 12)) == live(first, few(name, 12))

    check()


@every
def test_snapshot_is_not_changed_by_what_follows(name: str) -> None:
    first = fresh(name)
    live(first, 13)
    snapshot = first.snapshot()
    if snapshot is None:
        pytest.skip(f"{name} keeps no snapshots")
    expected = live(first, few(name, 30))
    second = fresh(name)
    second.restore(snapshot)
    assert live(second, few(name, 30)) == expected
    third = fresh(name)
    third.restore(snapshot)
    assert live(third, few(name, 30)) == expected


@every
def test_snapshots_that_do_not_fit(name: str) -> None:
    snapshot = fresh(name).snapshot()
    if snapshot is None:
        pytest.skip(f"{name} keeps no snapshots")
    with pytest.raises(StudyError, match="another strategy or space"):
        fresh(name, decisions=DECISIONS[:2]).restore(snapshot)
    broken = Snapshot({**snapshot.data, "state": {}}, {})
    with pytest.raises(StudyError, match="does not fit"):
        fresh(name).restore(broken)


@every
def test_unknown_options(name: str) -> None:
    strategy = CASES[name].strategy
    with pytest.raises(ConfigError, match=f"strategy '{strategy}': unknown setting 'temprature'"):
        make_strategy(strategy, DECISIONS, seed=0, options={"temprature": 1.0})


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_description_is_one_line(name: str) -> None:
    assert STRATEGIES[name].name == name
    description = STRATEGIES[name].description
    assert 10 < len(description) < 100
    assert "\n" not in description


def test_unknown_strategy_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'controler'; did you mean 'controller'\? \(known: controller,"):
        make_strategy("controler", DECISIONS, seed=0)
