"""What a user may name where a neck is wanted.

fpn, bifpn:repeats=3        a fixed neck, with options
graph.json                  a graph as JSON
runs/q                      the winner of a study: the confirmed one, else the candidate with the best reward
runs/q#7                    trial 7 of a study
"""

from __future__ import annotations

import ast
import inspect
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from nasneck.errors import ConfigError, GraphError, StudyError
from nasneck.graph import NeckGraph
from nasneck.necks import NECKS
from nasneck.settings import convert, did_you_mean
from nasneck.trial import State, Trial

if TYPE_CHECKING:
    from nasneck.study import Study

LevelRange = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Target:
    """A neck that a user named.

    Args:
        name: How tables call it.
        graph: The graph.
        study: Folder of the study that it comes from, if any.
        norm: What normalises in that study.
        note: What its user should know; empty if nothing.
    """

    name: str
    graph: NeckGraph
    study: Path | None = None
    norm: str | None = None
    note: str = ""


def resolve(
    text: str,
    *,
    inputs: LevelRange | None = None,
    levels: LevelRange | None = None,
    repeats: int | None = None,
) -> Target:
    """Return the neck that ``text`` names.

    Args:
        text: See the module.
        inputs: First and last level of the backbone, for fixed necks; None takes the neck's own default.
        levels: First and last level of the neck, likewise.
        repeats: Of fixed necks that repeat and state none, and of searched ones in place of the study's.

    Raises:
        NasneckError: nothing is called so, or it cannot be built.
    """
    name, _, number = text.partition("#")
    folder = Path(name)
    if (folder / "study.sqlite").is_file() or number or folder.name == "study.sqlite":
        return _from_study(folder.parent if folder.name == "study.sqlite" else folder, number, repeats)
    if folder.suffix == ".json" or folder.is_file():
        return _from_file(folder)
    if folder.is_dir():
        raise StudyError(f"{folder}: holds no study (there is no study.sqlite)")
    return _fixed(text, inputs, levels, repeats)


def _from_study(folder: Path, number: str, repeats: int | None) -> Target:
    # Here, because showing a fixed neck should not wait for torch.
    from nasneck.search import study_experiment
    from nasneck.search_space import build_space
    from nasneck.study import Study

    with Study.read(folder) as study:
        note = ""
        if number:
            if not number.isdigit():
                raise ConfigError(f"{folder}#{number}: the number of a trial is wanted after '#'")
            trial = study.trial(int(number))
        elif (confirmed := _confirmed(folder, study)) is not None:
            trial, note = confirmed
        else:
            best = study.best()
            if best is None:
                raise StudyError(f"{folder}: no trial has been measured yet")
            trial = best
        experiment = study_experiment(study)
    chosen = experiment.space
    if repeats is not None:
        chosen = replace(chosen, options={**chosen.options, "repeats": repeats})
    space = build_space(chosen, experiment.neck)
    label = f"{folder.name or folder.resolve().name}#{trial.number}"
    return Target(label, space.decode(trial.choices), folder, experiment.neck.norm, note)


def confirmed_file(folder: Path) -> Path:
    """Where the winner of a study is named, once it is confirmed."""
    return folder / "confirm" / "confirm.json"


def _confirmed(folder: Path, study: Study) -> tuple[Trial, str] | None:
    """The confirmed winner of this study, and a note if the study has grown since.

    None without one, or if the file is about an earlier study in the folder.
    """
    path = confirmed_file(folder)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        number, key, known = int(data["winner"]), str(data["graph_key"]), int(data["trials"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: does not name a winner ({error}); run nasneck confirm {folder} again") from None
    trial = study.trial(number) if 0 <= number < study.next_number else None
    if trial is None or trial.graph_key != key:
        return None
    since = sum(each.state is State.OK for each in study.trials()) - known
    note = (
        f"{folder}: trial {number} was confirmed as the winner before the last {since} trials were measured; "
        f"nasneck confirm {folder} looks at them as well"
    )
    return trial, note if since > 0 else ""


def _from_file(path: Path) -> Target:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GraphError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None
    return Target(path.stem, NeckGraph.from_json(text, where=str(path)))


def _fixed(text: str, inputs: LevelRange | None, levels: LevelRange | None, repeats: int | None) -> Target:
    name, _, tail = text.partition(":")
    if name not in NECKS:
        raise ConfigError(f"{text!r} is not a fixed neck, a run folder or a graph file{did_you_mean(name, NECKS)}")
    options = _options(text, tail)
    known = [p for p in inspect.signature(NECKS[name]).parameters if p not in ("inputs", "levels")]
    for option in options:
        if option not in known:
            raise ConfigError(f"{text!r}: unknown option {option!r} of {name}{did_you_mean(option, known)}")
    hints = get_type_hints(NECKS[name])
    options = {key: convert(hints[key], value, where=f"{text!r}: {key}") for key, value in options.items()}
    if repeats is not None and "repeats" in known and "repeats" not in options:
        options["repeats"] = repeats
        text = f"{text}{',' if tail else ':'}repeats={repeats}"
    given = {"inputs": inputs, "levels": levels}
    options |= {key: pair for key, pair in given.items() if pair is not None}
    return Target(text, NECKS[name](**options))


def _options(text: str, tail: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for part in filter(None, tail.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"{text!r}: an option is written name=value, not {part!r}")
        try:
            # true and false as everywhere else in our files
            options[key.strip()] = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
        except (ValueError, SyntaxError):
            options[key.strip()] = value.strip()
    return options
