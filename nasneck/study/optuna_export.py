"""A study as one of Optuna's, so that its plots, its importances and its dashboard can be used.

state here                      in Optuna
ok, cached                      COMPLETE, the reward as its value
pruned                          PRUNED, the reward reported at its rung
no result yet                   RUNNING: the dashboard lists those as such
every other, or no reward       FAIL
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nasneck.decision import Decision, check_choices
from nasneck.errors import StudyError
from nasneck.strategy.optuna_tools import distributions_of, quiet, require_optuna
from nasneck.study.records import REPEATABLE, Asked, Told
from nasneck.trial import State

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from nasneck.study.study import Study

METRIC = "reward"


@dataclass(frozen=True, slots=True)
class _Entry:
    asked: Asked
    told: Told | None
    duplicate_of: int | None  # the trial whose measurement a cached one took over


def to_optuna(study: Study, storage: str | BaseStorage | None = None, name: str | None = None) -> optuna.study.Study:
    """Copy the trials of ``study``, see :meth:`nasneck.study.Study.to_optuna`."""
    require_optuna()
    import optuna

    decisions = study.decisions
    entries = _entries(study)  # read at once: a search may be writing
    name = name if name is not None else study.folder.resolve().name
    with quiet():
        try:
            opened = optuna.storages.get_storage(storage)
        except Exception as error:  # of Optuna, SQLAlchemy or a driver of a database
            raise StudyError(f"{storage}: is no storage of Optuna that can be used: {_line(error)}") from None
        try:
            copy = optuna.create_study(storage=opened, study_name=name, direction="maximize")
        except optuna.exceptions.DuplicatedStudyError:
            raise StudyError(f"the storage already holds a study {name!r}; choose another name for it") from None
        try:
            copy.set_metric_names([METRIC])
            for key, value in (("seed", study.seed), ("created", study.created), ("versions", study.versions)):
                copy.set_user_attr(key, value)
            copy.add_trials(list(_trials(entries, decisions)))
        except BaseException:
            optuna.delete_study(study_name=name, storage=opened)  # half of one would be taken for the whole
            raise
    return copy


def _entries(study: Study) -> list[_Entry]:
    asked: dict[int, Asked] = {}
    told: dict[int, Told] = {}
    measured: dict[str, int] = {}  # cache key -> the trial that stands for it
    duplicates: dict[int, int] = {}
    for event in study.events():
        if isinstance(event, Asked):
            asked[event.ask.number] = event
            continue
        told[event.number] = event
        if event.cache_key is None:
            continue
        if event.measurement.state in REPEATABLE:
            measured.setdefault(event.cache_key, event.number)
        elif event.measurement.state is State.CACHED and event.cache_key in measured:
            duplicates[event.number] = measured[event.cache_key]
    return [_Entry(asked[number], told.get(number), duplicates.get(number)) for number in sorted(asked)]


def _trials(entries: Sequence[_Entry], decisions: Sequence[Decision]) -> Iterator[FrozenTrial]:
    import optuna
    from optuna.trial import TrialState

    names = [decision.name for decision in decisions]
    distributions = distributions_of(decisions)
    for entry in entries:
        choices = check_choices(decisions, entry.asked.ask.choices)
        trial = optuna.create_trial(
            state=TrialState.RUNNING,
            params=dict(zip(names, choices, strict=True)),
            distributions=distributions,
            user_attrs=_attributes(entry),
        )
        trial.datetime_start = datetime.fromtimestamp(entry.asked.time)  # local, as Optuna's own are
        if entry.told is not None:
            _finish(trial, entry.told)
        yield trial


def _finish(trial: FrozenTrial, told: Told) -> None:
    from optuna.trial import TrialState

    measurement = told.measurement
    reward = measurement.reward
    if reward is None or not math.isfinite(reward) or not measurement.state.has_values:
        trial.state = TrialState.FAIL
    else:
        pruned = measurement.state is State.PRUNED
        trial.state = TrialState.PRUNED if pruned else TrialState.COMPLETE
        trial.value = reward
        if pruned:
            trial.intermediate_values = {told.outcome.rung: reward}
    trial.datetime_complete = datetime.fromtimestamp(told.time)


def _attributes(entry: _Entry) -> dict[str, Any]:
    """What the dashboard shows beside a trial; what is not known is left out."""
    attributes: dict[str, Any] = {"graph_key": entry.asked.graph_key, "source": entry.asked.source}
    if entry.told is None:
        return {"state": "running", **attributes}
    measured = entry.told.measurement.to_dict()
    known = {key: value for key, value in measured.items() if value is not None and value != "" and key != "reward"}
    duplicate = {} if entry.duplicate_of is None else {"duplicate_of": entry.duplicate_of}
    return {**known, **attributes, **duplicate}


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
