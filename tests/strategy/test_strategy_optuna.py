"""Optuna's samplers: names, settings, what they are told, and that they search."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import subprocess
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from nasneck.decision import Choices, Decision
from nasneck.errors import ConfigError
from nasneck.strategy import OptunaStrategy, make_strategy
from nasneck.strategy.optuna_samplers import CLASSES, sampler_name
from nasneck.trial import Outcome, State

SMALL = (Decision("b", 3, "x"), Decision("one", 1, "x"), Decision("a", 2, "x"), Decision("c", 4, "y"))
TOY = tuple(Decision(f"cell{i}.op", 4, "op") for i in range(8))


def strategy_of(sampler: str, decisions: tuple[Decision, ...] = TOY, seed: int = 0, **options: Any) -> OptunaStrategy:
    made = make_strategy("optuna", decisions, seed=seed, options={"sampler": sampler, **options})
    assert isinstance(made, OptunaStrategy)
    return made


# --- names and settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *((name, name) for name in CLASSES),
        *((class_name, name) for name, class_name in CLASSES.items()),
        ("nsga-ii", "nsgaii"),
        ("NSGA2", "nsgaii"),
        ("NSGA_III", "nsgaiii"),
        ("BruteForce", "brute_force"),
        ("brute force", "brute_force"),
        ("TPE", "tpe"),
    ],
)
def test_names_of_samplers(name: str, meant: str) -> None:
    assert sampler_name(name) == meant
    assert type(strategy_of(name, SMALL)._study.sampler).__name__ == CLASSES[meant]


@pytest.mark.parametrize("name", ["cmaes", "CmaEsSampler", "CMA-ES", "qmc", "QMCSampler"])
def test_samplers_that_do_not_handle_choices(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        strategy_of(name)
    text = str(caught.value)
    assert text.startswith(f"strategy 'optuna': sampler '{name}' does not handle categorical choices")
    assert "random search under another name" in text and "'tpe', 'gp' or 'nsgaii'" in text and "\n" not in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sampler": "tpee"}, "unknown sampler 'tpee'; did you mean 'tpe'? (known: brute_force, gp, grid, nsgaii,"),
        ({"sampler": "partial_fixed"}, "unknown sampler 'partial_fixed' (known: brute_force, gp,"),
        ({"objectives": 0}, "objectives = 0 is less than 1"),
        ({"settings": 3}, "settings: 3 is not"),
        (
            {"settings": {"n_startup_trial": 5}},
            "sampler 'tpe': unknown setting 'n_startup_trial'; did you mean 'n_startup_trials'?",
        ),
        (
            {"settings": {"n_startup_trials": "ten"}},
            "sampler 'tpe': n_startup_trials: 'ten' is not a whole number",
        ),
        ({"settings": {"n_ei_candidates": 0}}, "sampler 'tpe': n_ei_candidates: 0 is less than 1"),
        ({"settings": {"gamma": 0.2}}, "sampler 'tpe': gamma: 0.2 is not an object of Python"),
        ({"settings": {"seed": 3}}, "sampler 'tpe': 'seed' is no setting here; the search's seed is used"),
        (
            {"settings": {"group": True, "multivariate": False}},
            "sampler 'tpe': settings (group, multivariate): ``group`` option can only",
        ),
        ({"sampler": "nsga-ii", "settings": {"population_size": 1}}, "sampler 'nsgaii': settings (population_size): "),
        ({"sampler": "nsgaii", "settings": {"crossover": "uniform"}}, "sampler 'nsgaii': crossover: 'uniform' is not"),
        ({"sampler": "grid", "settings": {"search_space": {}}}, "sampler 'grid': unknown setting 'search_space'"),
        ({"sampler": "random", "settings": {"n": 1}}, "sampler 'random': unknown setting 'n'"),
    ],
)
def test_refused_options(options: Mapping[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_strategy("optuna", TOY, seed=0, options=options)
    assert str(caught.value).startswith(f"strategy 'optuna': {text}")
    assert "\n" not in str(caught.value)


def test_settings_reach_the_sampler() -> None:
    early, late = strategy_of("tpe", settings={"n_startup_trials": 3, "multivariate": None}), strategy_of("tpe")
    asked = []
    for _ in range(8):
        asked.append([strategy.ask() for strategy in (early, late)])
        for strategy, ask in zip((early, late), asked[-1], strict=True):
            strategy.tell(ask.number, Outcome((hits(ask.choices),)))
    assert all(a == b for a, b in asked[:3]) and any(a != b for a, b in asked[3:])
    assert strategy_of("nsgaii", settings={"population_size": 7})._study.sampler.population_size == 7  # type: ignore[attr-defined]


def test_settings_that_are_objects_or_on_their_way_out() -> None:
    assert strategy_of("nsgaii", settings={"crossover": optuna.samplers.nsgaii.UniformCrossover()}).ask()
    with pytest.warns(FutureWarning, match="`gamma` has been deprecated"):  # for the user to know
        strategy_of("tpe", settings={"gamma": lambda n: 1})


def test_samplers_and_studies_are_not_shared() -> None:
    first, second = strategy_of("tpe"), strategy_of("tpe")
    assert first._study.sampler is not second._study.sampler
    first.ask()
    assert len(first._study.trials) == 1 and second._study.trials == []


@pytest.mark.parametrize("seed", [-1, 2**32, 2**70 + 3])
@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_any_seed(sampler: str, seed: int) -> None:
    asks = [strategy_of(sampler, SMALL, seed=seed).ask().choices for _ in range(2)]
    assert asks[0] == asks[1]


# --- what is missing -------------------------------------------------------------------------------------


def test_optuna_is_imported_late() -> None:
    code = "import sys, nasneck.strategy\nassert not {'optuna', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("package", "sampler"), [("optuna", "random"), ("scipy", "gp")])
def test_missing_packages(monkeypatch: pytest.MonkeyPatch, package: str, sampler: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"^strategy 'optuna': .*pip install {package}$"):
        strategy_of(sampler)


# --- what Optuna is told ---------------------------------------------------------------------------------


@pytest.mark.parametrize("injected", [False, True])
@pytest.mark.parametrize(
    ("outcome", "state", "values", "reported"),
    [
        (Outcome((0.25,)), TrialState.COMPLETE, [0.25], {}),
        (Outcome((-3.0,), rung=2), TrialState.COMPLETE, [-3.0], {}),
        (Outcome((0.25,), State.CACHED), TrialState.COMPLETE, [0.25], {}),
        (Outcome((0.125,), State.PRUNED, rung=2), TrialState.PRUNED, [0.125], {2: 0.125}),
        (Outcome((), State.PRUNED), TrialState.FAIL, None, {}),
        (Outcome((), State.CACHED), TrialState.FAIL, None, {}),
        (Outcome((math.nan,)), TrialState.FAIL, None, {}),
        (Outcome((math.inf,)), TrialState.FAIL, None, {}),
        (Outcome((0.5, 0.5)), TrialState.FAIL, None, {}),
        (Outcome((0.5,), State.OOM), TrialState.FAIL, None, {}),
        *((Outcome((), state), TrialState.FAIL, None, {}) for state in State if not state.has_values),
    ],
)
def test_outcomes(
    outcome: Outcome, state: TrialState, values: list[float] | None, reported: dict[int, float], injected: bool
) -> None:
    strategy = strategy_of("tpe", SMALL)
    strategy.ask()
    ask = strategy.inject((2, 0, 1, 3)) if injected else strategy.ask()
    assert [trial.state for trial in strategy._study.trials] == [TrialState.RUNNING] * 2
    strategy.tell(ask.number, outcome)
    trial = strategy._study.trials[1]
    assert trial.params == dict(zip([decision.name for decision in SMALL], ask.choices, strict=True))
    assert (trial.state, trial.values, trial.intermediate_values) == (state, values, reported)
    assert strategy._study.trials[0].state is TrialState.RUNNING


def test_several_objectives() -> None:
    strategy = strategy_of("nsgaii", SMALL, objectives=2)
    for outcome in (
        Outcome((0.5, -7.0)),
        Outcome((0.5,)),
        Outcome((0.5, math.nan)),
        Outcome((0.25, 1.0), State.PRUNED),
    ):
        strategy.tell(strategy.ask().number, outcome)
    told = [(trial.state, trial.values) for trial in strategy._study.trials]
    assert told == [
        (TrialState.COMPLETE, [0.5, -7.0]),
        (TrialState.FAIL, None),
        (TrialState.FAIL, None),
        (TrialState.PRUNED, None),
    ]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsgaiii"])
def test_several_objectives_with_everything_in_flight(sampler: str) -> None:
    size = {"population_size": 4} if sampler == "nsgaiii" else {"n_startup_trials": 4}
    strategy = strategy_of(sampler, SMALL, objectives=2, settings=size)
    for i in range(12):
        ask = strategy.inject((i % 3, 0, 1, 2)) if i % 5 == 4 else strategy.ask()
        strategy.ask()  # stays open
        state = (State.OK, State.OK, State.PRUNED, State.OOM)[i % 4]
        strategy.tell(ask.number, Outcome((0.1 * i, -float(i)), state))
    assert len(strategy.open_asks) == 12


def test_injected_trials_become_parents() -> None:
    strategy = strategy_of("nsgaii", settings={"population_size": 4, "crossover_prob": 0.0, "mutation_prob": 0.0})
    best = (3, 1, 2, 0, 3, 1, 2, 0)
    strategy.tell(strategy.inject(best).number, Outcome((1.0,)))
    for _ in range(3):
        strategy.tell(strategy.ask().number, Outcome((0.0,)))
    # Without crossing and mutation, children are copies of their parents.
    children = []
    for _ in range(20):
        ask = strategy.ask()
        children.append(ask.choices)
        strategy.tell(ask.number, Outcome((float(ask.choices == best),)))
    assert best in children


@pytest.mark.parametrize("objectives", [1, 2])
def test_same_asks_as_a_plain_study(objectives: int) -> None:
    """Nothing is lost on the way, running, pruned and failed trials included."""

    def value(choices: Choices) -> float:
        return sum((i + 1) * choice for i, choice in enumerate(choices)) % 13 / 13

    strategy = strategy_of("tpe", seed=5, objectives=objectives)
    sampler = optuna.samplers.TPESampler(seed=5)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plain = optuna.create_study(sampler=sampler, directions=["maximize"] * objectives)
    space = {decision.name: CategoricalDistribution(list(range(decision.choices))) for decision in TOY}
    trials, rng = {}, random.Random(0)
    for _ in range(60):
        ask, trial = strategy.ask(), plain.ask(dict(space))
        assert tuple(trial.params.values()) == ask.choices
        trials[ask.number] = trial
        while len(trials) > 3:
            number = rng.choice(sorted(trials))
            trial = trials.pop(number)
            values = [value(tuple(trial.params.values())) / (k + 1) for k in range(objectives)]
            if number % 7 == 3:
                strategy.tell(number, Outcome((), State.OOM))
                plain.tell(trial, state=TrialState.FAIL)
            elif number % 7 == 5 and objectives == 1:
                strategy.tell(number, Outcome(tuple(values), State.PRUNED, rung=1))
                trial.report(values[0], step=1)
                plain.tell(trial, state=TrialState.PRUNED)
            else:
                strategy.tell(number, Outcome(tuple(values)))
                plain.tell(trial, values)


@pytest.mark.parametrize("sampler", sorted(CLASSES))
def test_silent_and_leaves_the_log_as_it_was(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logger, records = logging.getLogger("optuna"), []
    before, handler = logger.level, logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        logger.setLevel(logging.DEBUG)
        optuna.create_study()  # of a user, who wants to see it
        assert len(records) == 1
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            strategy = strategy_of(sampler, SMALL, settings={} if sampler != "tpe" else {"group": True})
            ask = strategy._study.ask

            def talkative(*args: Any) -> optuna.Trial:  # as GP is where it converges
                logging.getLogger("optuna.samplers").warning("I have something to say")
                warnings.warn("I am new", optuna.exceptions.ExperimentalWarning, stacklevel=2)
                return ask(*args)

            monkeypatch.setattr(strategy._study, "ask", talkative)
            strategy.inject((0, 0, 0, 0))
            for _ in range(13):
                strategy.tell(strategy.ask().number, Outcome((0.5,)))
            strategy.tell(strategy.ask().number, Outcome((), State.ERROR))
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
    assert len(records) == 1 and not caught


def test_inside_inference_mode() -> None:
    """The sampler's own model is fitted by gradients."""
    asked = []
    for mode in (contextlib.nullcontext(), torch.inference_mode(), torch.no_grad()):
        with mode:
            strategy = strategy_of("gp", SMALL, settings={"n_startup_trials": 3})
            asked.append([])
            for i in range(9):
                choices = strategy.ask().choices
                asked[-1].append(choices)
                strategy.tell(i, Outcome((float(choices[0] + choices[3]),)))
    assert asked[0] == asked[1] == asked[2]


