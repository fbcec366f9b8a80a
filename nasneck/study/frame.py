"""A study as a table of pandas, one row a trial, by number.

    number            int64
    source, state     string; the state is ``running`` where there is no result yet
    started, ended    when it was asked and when its result was written; UTC, microseconds
    graph_key         string, empty where the choices could not be decoded
    cached            bool: a duplicate, whose values are those of
    duplicate_of      Int64: this trial, if it is known
    objective         float64: the first value that the strategy was told; missing where it was told none
    reward, ap, ...   every field of nasneck.trial.Measurement but its state: float64, Int64 or string, tuples as they
                      are
    cell0.inputs, ... every decision of the space: Int64, the index of the choice. One that is called like a column
                      above has ``decision.`` before its name; if the study does not name them, choice0, choice1, ...

What is missing is NaN in float64, NaT in times and NA elsewhere. An AP of -1 is that of a bin without objects.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nasneck.errors import StudyError
from nasneck.study.entries import Entry, entries
from nasneck.trial import Measurement

if TYPE_CHECKING:
    import pandas as pd

    from nasneck.study.study import Study

# Kind of a field of a measurement -> kind of its column. Whole numbers stay whole where some are missing.
_KINDS = {float: "float64", int: "Int64", str: "string"}


def frame(study: Study) -> pd.DataFrame:
    """The trials of ``study``, see :meth:`nasneck.study.Study.frame`."""
    import pandas as pd

    found = entries(study)
    moment = pd.DatetimeTZDtype("us", "UTC")
    columns: dict[str, pd.Series] = {
        "number": pd.Series([entry.number for entry in found], dtype="int64"),
        "source": pd.Series([entry.asked.source for entry in found], dtype="string"),
        "state": pd.Series([_state(entry) for entry in found], dtype="string"),
        "started": _moments([entry.asked.time for entry in found]).astype(moment),
        "ended": _moments([entry.told.time if entry.told else None for entry in found]).astype(moment),
        "graph_key": pd.Series([entry.asked.graph_key for entry in found], dtype="string"),
        "cached": pd.Series([_state(entry) == "cached" for entry in found], dtype="bool"),
        "duplicate_of": pd.Series([entry.duplicate_of for entry in found], dtype="Int64"),
        "objective": pd.Series([_first_value(entry) for entry in found], dtype="float64"),
    }
    for name, kind in _fields().items():
        values = [getattr(entry.told.measurement, name) if entry.told else None for entry in found]
        columns[name] = pd.Series(values, dtype=_KINDS.get(kind, "object"))  # type: ignore[arg-type]
    columns |= _choices(study, found, taken=columns)
    return pd.DataFrame(columns)


def _fields() -> dict[str, Any]:
    """Fields of a measurement but its state, with their type without ``None``."""
    hints = typing.get_type_hints(Measurement)
    found = {}
    for field in dataclasses.fields(Measurement):
        if field.name == "state":
            continue
        hint = hints[field.name]
        options = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        found[field.name] = options[0] if isinstance(hint, types.UnionType) and len(options) == 1 else hint
    return found


def _choices(study: Study, found: Sequence[Entry], *, taken: Iterable[str]) -> dict[str, pd.Series]:
    import pandas as pd

    rows = [entry.asked.ask.choices for entry in found]
    try:
        names = [decision.name for decision in study.decisions]
    except StudyError:  # made by a version, or a caller, that does not say
        names = [f"choice{i}" for i in range(max(map(len, rows), default=0))]
    taken = set(taken)
    return {
        f"decision.{name}" if name in taken else name: pd.Series(
            [row[i] if i < len(row) else None for row in rows], dtype="Int64"
        )
        for i, name in enumerate(names)
    }


def _state(entry: Entry) -> str:
    return "running" if entry.told is None else entry.told.measurement.state.value


def _first_value(entry: Entry) -> float | None:
    return entry.told.outcome.values[0] if entry.told and entry.told.outcome.values else None


def _moments(seconds: Sequence[float | None]) -> pd.Series:
    import pandas as pd

    return pd.Series(pd.to_datetime(pd.Series(seconds, dtype="float64"), unit="s", utc=True))
