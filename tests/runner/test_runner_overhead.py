"""What a trial costs beside its evaluation, counted: statements of SQL, calls of a resume, bytes of a snapshot."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from search_fakes import FakeGraph, FakeSpace, Listed, cache_key, reward, run

from nasneck.runner import Desk
from nasneck.strategy import Strategy, make_strategy
from nasneck.study import Study, codec, resume
from nasneck.trial import Ask, Measurement, Outcome, State

SPACE = FakeSpace(4, 5, 6, 3, 4, 5, 6, 2)
EVERY = 100
OPTIONS: dict[str, dict[str, Any]] = {"controller": {"hidden": 4, "embedding": 2, "epochs": 1, "batch": 10}}


@pytest.fixture
def study(tmp_path: Path):
    with Study.create(tmp_path, experiment={}, seed=0, decisions=SPACE.decisions) as study:
        yield study


def evaluate(graph: FakeGraph) -> Measurement:
    return Measurement(State.OK, reward=reward(graph))


def fresh(name: str) -> Strategy:
    return make_strategy(name, SPACE.decisions, seed=0, options=OPTIONS.get(name))


def no_waiting(study: Study) -> None:
    """For tests that make thousands of trials and pull no plug."""
    study._light = study._full = "OFF"
    study._db.execute("PRAGMA synchronous = OFF")


def desk_of(study: Study, strategy: Strategy, trials: int) -> Desk[FakeGraph]:
    """A desk that has measured so many candidates, duplicates too."""
    no_waiting(study)
    numbers = itertools.count()
    desk = Desk(study, strategy, SPACE, lambda graph: str(next(numbers)), trials=10**6, snapshot_every=EVERY)
    for _ in range(trials):
        job = desk.next()
        assert job is not None
        desk.finish(job.number, evaluate(job.graph))
    return desk


def counted(function: Callable[..., Any], calls: Counter[str]) -> Callable[..., Any]:
    """The function, with its calls counted under its name."""

    def call(*given: Any) -> Any:
        calls[function.__name__] += 1
        return function(*given)

    return call


def test_a_trial_takes_two_commits_and_few_statements(study: Study) -> None:
    """An ask before its evaluation, a result before the strategy hears of it; and no more as the log gets longer."""
    notes: list[str] = []

    class Noting(Listed):
        def learn(self, ask: Ask, outcome: Outcome) -> None:
            notes.append("TELL")

    def noted(graph: FakeGraph) -> Measurement:
        notes.append("EVALUATE")
        return evaluate(graph)

    no_waiting(study)
    study._db.set_trace_callback(lambda statement: notes.append(statement.split()[0]))
    choices = [(i % 4, i // 4 % 5, i // 20 % 6, i // 120, 0, 0, 0, 0) for i in range(300)]
    run(study, Noting(SPACE, choices), SPACE, noted, cache_key, trials=300)
    study._db.set_trace_callback(None)
    trials = " ".join(notes).split("EVALUATE")[1:-1]
    assert len(set(trials)) == 1, "every trial costs what the others do"
    after, before = trials[0].split("TELL")
    assert [word for word in after.split() if word != "SELECT"] == ["INSERT"], "each is a commit of its own"
    assert [word for word in before.split() if word != "SELECT"] == ["PRAGMA", "INSERT", "PRAGMA"]
    assert Counter(trials[0].split())["SELECT"] <= 3


def test_only_results_wait_for_the_disk(study: Study) -> None:
    """An ask survives the end of the process; with the next result it is on disk, too."""
    levels: list[tuple[str, int]] = []

    def level(statement: str) -> None:
        if statement.startswith("INSERT INTO event"):
            levels.append(("ask" if "'ask'" in statement else "tell", synchronous()))

    def synchronous() -> int:
        return last[-1]

    last = [study._db.execute("PRAGMA synchronous").fetchone()[0]]

    def trace(statement: str) -> None:
        if statement.startswith("PRAGMA synchronous ="):
            last.append({"NORMAL": 1, "FULL": 2}[statement.rpartition(" ")[2]])
        level(statement)

    study._db.set_trace_callback(trace)
    run(study, Listed(SPACE, [(0,) * 8, (1, *(0,) * 7)]), SPACE, evaluate, cache_key, trials=2)
    study._db.set_trace_callback(None)
    assert levels == [("ask", 1), ("tell", 2)] * 2
    assert study._db.execute("PRAGMA synchronous").fetchone()[0] == 2


@pytest.mark.parametrize(("name", "snapshots"), [("random", 15), ("evolution", 15), ("controller", 4)])
def test_a_long_study_is_resumed_from_its_snapshot(
    study: Study, name: str, snapshots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 3,000 events, only those after the last snapshot are repeated."""
    trials = snapshots * EVERY + EVERY - 1  # as far from the last snapshot as can be
    assert desk_of(study, fresh(name), trials).next() is not None, "one more is in flight"
    calls: Counter[str] = Counter()
    kind = type(fresh(name))
    for method in ("propose", "learn"):
        monkeypatch.setattr(kind, method, counted(getattr(kind, method), calls))
    strategy = resume(study, lambda: fresh(name)).strategy
    assert strategy.next_number == trials + 1 and len(strategy.open_asks) == 1
    assert 0 < calls["propose"] <= EVERY and 0 < calls["learn"] < EVERY


@pytest.mark.parametrize("name", ["random", "evolution", "controller"])
def test_a_snapshot_grows_by_no_more_than_a_place_in_the_order(study: Study, name: str) -> None:
    """It is written again and again: what a trial leaves in it has to be far less than what it leaves in the log."""
    written: list[tuple[int, int]] = []
    keep = study.keep_snapshot

    def keep_and_measure(snapshot: Any) -> None:
        text, tensors = codec.snapshot_to_row(snapshot)
        written.append((len(text), len(tensors or b"")))
        keep(snapshot)

    study.keep_snapshot = keep_and_measure  # type: ignore[method-assign]
    desk_of(study, fresh(name), 12 * EVERY)
    assert len(written) == 12, "one for so many results, not more"
    (early, early_tensors), (late, late_tensors) = written[1], written[-1]
    (log,) = study._db.execute(
        "SELECT sum(length(ifnull(choices, '')) + length(ifnull(outcome, '')) + length(ifnull(measurement, '')))"
        f" FROM event WHERE number >= {2 * EVERY}"
    ).fetchone()
    assert late - early < log / 2
    assert abs(late_tensors - early_tensors) < 100
