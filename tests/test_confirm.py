"""The last stage of a search, with a proxy task that trains nothing; a real one runs in the tests of the CLI."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import nasneck.confirm as confirm_module
from nasneck import NeckGraph, load_space, necks
from nasneck.confirm import SEED_OFFSET, Confirmation, confirm
from nasneck.errors import ConfigError, StudyError
from nasneck.experiment import ConfirmConfig, experiment_from_dict
from nasneck.objective import ObjectiveConfig
from nasneck.ranking import kendall_tau
from nasneck.study import Study
from nasneck.targets import resolve
from nasneck.trial import Ask, Measurement, Outcome, State

SPACE = load_space("nas_fpn", repeats=1)
PUBLISHED = SPACE.encode(necks.nas_fpn(repeats=1))


def choices(i: int) -> tuple[int, ...]:
    return tuple((i * (k + 3)) % decision.choices for k, decision in enumerate(SPACE.decisions))


def true(graph: NeckGraph) -> float:
    return sum(graph.key().encode()) % 97 / 97


class FakeTask:
    """AP by the graph's key, plus something by the seed."""

    made: list[dict[str, Any]] = []  # noqa: RUF012  (of one test)
    measures: Callable[[NeckGraph, int], Measurement]

    def __init__(
        self, config: Any, neck: Any, data: Any, *, store: Path, device: Any, objective: Any, **_: Any
    ) -> None:
        FakeTask.made.append({"reward": config.reward, "store": store, "objective": objective, "calls": []})

    def prepare(self, progress: Any = None, *, seed: int, steps: int | None) -> None: ...

    def cache_key(self, graph: NeckGraph, *, seed: int, split: str, steps: int | None) -> str:
        return f"{graph.key()} {seed} {split} {steps}"

    def evaluate(self, graph: NeckGraph, *, seed: int, split: str, steps: int) -> Measurement:
        FakeTask.made[-1]["calls"].append((graph.key(), seed, split, steps))
        return FakeTask.measures(graph, seed)


def measured(graph: NeckGraph, seed: int) -> Measurement:
    ap = true(graph) + 0.01 * (seed % 3)
    cost = {"parameters": 1000, "macs": 10, "latency_ms": 10.0 * (1 - true(graph)) + 1}
    return Measurement(State.OK, reward=ap, ap=ap, seed=seed, steps=240, device="cpu", **cost)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeTask.made, FakeTask.measures = [], staticmethod(measured)
    monkeypatch.setattr(confirm_module, "ProxyTask", FakeTask)
    monkeypatch.setattr(confirm_module, "load_data", lambda config: None)
    monkeypatch.chdir(tmp_path)
    assert torch.device("cpu")


def study(rewards: list[float | None], given: dict[int, tuple[int, ...]] | None = None, **tables: Any) -> Path:
    """A finished search with these rewards; None failed. Trial i has ``choices(i)`` or what is given."""
    table = {
        "schema": "nasneck.experiment/1",
        "seed": 7,
        "data": {"root": "d"},
        "space": {"name": "nas_fpn", "repeats": 1},
        "strategy": {"name": "random"},
        "confirm": {"top": 3, "seeds": 3, "necks": ["fpn", "nas_fpn"]},
    }
    experiment = experiment_from_dict({**table, **tables}, where="here")
    with Study.create("q", experiment=experiment.to_dict(), seed=7, decisions=SPACE.decisions) as made:
        for i, reward in enumerate(rewards):
            vector = (given or {}).get(i, choices(i))
            made.asked(Ask(i, vector), graph_key=SPACE.decode(vector).key())
            state = State.OK if reward is not None else State.OOM
            measurement = Measurement(state, reward=reward, latency_ms=10.0 + i)
            values = experiment.objective.values(measurement)
            made.told(i, Outcome(values, state), measurement, cache_key=str(i))
    return Path("q")


def candidates(found: Confirmation) -> list[str]:
    return [name for name in found.scores if name.startswith("q#")]


