"""A study as one of Optuna's, so that its plots, its importances and its dashboard can be used.

state here                      in Optuna
ok, cached                      COMPLETE, with what its strategy was told as values; costs as such, to be minimised
pruned                          PRUNED, its value reported at its rung
no result yet                   RUNNING: the dashboard lists those as such
every other, or no values       FAIL
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nasneck.decision import Decision, check_choices
from nasneck.errors import StudyError
from nasneck.strategy.optuna_tools import distributions_of, quiet, require_optuna
from nasneck.study.entries import Entry, entries
from nasneck.study.records import Told
from nasneck.trial import State

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from nasneck.study.study import Study


def to_optuna(study: Study, storage: str | BaseStorage | None = None, name: str | None = None) -> optuna.study.Study:
    """Copy the trials of ``study``, see :meth:`nasneck.study.Study.to_optuna`."""
    require_optuna()
    import optuna

    decisions, metrics = study.decisions, _metrics(study)
    found = entries(study)
    name = name if name is not None else study.folder.resolve().name
    with quiet():
        try:
            opened = optuna.storages.get_storage(storage)
        except Exception as error:  # of Optuna, SQLAlchemy or a driver of a database
            raise StudyError(f"{storage}: is no storage of Optuna that can be used: {_line(error)}") from None
        try:
            directions: Any = ["maximize", *["minimize"] * (len(metrics) - 1)]
            copy = optuna.create_study(storage=opened, study_name=name, directions=directions)
        except optuna.exceptions.DuplicatedStudyError:
            raise StudyError(f"the storage already holds a study {name!r}; choose another name for it") from None
        try:
            copy.set_metric_names(metrics)
            for key, value in (("seed", study.seed), ("created", study.created), ("versions", study.versions)):
                copy.set_user_attr(key, value)
            copy.add_trials(list(_trials(found, decisions, len(metrics))))
        except BaseException:
            optuna.delete_study(study_name=name, storage=opened)  # half of one would be taken for the whole
            raise
    return copy


def _metrics(study: Study) -> list[str]:
    """Names of what was optimised: the first is larger, the others are smaller where they are better."""
    objective = study.experiment.get("objective") or {}
    names = [str(name) for name in objective.get("names", ())] or ["reward"]
    return [f"reward weighed by {objective['soft']}"] if objective.get("soft") else names


def _trials(found: Sequence[Entry], decisions: Sequence[Decision], objectives: int) -> Iterator[FrozenTrial]:
    import optuna
    from optuna.trial import TrialState

    names = [decision.name for decision in decisions]
    distributions = distributions_of(decisions)
    whole = (entry.told for entry in found if entry.told and entry.told.measurement.state is State.OK)
    top = max((told.outcome.rung for told in whole), default=0)
    for entry in found:
        choices = check_choices(decisions, entry.asked.ask.choices)
        trial = optuna.create_trial(
            state=TrialState.RUNNING,
            params=dict(zip(names, choices, strict=True)),
            distributions=distributions,
            user_attrs=_attributes(entry),
        )
        trial.datetime_start = datetime.fromtimestamp(entry.asked.time)  # local, as Optuna's own are
        if entry.told is not None:
            _finish(trial, entry.told, objectives, top)
        yield trial


def _finish(trial: FrozenTrial, told: Told, objectives: int, top: int) -> None:
    """``top``: the highest rung; a duplicate of one that was stopped at a lower one is no whole trial either."""
    from optuna.trial import TrialState

    values = told.outcome.values
    # A strategy is told costs as their negatives.
    shown = [value if i == 0 else -value for i, value in enumerate(values)]
    if not told.measurement.state.has_values or len(values) != objectives or not all(map(math.isfinite, values)):
        trial.state = TrialState.FAIL
    elif told.measurement.state is State.PRUNED or (told.measurement.state is State.CACHED and told.outcome.rung < top):
        trial.state = TrialState.PRUNED
        if objectives == 1:  # Optuna keeps no values of pruned trials with several
            trial.value = values[0]
            trial.intermediate_values = {told.outcome.rung: values[0]}
    else:
        trial.state = TrialState.COMPLETE
        trial.values = shown
    trial.datetime_complete = datetime.fromtimestamp(told.time)


def _attributes(entry: Entry) -> dict[str, Any]:
    """What the dashboard shows beside a trial; what is not known is left out."""
    attributes: dict[str, Any] = {"graph_key": entry.asked.graph_key, "source": entry.asked.source}
    if entry.told is None:
        return {"state": "running", **attributes}
    measured = entry.told.measurement.to_dict()
    known = {key: value for key, value in measured.items() if value not in (None, "", []) and key != "reward"}
    duplicate = {} if entry.duplicate_of is None else {"duplicate_of": entry.duplicate_of}
    return {**known, **attributes, **duplicate}


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
