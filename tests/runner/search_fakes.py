"""A small space and evaluator for the tests of searches, importable by child processes as well."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasneck.decision import Choices, Decision
from nasneck.runner import Desk, Summary
from nasneck.runner import run as run_desk
from nasneck.strategy import Strategy
from nasneck.strategy.random import RandomOptions
from nasneck.study import Study
from nasneck.trial import Ask, Measurement, Outcome, State


@dataclass(frozen=True)
class FakeGraph:
    """Identified by its numbers; the last decision of the space does not show in it."""

    numbers: tuple[int, ...]

    def key(self) -> str:
        return "-".join(map(str, self.numbers))


class FakeSpace:
    """Graphs with several encodings: the last decision is ignored."""

    def __init__(self, *sizes: int) -> None:
        self.decisions = tuple(Decision(f"d{i}", size, "fake") for i, size in enumerate(sizes))

    def decode(self, choices: Choices) -> FakeGraph:
        return FakeGraph(tuple(choices[:-1]))


class Listed(Strategy):
    """Asks a given list, again and again, and notes what it is told."""

    name = "listed"
    description = "asks a given list"
    Options = RandomOptions

    def __init__(self, space: FakeSpace, choices: list[Choices]) -> None:
        super().__init__(space.decisions, seed=0)
        self.choices = choices
        self.told: list[tuple[int, Outcome]] = []

    def propose(self, number: int) -> Choices:
        return self.choices[number % len(self.choices)]

    def learn(self, ask: Ask, outcome: Outcome) -> None:
        self.told.append((ask.number, outcome))


def reward(graph: FakeGraph) -> float:
    return sum((i + 2) * number for i, number in enumerate(graph.numbers)) % 23 / 23


def cache_key(graph: FakeGraph) -> str:
    return f"fake {graph.key()}"


@dataclass
class FileEvaluator:
    """Takes ``seconds``, and notes every evaluation that it started and finished in a file."""

    notes: Path
    seconds: float = 0.002

    def note(self, text: str) -> None:
        with self.notes.open("a") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())

    def __call__(self, graph: FakeGraph) -> Measurement:
        self.note(f"start {graph.key()}")
        time.sleep(self.seconds)
        if sum(graph.numbers) % 7 == 0:
            return Measurement(State.OOM, text="out of memory")
        if sum(graph.numbers) % 7 == 1:
            raise ValueError("this candidate\nalways fails")
        return Measurement(State.OK, reward=reward(graph), seconds=self.seconds)


def run(
    study: Study,
    strategy: Strategy,
    space: Any,
    evaluate: Callable[[Any], Measurement],
    cache_key: Callable[[Any], str],
    **settings: Any,
) -> Summary:
    """The in-process runner at a new desk."""
    return run_desk(Desk(study, strategy, space, cache_key, **settings), evaluate)