def test_the_winner_is_the_best_of_the_longer_trainings() -> None:
    rewards = [0.1, 0.5, 0.3, None, 0.4, 0.2]
    found = confirm(study(rewards))
    assert set(candidates(found)) == {"q#1", "q#2", "q#4"}, "the best three"
    aps = {i: true(SPACE.decode(choices(i))) for i in (1, 2, 4)}
    assert found.winner.number == max(aps, key=lambda i: aps[i]) != 1, "not the one with the best reward"
    assert found.graph.key() == SPACE.decode(choices(found.winner.number)).key()
    seeds = [7 + SEED_OFFSET + i for i in range(3)]
    bonus = statistics.mean(0.01 * (seed % 3) for seed in seeds)
    for i, ap in aps.items():
        assert found.scores[f"q#{i}"] == pytest.approx(ap + bonus, abs=1e-6)
    assert list(found.scores.values()) == sorted(found.scores.values(), reverse=True)
    task = FakeTask.made[0]
    assert len(task["calls"]) == 5 * 3
    assert {(seed, split, steps) for _, seed, split, steps in task["calls"]} == {(s, "reward", 240) for s in seeds}
    assert task["store"] == Path("q/store") and task["reward"] == "ap"
    # Seeds differ by 0, 0.01 and 0.02 for every neck.
    assert found.spread == pytest.approx(0.01, abs=1e-6)
    assert found.tau == pytest.approx(kendall_tau([rewards[i] for i in aps], list(aps.values())))  # type: ignore[misc]
    assert f"Kendall's tau between the rewards of the search and these: {found.tau:.2f} over 3" in found.text
    assert "Standard deviation between seeds: 1.0." in found.text
    assert f"Winner: q#{found.winner.number}, {100 * found.scores[f'q#{found.winner.number}']:.1f} over 3" in found.text
    best_fixed = max(("fpn", "nas_fpn:repeats=1"), key=lambda name: found.scores[name])
    ahead = 100 * (found.scores[f"q#{found.winner.number}"] - found.scores[best_fixed])
    assert f"It is {ahead:+.1f} from the best fixed neck, {best_fixed}, " in found.text


def test_files_and_what_a_run_means_afterwards() -> None:
    run = study([0.1, 0.5, 0.3])
    assert resolve("q").name == "q#1"
    found = confirm(run)
    number = found.winner.number
    assert number != 1 and resolve("q").name == f"q#{number}"
    assert NeckGraph.from_json((run / "winner.json").read_text()).key() == found.graph.key()
    assert f"trial q#{number}, the winner" in (run / "winner.svg").read_text()
    data = json.loads((run / "confirm/confirm.json").read_text())
    assert data["winner"] == number and data["scores"] == found.scores and data["seeds"] == 3
    assert (run / "confirm/confirm.md").read_text().endswith(found.text + "\n")
    assert len((run / "confirm/confirm.csv").read_text().splitlines()) == 1 + 5 * 3
    # The study goes on: what is new was not looked at.
    assert resolve("q").note == ""
    with Study.open("q") as study_:
        vector = choices(3)
        study_.asked(Ask(3, vector), graph_key=SPACE.decode(vector).key())
        assert resolve("q").note == ""
        study_.told(3, Outcome((0.9,), State.OK), Measurement(State.OK, reward=0.9), cache_key="3")
    grown = resolve("q")
    assert grown.name == f"q#{number}"
    assert grown.note == (
        f"q: trial {number} was confirmed as the winner before the last 1 trials were measured; nasneck confirm q "
        "looks at them as well"
    )
    assert resolve("q#3").note == ""
    # Of another study that was in the folder before, it says nothing.
    data["graph_key"] = "0" * 32
    (run / "confirm/confirm.json").write_text(json.dumps(data))
    assert resolve("q").name == "q#3", "the best reward"
    (run / "confirm/confirm.json").write_text("{")
    with pytest.raises(StudyError, match=r"does not name a winner .*; run nasneck confirm q again"):
        resolve("q")


