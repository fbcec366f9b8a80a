"""The in-process runner: budget, duplicates, failures, warm start, progress."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from search_fakes import FakeGraph, FakeSpace, Listed, cache_key, reward, run

from nasneck.decision import Choices
from nasneck.errors import ConfigError, SpaceError, StudyError
from nasneck.runner import Progress, Summary, measure, outcome_of
from nasneck.strategy import Strategy, make_strategy
from nasneck.study import Study, resume
from nasneck.trial import Ask, Measurement, Outcome, State

SPACE = FakeSpace(4, 5, 6, 2)


class Evaluator:
    """Counts; fails as ``failures`` says by the first number of the graph."""

    def __init__(self, failures: dict[int, Callable[[], Measurement]] | None = None) -> None:
        self.failures = failures or {}
        self.graphs: list[FakeGraph] = []

    def __call__(self, graph: FakeGraph) -> Measurement:
        self.graphs.append(graph)
        if graph.numbers[0] in self.failures:
            return self.failures[graph.numbers[0]]()
        return Measurement(State.OK, reward=reward(graph), seconds=3.0, parameters=7)


@pytest.fixture
def study(tmp_path: Path):
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        yield study


def states(study: Study) -> list[str]:
    return [str(trial.state) for trial in study.trials()]


def test_budget_counts_measured_trials(study: Study) -> None:
    evaluate = Evaluator()
    strategy = make_strategy("random", SPACE.decisions, seed=0)
    summary = run(study, strategy, SPACE, evaluate, cache_key, trials=60)
    assert len(evaluate.graphs) == len(set(evaluate.graphs)) == 60
    assert summary.reason == "budget" and not summary.interrupted
    assert (summary.measured, summary.failed) == (60, 0)
    assert summary.cached == states(study).count("cached") > 5
    assert summary.best == study.best()
    assert summary.best is not None and summary.best.measurement is not None
    assert summary.best.measurement.reward == max(reward(graph) for graph in evaluate.graphs)
    # Done is done; more budget goes on.
    assert run(study, strategy, SPACE, evaluate, cache_key, trials=60).measured == 60
    assert len(evaluate.graphs) == 60
    assert run(study, strategy, SPACE, evaluate, cache_key, trials=62).measured == 62
    assert len(evaluate.graphs) == 62


def test_duplicate_takes_over_the_values(study: Study) -> None:
    strategy = Listed(SPACE, [(1, 2, 3, 0), (1, 2, 3, 1), (1, 2, 4, 0)])
    evaluate = Evaluator()
    run(study, strategy, SPACE, evaluate, cache_key, trials=2)
    first, twin, other = study.trials()
    assert states(study) == ["ok", "cached", "ok"]
    assert len(evaluate.graphs) == 2
    assert first.graph_key == twin.graph_key != other.graph_key
    assert first.measurement is not None and twin.measurement is not None
    assert twin.measurement.reward == first.measurement.reward == 20 / 23
    assert twin.measurement.parameters == 7
    assert twin.measurement.seconds == 0.0
    assert twin.measurement.text == "equal to trial 0"
    assert strategy.told[:2] == [
        (0, Outcome((20 / 23,))),
        (1, Outcome((20 / 23,), State.CACHED, text="equal to trial 0")),
    ]


def test_many_duplicates_in_a_row_end_the_search(study: Study) -> None:
    strategy = Listed(SPACE, [(1, 2, 3, 0), (1, 2, 4, 0)])
    summary = run(study, strategy, SPACE, Evaluator(), cache_key, trials=5, max_duplicates=20)
    assert summary.reason == "duplicates"
    assert summary.text.startswith("20 duplicates in a row: the strategy 'listed' finds nothing")
    assert (summary.measured, summary.cached) == (2, 20)
    # It stays so, until more are allowed.
    assert run(study, strategy, SPACE, Evaluator(), cache_key, trials=5, max_duplicates=20).cached == 20
    assert run(study, strategy, SPACE, Evaluator(), cache_key, trials=5, max_duplicates=25).cached == 25


def test_duplicates_between_new_candidates_do_not_add_up(study: Study) -> None:
    new = [(i, j, 0, 0) for i in range(4) for j in range(2)]
    strategy = Listed(SPACE, [choices for pair in new for choices in (pair, pair)])
    summary = run(study, strategy, SPACE, Evaluator(), cache_key, trials=8, max_duplicates=2)
    assert (summary.reason, summary.measured, summary.cached) == ("budget", 8, 7)


def test_failures_are_rows_and_never_the_end(study: Study) -> None:
    def raise_(error: BaseException) -> Measurement:
        raise error

    failures: dict[int, Callable[[], Measurement]] = {
        0: lambda: raise_(ValueError("bad\n  shape")),
        1: lambda: Measurement(State.OOM, text="out of memory"),
        2: lambda: raise_(MemoryError()),
        3: lambda: Measurement(State.NAN, text="loss is nan at step 3"),
        4: lambda: "nonsense",  # type: ignore[return-value,dict-item]  (what must not happen)
        5: lambda: Measurement(State.OK),
        6: lambda: Measurement(State.OK, reward=float("nan"), ap=0.1),
        7: lambda: raise_(SystemError()),
        8: lambda: Measurement(State.REJECTED, reward=0.9, text="too slow"),
    }
    space = FakeSpace(10, 1, 1)
    strategy = Listed(space, [(i, 0, 0) for i in range(10)])
    summary = run(study, strategy, space, Evaluator(failures), cache_key, trials=9)
    rows = [(str(t.state), t.measurement.text if t.measurement else None) for t in study.trials()]
    assert rows == [
        ("error", "ValueError: bad shape"),
        ("oom", "out of memory"),
        ("oom", "MemoryError"),
        ("nan", "loss is nan at step 3"),
        ("error", "the evaluator returned 'nonsense', no Measurement"),
        ("error", "the evaluator gave no reward"),
        ("nan", "the reward is nan"),
        ("error", "SystemError"),
        ("rejected", "too slow"),
        ("ok", ""),
    ]
    assert [outcome.values for _, outcome in strategy.told] == [()] * 9 + [(18 / 23,)]
    assert [outcome.state for _, outcome in strategy.told][:3] == [State.ERROR, State.OOM, State.OOM]
    assert strategy.told[0][1].text == "ValueError: bad shape"
    assert (summary.measured, summary.failed) == (9, 8), "one was refused, which costs nothing and is no failure"


def test_what_is_measured_again_and_what_is_not(study: Study) -> None:
    failures = {
        0: lambda: Measurement(State.OOM, text="full"),
        1: lambda: Measurement(State.NAN, text="nan at step 3"),
        2: lambda: Measurement(State.TIMEOUT, text="slow"),
    }
    space = FakeSpace(4, 1, 1)
    evaluate = Evaluator(failures)
    strategy = Listed(space, [(i, 0, 0) for i in range(3)])
    run(study, strategy, space, evaluate, cache_key, trials=7)
    # Out of memory and timeouts again, each counted; not finite would be so again.
    assert states(study) == ["oom", "nan", "timeout", "oom", "cached", "timeout", "oom", "cached", "timeout"]
    assert len(evaluate.graphs) == 7
    assert strategy.told[4] == (
        4,
        Outcome((), State.CACHED, text="equal to trial 1 (nan: nan at step 3)"),
    )


def test_space_or_key_that_raises_is_a_failed_trial(study: Study) -> None:
    class Torn(FakeSpace):
        def decode(self, choices: Choices) -> FakeGraph:
            if choices[0] == 0:
                raise SpaceError("no such graph")
            return super().decode(choices)

    def key(graph: FakeGraph) -> str:
        if graph.numbers[0] == 1:
            raise RuntimeError("no key")
        return cache_key(graph)

    space = Torn(3, 1)
    run(study, Listed(space, [(0, 0), (1, 0), (2, 0)]), space, Evaluator(), key, trials=3)
    rows = [(t.graph_key, str(t.state), t.measurement.text if t.measurement else "") for t in study.trials()]
    assert rows == [
        ("", "error", "cannot be decoded: SpaceError: no such graph"),
        ("1", "error", "has no cache key: RuntimeError: no key"),
        ("2", "ok", ""),
    ]


def test_warm_candidates_come_first_and_once(study: Study, tmp_path: Path) -> None:
    warm = [(3, 4, 5, 0), (0, 0, 1, 1), [3, 4, 5, 0]]
    strategy = make_strategy("random", SPACE.decisions, seed=0)
    run(study, strategy, SPACE, Evaluator(), cache_key, trials=1, warm=warm)
    assert [(t.choices, t.source) for t in study.trials()] == [((3, 4, 5, 0), "warm")]
    more = [*warm, (2, 2, 2, 0)]
    run(study, strategy, SPACE, Evaluator(), cache_key, trials=6, warm=more)
    trials = study.trials()
    assert [t.source for t in trials[:4]] == ["warm", "warm", "warm", "strategy"]
    assert [t.choices for t in trials[:3]] == [(3, 4, 5, 0), (0, 0, 1, 1), (2, 2, 2, 0)]
    # The strategy's own are those of an unwarmed search.
    reference = make_strategy("random", SPACE.decisions, seed=0)
    assert [t.choices for t in trials[3:]] == [reference.ask().choices for _ in trials[3:]]


def test_warm_candidate_given_twice_is_asked_once(study: Study) -> None:
    warm = [(3, 4, 5, 0), [3, 4, 5, 0], (0, 0, 1, 1)]
    strategy = make_strategy("random", SPACE.decisions, seed=0)
    run(study, strategy, SPACE, Evaluator(), cache_key, trials=2, warm=warm)
    assert [t.choices for t in study.trials()] == [(3, 4, 5, 0), (0, 0, 1, 1)]


def test_warm_candidates_outside_the_space(study: Study) -> None:
    strategy = make_strategy("random", SPACE.decisions, seed=0)
    with pytest.raises(SpaceError, match="choice 9 for decision 'd0'"):
        run(study, strategy, SPACE, Evaluator(), cache_key, trials=1, warm=[(9, 0, 0, 0)])


def test_progress(study: Study) -> None:
    seen: list[Progress] = []
    failures = {1: lambda: Measurement(State.OOM, text="full")}
    strategy = Listed(SPACE, [(0, 1, 1, 0), (0, 1, 1, 1), (1, 0, 0, 0), (0, 0, 1, 0), (0, 4, 3, 0)])
    run(study, strategy, SPACE, Evaluator(failures), cache_key, trials=4, on_event=seen.append)
    assert [p.trial.number for p in seen] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [p.trial.state for p in seen[::2]] == [None] * 5
    ended = seen[1::2]
    assert [str(p.trial.state) for p in ended] == ["ok", "cached", "oom", "ok", "ok"]
    assert [p.reward for p in ended] == [7 / 23, 7 / 23, None, 4 / 23, 1 / 23]
    assert [p.best.number if p.best else None for p in ended] == [0, 0, 0, 0, 0]
    assert [p.measured for p in ended] == [1, 1, 2, 3, 4]
    assert [p.cached for p in ended] == [0, 1, 1, 1, 1]
    assert {p.budget for p in seen} == {4}
    assert seen[0].seconds_per_trial is None and seen[0].seconds_left is None and seen[0].best is None
    assert [p.running for p in seen] == [1, 0] * 5
    assert [p.failed for p in ended] == [0, 0, 1, 1, 1]
    assert seen[0].candidates_per_hour is None and all(p.candidates_per_hour for p in ended)
    for p in ended:
        assert p.seconds_per_trial is not None and 0 < p.seconds_per_trial < 2
        assert p.seconds_left == pytest.approx(p.seconds_per_trial * (4 - p.measured))


def test_progress_of_a_resumed_study_knows_the_past(study: Study) -> None:
    strategy = make_strategy("random", SPACE.decisions, seed=0)
    run(study, strategy, SPACE, Evaluator(), cache_key, trials=3)
    seen: list[Progress] = []
    run(study, strategy, SPACE, Evaluator(), cache_key, trials=5, on_event=seen.append)
    assert (seen[0].measured, seen[0].seconds_per_trial, seen[0].seconds_left) == (3, 3.0, 6.0)
    assert seen[0].best is not None


def test_interrupt_leaves_the_running_trial_in_flight(study: Study) -> None:
    class Interrupting(Evaluator):
        def __call__(self, graph: FakeGraph) -> Measurement:
            if len(self.graphs) == 3:
                raise KeyboardInterrupt
            return super().__call__(graph)

    def make() -> Strategy:
        return make_strategy("random", SPACE.decisions, seed=0)

    summary = run(study, make(), SPACE, Interrupting(), cache_key, trials=9)
    assert summary.interrupted and summary.reason == "interrupted"
    assert summary.text == "interrupted after 3 trials"
    running = study.in_flight()
    assert len(running) == 1
    evaluate = Evaluator()
    run(study, resume(study, make).strategy, SPACE, evaluate, cache_key, trials=9)
    assert evaluate.graphs[0] == SPACE.decode(running[0].choices)
    assert study.trial(running[0].number).state is State.OK
    assert len(evaluate.graphs) == 6


def test_result_is_in_the_log_before_the_strategy_is_told(study: Study) -> None:
    class Watching(Listed):
        def learn(self, ask: Ask, outcome: Outcome) -> None:
            assert study.trial(ask.number).state is State.OK
            super().learn(ask, outcome)

    class Asking(Evaluator):
        def __call__(self, graph: FakeGraph) -> Measurement:
            assert len(study.in_flight()) == 1
            return super().__call__(graph)

    strategy = Watching(SPACE, [(0, 0, 0, 0), (1, 0, 0, 0)])
    run(study, strategy, SPACE, Asking(), cache_key, trials=2)
    assert len(strategy.told) == 2


def test_long_searches_keep_snapshots(study: Study) -> None:
    space = FakeSpace(10, 10, 10, 1)

    def make() -> Strategy:
        return make_strategy("random", space.decisions, seed=0)

    strategy = make()
    run(study, strategy, space, Evaluator(), cache_key, trials=150)
    stored = study.latest_snapshot()
    assert stored is not None and stored[0] == 200  # after 100 asks and 100 tells
    assert resume(study, make).strategy.ask() == strategy.ask()


def test_strategy_out_of_step_is_refused(study: Study) -> None:
    run(study, make_strategy("random", SPACE.decisions, seed=0), SPACE, Evaluator(), cache_key, trials=3)
    with pytest.raises(StudyError, match=r"the study has 3 asks.*the strategy 0 and 0; bring it in step"):
        run(study, make_strategy("random", SPACE.decisions, seed=0), SPACE, Evaluator(), cache_key, trials=4)


@pytest.mark.parametrize(("name", "value"), [("trials", 0), ("max_duplicates", 0), ("snapshot_every", 0)])
def test_budgets_below_one(study: Study, name: str, value: int) -> None:
    strategy = make_strategy("random", SPACE.decisions, seed=0)
    with pytest.raises(ConfigError, match=f"{name} = 0 is less than 1"):
        run(study, strategy, SPACE, Evaluator(), cache_key, **{"trials": 1, name: value})


@pytest.mark.parametrize("state", list(State))
def test_outcome_of_a_measurement(state: State) -> None:
    outcome = outcome_of(Measurement(state, reward=-0.25, text="why"))
    assert outcome == Outcome((-0.25,) if state.has_values else (), state, 0, "why")
    assert outcome_of(Measurement(state)).values == ()


def test_measure_lets_an_interrupt_pass() -> None:
    def evaluate(graph: FakeGraph) -> Measurement:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(evaluate, FakeGraph((1,)))


def test_error_texts_stay_short(study: Study) -> None:
    def evaluate(graph: FakeGraph) -> Measurement:
        raise RuntimeError("x" * 10_000)

    assert len(measure(evaluate, FakeGraph((1,))).text) == 500


def test_summary_is_a_value() -> None:
    assert Summary("interrupted", "t", 1, 0, 0, None, 1.0).interrupted
    assert not Summary("budget", "t", 1, 0, 0, None, 1.0).interrupted
