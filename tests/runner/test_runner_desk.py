"""The desk with several jobs out at once: order, budget, duplicates of what is running, the end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_fakes import FakeGraph, FakeSpace, Listed, cache_key, reward

from nasneck.decision import Choices
from nasneck.errors import StudyError
from nasneck.runner import Desk, Job
from nasneck.runner.progress import Progress
from nasneck.strategy import Exhausted, Strategy, make_strategy
from nasneck.study import Study, resume
from nasneck.trial import Measurement, State

SPACE = FakeSpace(4, 5, 6, 2)
A, B, C, D = (0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0), (3, 0, 0, 0)
TWIN = (0, 0, 0, 1)  # the same graph as A


@pytest.fixture
def study(tmp_path: Path):
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        yield study


def measured(graph: FakeGraph) -> Measurement:
    return Measurement(State.OK, reward=reward(graph))


def take(desk: Desk[FakeGraph]) -> Job[FakeGraph]:
    job = desk.next()
    assert job is not None
    return job


def states(study: Study) -> list[str]:
    return [str(trial.state) for trial in study.trials()]


def test_jobs_are_in_the_log_before_they_are_handed_out(study: Study) -> None:
    desk = Desk(study, Listed(SPACE, [A, B]), SPACE, cache_key, trials=2)
    job = take(desk)
    assert study.in_flight()[0].choices == A == job.trial.choices
    assert job.graph == FakeGraph(A[:-1]) and job.cache_key == cache_key(job.graph)
    assert desk.running == (job,)


def test_results_in_any_order(study: Study) -> None:
    strategy = Listed(SPACE, [A, B, C])
    desk = Desk(study, strategy, SPACE, cache_key, trials=3)
    jobs = [take(desk) for _ in range(3)]
    for job in (jobs[2], jobs[0], jobs[1]):
        desk.finish(job.number, measured(job.graph))
    assert [number for number, _ in strategy.told] == [2, 0, 1]
    assert [trial.measurement.reward for trial in study.trials() if trial.measurement] == [
        reward(job.graph) for job in jobs
    ]


def test_running_jobs_count_for_the_budget(study: Study) -> None:
    desk = Desk(study, Listed(SPACE, [A, B, C]), SPACE, cache_key, trials=2)
    first, second = take(desk), take(desk)
    assert desk.next() is None and not desk.closed, "one of them may turn out to be over a limit"
    assert study.next_number == 2, "nothing is asked that will not be measured"
    desk.finish(first.number, Measurement(State.OOM, text="full"))
    assert desk.next() is None
    desk.finish(second.number, measured(second.graph))
    assert desk.next() is None and desk.closed
    assert desk.summary().reason == "budget" and desk.summary().failed == 1


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (Measurement(State.OK, reward=0.5), (0.5,)),
        (Measurement(State.OOM, text="full"), ()),
    ],
)
def test_a_duplicate_of_a_running_job_shares_its_end(study: Study, ended: Measurement, told: tuple[float, ...]) -> None:
    strategy = Listed(SPACE, [A, TWIN, B])
    desk = Desk(study, strategy, SPACE, cache_key, trials=9)
    first = take(desk)
    second = take(desk)
    assert second.trial.choices == B, "the twin is not measured a second time"
    assert states(study) == ["None", "None", "None"]
    desk.finish(first.number, ended)
    assert states(study) == [str(ended.state), "cached", "None"]
    assert [(number, outcome.values) for number, outcome in strategy.told] == [(0, told), (1, told)]
    twin = study.trial(1).measurement
    assert twin is not None and twin.text.startswith("equal to trial 0")
    assert desk.summary().measured == 1 and desk.summary().cached == 1


def test_duplicates_of_what_is_running_do_not_grow_without_end(study: Study) -> None:
    desk = Desk(study, Listed(SPACE, [A, TWIN]), SPACE, cache_key, trials=9, max_duplicates=5)
    job = take(desk)
    assert desk.next() is None and desk.next() is None
    assert study.next_number == 6, "the job and five that wait for it"
    assert not desk.closed, "what is running may teach the strategy something else"
    desk.finish(job.number, measured(job.graph))
    assert desk.next() is None and desk.closed
    assert desk.summary().reason == "duplicates"


def test_a_measurement_lets_a_strategy_go_on(study: Study) -> None:
    desk = Desk(study, Listed(SPACE, [A, TWIN, TWIN, B]), SPACE, cache_key, trials=9, max_duplicates=3)
    first, second = take(desk), take(desk)
    desk.finish(first.number, measured(first.graph))
    desk.finish(second.number, measured(second.graph))
    assert desk.next() is None  # A, TWIN, TWIN: three in a row
    assert desk.summary().cached == 5


class TwoThenNothing(Listed):
    def propose(self, number: int) -> Choices:
        if number == 2:
            raise Exhausted
        return super().propose(number)


def test_the_end_of_the_space(study: Study) -> None:
    desk = Desk(study, TwoThenNothing(SPACE, [A, B]), SPACE, cache_key, trials=9)
    jobs = [take(desk), take(desk)]
    assert desk.next() is None and not desk.closed
    for job in jobs:
        desk.finish(job.number, measured(job.graph))
    assert desk.next() is None and desk.closed
    summary = desk.summary()
    assert (summary.reason, summary.measured) == ("exhausted", 2)
    assert summary.text == "2 trials measured: the strategy 'listed' has asked the whole space"


def test_results_that_nobody_waits_for(study: Study) -> None:
    desk = Desk(study, Listed(SPACE, [A]), SPACE, cache_key, trials=2)
    with pytest.raises(StudyError, match="trial 0 is not being measured"):
        desk.finish(0, Measurement(State.OK, reward=0.5))
    job = take(desk)
    desk.finish(job.number, measured(job.graph))
    with pytest.raises(StudyError, match="trial 0 is not being measured"):
        desk.finish(0, Measurement(State.OK, reward=0.5))


def test_a_result_that_cannot_be_written_is_still_awaited(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(study, Listed(SPACE, [A]), SPACE, cache_key, trials=2)
    job = take(desk)

    def full(*args: object, **kwargs: object) -> None:
        raise StudyError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(study, "told", full)
        with pytest.raises(StudyError, match="disk is full"):
            desk.finish(job.number, measured(job.graph))
    desk.finish(job.number, measured(job.graph))
    assert states(study) == ["ok"]


def test_time_left_is_shared_by_the_workers(study: Study) -> None:
    seen: list[Progress] = []
    desk = Desk(study, Listed(SPACE, [A, B, C]), SPACE, cache_key, trials=3, workers=2, on_event=seen.append)
    job = take(desk)
    desk.finish(job.number, measured(job.graph))
    ended = seen[-1]
    assert ended.seconds_per_trial is not None and ended.seconds_left == pytest.approx(ended.seconds_per_trial)


def test_a_duplicate_of_what_ran_as_the_search_was_killed(tmp_path: Path) -> None:
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        desk = Desk(study, Listed(SPACE, [A, TWIN, B]), SPACE, cache_key, trials=2)
        take(desk), take(desk)
    with Study.open(tmp_path) as study:
        resumed = resume(study, lambda: Listed(SPACE, [A, TWIN, B]))
        desk = Desk(study, resumed.strategy, SPACE, cache_key, trials=2)
        assert not desk.closed
        for job in (take(desk), take(desk)):
            desk.finish(job.number, measured(job.graph))
        assert desk.next() is None and desk.closed
        assert states(study) == ["ok", "cached", "ok"] and not study.in_flight()


def test_what_a_smaller_budget_has_no_room_for_stays_in_flight(tmp_path: Path) -> None:
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        desk = Desk(study, Listed(SPACE, [A, B, TWIN]), SPACE, cache_key, trials=3)
        first = take(desk)
        take(desk)
        desk.finish(first.number, measured(first.graph))
    with Study.open(tmp_path) as study:
        resumed = resume(study, lambda: Listed(SPACE, [A, B, TWIN]))
        desk = Desk(study, resumed.strategy, SPACE, cache_key, trials=1)
        assert desk.next() is None and desk.closed
        assert [trial.number for trial in study.in_flight()] == [1]


def test_what_there_was_no_room_for_is_measured_once_there_is(tmp_path: Path) -> None:
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        desk = Desk(study, Listed(SPACE, [A, B, C, D]), SPACE, cache_key, trials=4)
        for _ in range(4):
            take(desk)
    with Study.open(tmp_path) as study:
        resumed = resume(study, lambda: Listed(SPACE, [A, B, C, D]))
        desk = Desk(study, resumed.strategy, SPACE, cache_key, trials=2, workers=2)
        first, second = take(desk), take(desk)
        assert desk.next() is None and desk.next() is None and not desk.closed
        # Over a limit, so it does not count.
        desk.finish(first.number, Measurement(State.REJECTED, latency_ms=9.0, text="too slow"))
        third = take(desk)
        assert [job.number for job in (first, second, third)] == [0, 1, 2], "in the order they were asked"
        desk.finish(second.number, measured(second.graph))
        assert desk.next() is None and not desk.closed
        desk.finish(third.number, measured(third.graph))
        assert desk.next() is None and desk.closed
        assert [trial.number for trial in study.in_flight()] == [3]
        assert study.next_number == 4, "nothing new was asked before"


# Workers take and bring back in any order; the search dies somewhere and is resumed from its log.
@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["random", "controller", "evolution"]),
    workers=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    dies_after=st.integers(0, 60),
)
def test_resume_after_any_interleaving(
    tmp_path_factory: pytest.TempPathFactory, name: str, workers: int, seed: int, dies_after: int
) -> None:
    options = {"controller": {"hidden": 8, "batch": 4, "epochs": 2}}.get(name)

    def make() -> Strategy:
        return make_strategy(name, SPACE.decisions, seed=1, options=options)

    rng = random.Random(seed)
    folder = tmp_path_factory.mktemp("study")
    with Study.create(folder, experiment={}, seed=1) as study:
        desk = Desk(study, make(), SPACE, cache_key, trials=30, max_duplicates=10, snapshot_every=7)
        for _ in range(dies_after):
            if len(desk.running) < workers and rng.random() < 0.7:
                desk.next()
            elif desk.running:
                job = rng.choice(desk.running)
                failed = Measurement(State.ERROR, text="died")
                desk.finish(job.number, failed if rng.random() < 0.2 else measured(job.graph))
        asked = study.next_number
    with Study.open(folder) as study:
        resumed = resume(study, make)
        assert not resumed.warning
        desk = Desk(study, resumed.strategy, SPACE, cache_key, trials=30, max_duplicates=10)
        while (job := desk.next()) is not None:
            desk.finish(job.number, measured(job.graph))
        assert not study.in_flight() and desk.closed
        trials = study.trials()
        assert len(trials) >= asked and [trial.number for trial in trials] == list(range(len(trials)))
        counted = [trial.graph_key for trial in trials if trial.state is State.OK]
        assert len(counted) == len(set(counted)), "no graph is measured twice"