def test_rewards_that_are_losses_are_not_shown_as_ap() -> None:
    found = confirm(study([-1.5, -1.2, -1.4], proxy={"reward": "loss"}))
    place = [1, 2, 0].index(found.winner.number) + 1
    assert f"steps; in the search it was number {place} of the 3. It is " in found.text


def test_it_goes_on_where_it_was() -> None:
    run = study([0.1, 0.5, 0.3])

    def stops(graph: NeckGraph, seed: int) -> Measurement:
        if len(FakeTask.made[-1]["calls"]) == 7:
            raise KeyboardInterrupt
        return measured(graph, seed)

    FakeTask.measures = staticmethod(stops)
    with pytest.raises(KeyboardInterrupt):
        confirm(run)
    assert not (run / "winner.json").exists()
    FakeTask.measures = staticmethod(measured)
    whole = confirm(run)
    assert len(FakeTask.made[-1]["calls"]) == 15 - 6
    assert len(whole.rows) == 15


def test_equal_graphs_are_one_candidate_and_a_fixed_one_that_was_found_too() -> None:
    notes: list[str] = []
    vectors = {0: PUBLISHED, 1: choices(1), 2: choices(1)}
    found = confirm(study([0.4, 0.5, 0.6], vectors), on_warning=notes.append)
    # Equal graphs with two rewards (another seed, another day): the better one stands for both.
    assert set(found.scores) == {"q#2", "q#0", "fpn"}
    assert notes == ["nas_fpn:repeats=1 is q#0: the search has found it, or was given it"]


def test_settings_in_place_of_the_experiments() -> None:
    run = study([0.1, 0.5, 0.3])
    found = confirm(run, settings=ConfirmConfig(top=1, necks=(), seeds=1, steps=9))
    assert list(found.scores) == ["q#1"] and [call[3] for call in FakeTask.made[0]["calls"]] == [9]
    assert math.isnan(found.spread) and math.isnan(found.tau)
    assert "nan" not in found.text and "fixed neck" not in found.text
    assert json.loads((run / "confirm/confirm.json").read_text())["tau"] is None
    with pytest.raises(ConfigError, match=r"'q' is a run; fixed necks and graph files are wanted"):
        confirm(run, settings=ConfirmConfig(necks=("q",)))


def test_several_objectives_confirm_the_front() -> None:
    """Latencies rise with the number: the front are those that are better than all before them."""
    rewards: list[float | None] = [0.1, 0.05, 0.3, 0.2, 0.4, 0.5]
    tables = {
        "strategy": {"name": "optuna", "sampler": "nsgaii"},
        "objective": {"names": ["reward", "latency"], "max_params": 5},
    }
    found = confirm(study(rewards, **tables))
    assert set(candidates(found)) == {"q#5", "q#2", "q#0"}, "both ends of the front of four, and one between"
    assert FakeTask.made[0]["objective"] == ObjectiveConfig(names=("reward", "latency")), "no limits"


def test_a_soft_constraint_decides_here_as_well() -> None:
    objective = {"soft": "latency", "target": 5.0, "weight": -2.0}
    found = confirm(study([0.1, 0.5, 0.3], objective=objective))
    for name, score in found.scores.items():
        rows = [row for row in found.rows if row["neck"] == name]
        expected = statistics.mean(row["ap"] * (row["latency_ms"] / 5.0) ** -2 for row in rows)
        assert score == pytest.approx(expected)


def test_nothing_to_confirm() -> None:
    with pytest.raises(StudyError, match="no trial has been measured to its end"):
        confirm(study([None, None]))


def test_no_candidate_can_be_trained_again() -> None:
    FakeTask.measures = staticmethod(lambda graph, seed: Measurement(State.OOM, text="full", seed=seed, device="cpu"))
    with pytest.raises(StudyError, match=r"none of the 2 candidates could be trained again; q/confirm says why"):
        confirm(study([0.1, 0.2]))
