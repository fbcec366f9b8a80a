"""A study with something in everything that it can hold, and all that can be read from one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from nasneck.decision import Decision
from nasneck.strategy import Snapshot
from nasneck.study import Study
from nasneck.trial import Ask, Measurement, Outcome, State

DECISIONS = (Decision("a", 5, "x"), Decision("b", 7, "x"))


def new(folder: Path) -> Study:
    return Study.create(folder, experiment={"a": 1, "b": [1, 2], "text": "x" * 300}, seed=1, decisions=DECISIONS)


def fill(study: Study, trials: int = 40) -> None:
    """Every seventh trial has no result."""
    for number in range(trials):
        ask(study, number)
        if number % 7 != 6:
            tell(study, number)
    study.keep_snapshot(Snapshot({"n": [1, 2, 3]}, {"w": torch.arange(300.0)}))


def ask(study: Study, number: int) -> None:
    study.asked(Ask(number, choices_of(number)), graph_key=f"g{number}")


def tell(study: Study, number: int) -> None:
    study.told(number, Outcome((number / 97,)), result(number), cache_key=key_of(study.trial(number).choices))


def choices_of(number: int) -> tuple[int, int]:
    return number % 5, number % 7


def result(number: int) -> Measurement:
    return Measurement(State.OK, reward=number / 97, text="käse" * (number % 9), device="cpu")


def key_of(choices: tuple[int, ...]) -> str:
    return f"key of {choices}"


READ: dict[str, Callable[[Study], Any]] = {
    "trials": Study.trials,
    "events": lambda study: list(study.events()),
    "in_flight": Study.in_flight,
    "best": Study.best,
    "next_number": lambda study: study.next_number,
    "trial": lambda study: [study.trial(number) for number in range(study.next_number)],
    "measured_as": lambda study: [study.measured_as(key_of(choices_of(number))) for number in range(35)],
    "measurement": lambda study: study.measurement(key_of(choices_of(3))),
    "experiment": lambda study: study.experiment,
    "seed": lambda study: study.seed,
    "decisions": lambda study: study.decisions,
    "versions": lambda study: study.versions,
    "created": lambda study: study.created,
    "injected": lambda study: study.injected,
    "latest_snapshot": lambda study: _plain(study.latest_snapshot()),
}


def everything(study: Study) -> dict[str, Any]:
    return {name: read(study) for name, read in READ.items()}


def _plain(stored: tuple[int, Snapshot] | None) -> object:
    """Tensors do not compare by ``==``."""
    if stored is None:
        return None
    event, snapshot = stored
    return event, snapshot.data, {name: tensor.tolist() for name, tensor in snapshot.tensors.items()}


def check_integrity(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "study.sqlite")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