# --- that they search ------------------------------------------------------------------------------------


def hits(choices: Choices) -> float:
    return float(sum(choice == (3 * i + 1) % 4 for i, choice in enumerate(choices)))  # of 8; 2 by chance


@pytest.mark.parametrize(("sampler", "trials"), [("tpe", 60), ("gp", 30)])
@pytest.mark.parametrize("seed", range(2))
def test_better_than_random(sampler: str, trials: int, seed: int) -> None:
    strategy = strategy_of(sampler, seed=seed)
    rewards = []
    for _ in range(trials):
        ask = strategy.ask()
        rewards.append(hits(ask.choices))
        strategy.tell(ask.number, Outcome((rewards[-1],)))
    assert sum(rewards[-10:]) / 10 > 4.5  # the mean of ten random ones has a standard deviation of 0.4


def two_hits(choices: Choices) -> tuple[float, float]:
    return float(choices.count(0)), float(choices.count(1))  # the front: nothing but 0 and 1, summing up to 8


def front_of(sampler: str, seed: int) -> set[tuple[float, float]]:
    settings = {"population_size": 24} if sampler == "nsgaii" else {}
    strategy = strategy_of(sampler, seed=seed, objectives=2, settings=settings)
    told = set()
    for _ in range(480):
        ask = strategy.ask()
        told.add(two_hits(ask.choices))
        strategy.tell(ask.number, Outcome(two_hits(ask.choices)))
    return {a for a in told if not any(b != a and b[0] >= a[0] and b[1] >= a[1] for b in told)}


@pytest.mark.parametrize("seed", range(2))
def test_nsgaii_finds_the_front(seed: int) -> None:
    found = front_of("nsgaii", seed)
    assert len(found & {(float(i), 8.0 - i) for i in range(9)}) >= 5
    assert len(front_of("random", seed) & {(float(i), 8.0 - i) for i in range(9)}) <= 3


def test_a_duplicate_of_one_that_was_stopped_early_is_no_whole_trial() -> None:
    from optuna.trial import TrialState

    strategy = make_strategy("optuna", SMALL, seed=0, options={"sampler": "nsgaii", "objectives": 2})
    told = [Outcome((0.4, -5.0), rung=1), Outcome((-1.3, -1.0), State.PRUNED), Outcome((-1.3, -1.0), State.CACHED)]
    told += [Outcome((0.4, -5.0), State.CACHED, rung=1)]
    for outcome in told:
        strategy.tell(strategy.ask().number, outcome)
    states = [trial.state for trial in strategy._study.trials]  # type: ignore[attr-defined]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.COMPLETE]
