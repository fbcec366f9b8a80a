"""Successive halving: the rule, in the process, and what a resume knows of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from search_fakes import FakeGraph, FakeSpace, Listed, cache_key, reward

from nasneck.errors import ConfigError
from nasneck.runner import Desk, Halving, run, scores_of
from nasneck.strategy import Strategy, make_strategy
from nasneck.study import Study, resume
from nasneck.trial import Measurement, Outcome, State, Trial

SPACE = FakeSpace(6, 5, 7, 2)


def test_the_rule() -> None:
    halving = Halving(2, 3.0)
    seen: list[float] = []
    rng = random.Random(0)
    for _ in range(40):
        score = rng.gauss(0, 1)
        assert halving.keeps(0, score) == (not seen or score >= np.percentile(seen, 200 / 3))
        seen.append(score)
    assert halving.keeps(1, -100.0), "the first one to come to a rung"
    assert halving.scores == [seen, [-100.0]]


@pytest.mark.parametrize(("rungs", "reduction"), [(0, 3.0), (1, 1.0), (1, 0.5)])
def test_numbers_that_make_no_halving(rungs: int, reduction: float) -> None:
    with pytest.raises(ConfigError):
        Halving(rungs, reduction)


def test_scores_of_trials() -> None:
    def trial(measurement: Measurement) -> Trial:
        return Trial(0, (), "g", measurement.state, measurement)

    assert scores_of(Trial(0, (), "g")) == ()
    assert scores_of(trial(Measurement(State.OK, reward=0.5, scores=(-3.0, -2.0)))) == (-3.0, -2.0)
    assert scores_of(trial(Measurement(State.PRUNED, reward=-2.0, rung=1, scores=(-3.0,)))) == (-3.0, -2.0)
    assert scores_of(trial(Measurement(State.NAN, scores=(-3.0,)))) == (-3.0,)
    assert scores_of(trial(Measurement(State.CACHED, reward=-2.0, scores=(-3.0,)))) == ()


class InRungs:
    """Two rungs whose scores grow with the reward, then the reward; notes how far each graph came."""

    def __init__(self) -> None:
        self.came: dict[str, int] = {}
        self.closed = 0

    def __call__(self, graph: FakeGraph) -> Iterator[Measurement]:
        try:
            scores: tuple[float, ...] = ()
            for rung in (0, 1):
                self.came[graph.key()] = rung
                score = reward(graph) - 2 + rung
                yield Measurement(State.PRUNED, reward=score, reward_kind="loss", rung=rung, scores=scores)
                scores = (*scores, score)
            self.came[graph.key()] = 2
            yield Measurement(State.OK, reward=reward(graph), rung=2, scores=scores)
        finally:
            self.closed += 1


def search(study: Study, strategy: Strategy, evaluate: InRungs, trials: int) -> None:
    halving = Halving(2, 3.0, study.trials())
    run(Desk(study, strategy, SPACE, cache_key, trials=trials), evaluate, halving=halving)


def test_hopeless_candidates_are_stopped(tmp_path: Path) -> None:
    evaluate = InRungs()
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        search(study, make_strategy("random", SPACE.decisions, seed=0), evaluate, 60)
        trials = [trial for trial in study.trials() if trial.state is not State.CACHED]
    came = [sum(last >= rung for last in evaluate.came.values()) for rung in (0, 1, 2)]
    assert came[0] == 60 == evaluate.closed
    assert 15 <= came[1] <= 30 and 4 <= came[2] <= 15, came
    # By the rule, told anew.
    rule = Halving(2, 3.0)
    for trial in trials:
        assert trial.measurement is not None
        scores = scores_of(trial)
        kept = [rule.keeps(rung, score) for rung, score in enumerate(scores)]
        assert kept == [True] * len(scores) if trial.state is State.OK else kept == [*[True] * (len(scores) - 1), False]
        assert trial.measurement.rung == (2 if trial.state is State.OK else len(scores) - 1)


def test_learners_see_the_rung(tmp_path: Path) -> None:
    order = [(5, 4, 5, 0), (0, 1, 0, 0), (0, 1, 0, 1), (5, 4, 6, 0)]
    strategy = Listed(SPACE, order)
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        search(study, strategy, InRungs(), 3)
        best = study.best()
    outcomes = [outcome for _, outcome in strategy.told]
    first = reward(SPACE.decode(order[0]))
    assert outcomes[0] == Outcome((first,), rung=2)
    low = reward(SPACE.decode(order[1]))
    assert low < first
    assert outcomes[1] == Outcome((low - 2,), State.PRUNED, rung=0)
    # A duplicate of it is not trained again, and is as bad.
    assert outcomes[2] == Outcome((low - 2,), State.CACHED, rung=0, text="equal to trial 1 (pruned: )")
    assert best is not None and best.number == 0


@pytest.mark.parametrize("name", ["random", "controller", "evolution"])
def test_a_resumed_search_decides_as_an_unbroken_one(tmp_path: Path, name: str) -> None:
    def make() -> Strategy:
        options = {"hidden": 8, "batch": 4, "epochs": 2} if name == "controller" else None
        return make_strategy(name, SPACE.decisions, seed=1, options=options)

    def story(study: Study) -> list[object]:
        return [(trial.choices, trial.state, trial.measurement) for trial in study.trials()]

    with Study.create(tmp_path / "whole", experiment={}, seed=0) as study:
        search(study, make(), InRungs(), 40)
        whole = story(study)
    with Study.create(tmp_path / "parts", experiment={}, seed=0) as study:
        for trials in (1, 2, 13, 14, 40):
            search(study, resume(study, make).strategy, InRungs(), trials)
        assert story(study) == whole
