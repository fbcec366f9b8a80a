"""The last stage of a search: its winner is not the luckiest training, but the best of several longer ones.

<run>/confirm/measurements.jsonl   every training that is done
<run>/confirm/confirm.csv          one row a training
<run>/confirm/confirm.md           the table, and what it says
<run>/confirm/confirm.json         the winner and the figures behind it
<run>/winner.json, winner.svg      the winner's graph and its drawing
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasneck.compare import Training, compare
from nasneck.data import load_data
from nasneck.device import resolve_device
from nasneck.draw import draw_svg
from nasneck.errors import ConfigError, StudyError
from nasneck.experiment import ConfirmConfig, Experiment
from nasneck.files import write_atomically
from nasneck.graph import NeckGraph
from nasneck.objective import ObjectiveConfig, pareto_front
from nasneck.proxy import ProxyTask, for_ap
from nasneck.ranking import kendall_tau
from nasneck.report import legend, markdown_table, summarize
from nasneck.rows import write_csv
from nasneck.search import Preparing, study_experiment
from nasneck.search_space import build_space
from nasneck.study import Study
from nasneck.study.records import reward_of
from nasneck.targets import confirmed_file, resolve
from nasneck.trial import Measurement, State, Trial

# Behind those of the search and of comparisons, so that no training that selected a candidate shows it off.
SEED_OFFSET = 100


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What came out.

    Args:
        winner: The trial of the study whose candidate is best.
        graph: Its graph.
        scores: Mean objective of every neck over its seeds, by the name in the table, best first.
        rows: One a training.
        spread: Standard deviation between seeds, pooled over all necks; NaN with one seed.
        tau: Kendall's tau between the candidates' values in the search and here; NaN below two.
        text: The same in sentences.
        folder: Where the files are.
    """

    winner: Trial
    graph: NeckGraph
    scores: Mapping[str, float]
    rows: list[dict[str, Any]]
    spread: float
    tau: float
    text: str
    folder: Path


def confirm(
    run: str | Path,
    *,
    settings: ConfirmConfig | None = None,
    on_event: Callable[[Training], object] = lambda training: None,
    on_prepare: Preparing = lambda what, done, total: None,
    on_warning: Callable[[str], object] = lambda text: None,
) -> Confirmation:
    """Train the best candidates of a study and fixed necks longer, with several seeds, and choose the winner.

    The AP is taken on the images that the search's rewards come from: the test images are for comparisons. Killed at
    any moment, the same call goes on where it was.

    Args:
        run: Folder of the study.
        settings: How many candidates, necks, seeds and steps; None takes the experiment's.
        on_event, on_prepare, on_warning: Told what happens.

    Raises:
        NasneckError: no study, no candidate that was measured, or settings that do not fit.
    """
    run = Path(run)
    with Study.read(run) as study:
        experiment, trials = study_experiment(study), study.trials()
    settings = settings or experiment.confirm
    chosen = _best(trials, settings.top, several=len(experiment.objective.names) > 1)
    if not chosen:
        raise StudyError(f"{run}: no trial has been measured to its end, so there is nothing to confirm")
    space = build_space(experiment.space, experiment.neck)
    label = run.name or run.resolve().name
    by_name = {f"{label}#{trial.number}": trial for trial in chosen}
    graphs = {name: space.decode(trial.choices) for name, trial in by_name.items()}
    graphs |= _fixed(settings.necks, experiment, graphs, getattr(space, "repeats", None), on_warning)
    resolve_device(experiment.device)
    data = load_data(experiment.data)
    proxy = for_ap(experiment.proxy)
    steps = settings.steps or 2 * proxy.train.steps
    # Without limits: what a hand-designed neck costs is for the table to say.
    objective = experiment.objective.to_report
    task = ProxyTask(
        proxy,
        experiment.neck,
        data,
        store=run / "store",
        device=experiment.device,
        objective=objective,
    )
    folder = run / "confirm"
    first = experiment.seed + SEED_OFFSET
    seeds = range(first, first + settings.seeds)
    rows = compare(
        task, graphs, folder, seeds=seeds, split="reward", steps=steps, on_event=on_event, on_prepare=on_prepare
    )
    scores = _scores(rows, objective)
    candidates = {name: by_name[name] for name in scores if name in by_name}
    if not candidates:
        raise StudyError(f"{run}: none of the {len(chosen)} candidates could be trained again; {folder} says why")
    winner = max(candidates, key=lambda name: scores[name])
    tau = kendall_tau([reward_of(trial) for trial in candidates.values()], [scores[name] for name in candidates])
    spread = _spread(rows, objective)
    as_ap = experiment.proxy.reward == "ap"
    text = _text(winner, candidates, scores, spread, tau, seeds=settings.seeds, steps=steps, as_ap=as_ap)
    found = Confirmation(by_name[winner], graphs[winner], scores, rows, spread, tau, text, folder)
    known = sum(trial.state is State.OK for trial in trials)
    _write(found, run, name=winner, seeds=settings.seeds, steps=steps, trials=known)
    return found


def _best(trials: Sequence[Trial], top: int, *, several: bool) -> list[Trial]:
    """The best ``top`` different graphs, best first; with several objectives, spread over the Pareto front."""
    if several:
        front = pareto_front(trials)
        count = min(top, len(front))
        places = [round(i * (len(front) - 1) / max(1, count - 1)) for i in range(count)]
        return [front[place] for place in places]
    measured = sorted((t for t in trials if t.state is State.OK and t.values), key=lambda t: (-reward_of(t), t.number))
    different: dict[str, Trial] = {}
    for trial in measured:
        different.setdefault(trial.graph_key, trial)
    return list(different.values())[:top]


def _fixed(
    names: Sequence[str],
    experiment: Experiment,
    candidates: Mapping[str, NeckGraph],
    repeats: int | None,
    on_warning: Callable[[str], object],
) -> dict[str, NeckGraph]:
    keys = {graph.key(): name for name, graph in candidates.items()}
    found: dict[str, NeckGraph] = {}
    for name in names:
        target = resolve(name, inputs=experiment.neck.inputs, levels=experiment.neck.levels, repeats=repeats)
        twin = keys.get(target.graph.key())
        if target.study is not None:
            raise ConfigError(f"[confirm] necks: {name!r} is a run; fixed necks and graph files are wanted")
        if twin is not None:
            on_warning(f"{target.name} is {twin}: the search has found it, or was given it")
        else:
            found[target.name] = target.graph
    return found


def _values(rows: Sequence[Mapping[str, Any]], objective: ObjectiveConfig) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for row in rows:
        told = objective.values(Measurement.from_dict(row))
        if told:
            values.setdefault(row["neck"], []).append(told[0])
    return values


def _scores(rows: Sequence[Mapping[str, Any]], objective: ObjectiveConfig) -> dict[str, float]:
    means = {name: sum(found) / len(found) for name, found in _values(rows, objective).items()}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def _spread(rows: Sequence[Mapping[str, Any]], objective: ObjectiveConfig) -> float:
    groups = [found for found in _values(rows, objective).values() if len(found) > 1]
    freedom = sum(len(found) - 1 for found in groups)
    squares = sum((value - sum(found) / len(found)) ** 2 for found in groups for value in found)
    return math.sqrt(squares / freedom) if freedom else math.nan


def _text(
    winner: str,
    candidates: Mapping[str, Trial],
    scores: Mapping[str, float],
    spread: float,
    tau: float,
    *,
    seeds: int,
    steps: int,
    as_ap: bool,
) -> str:
    first = max(candidates.values(), key=reward_of)
    place = sorted(candidates.values(), key=reward_of, reverse=True).index(candidates[winner]) + 1
    before = f"number {place} of the {len(candidates)}"
    if as_ap:  # a reward that is a loss is on another scale
        before += f" with {100 * reward_of(candidates[winner]):.1f}"
        before += "" if place == 1 else f" (number 1, trial {first.number}, had {100 * reward_of(first):.1f})"
    sentences = [
        f"Winner: {winner}, {100 * scores[winner]:.1f} over {seeds} seeds of {steps} steps; "
        f"in the search it was {before}."
    ]
    fixed = {name: score for name, score in scores.items() if name not in candidates}
    if fixed:
        best = max(fixed, key=lambda name: fixed[name])
        ahead = 100 * (scores[winner] - fixed[best])
        doubt = ""
        if not math.isnan(spread):
            error = 100 * spread * math.sqrt(2 / seeds)
            small = "less" if abs(ahead) < 2 * error else "more"
            doubt = f", {small} than twice the standard error of the difference ({error:.1f})"
        sentences.append(f"It is {ahead:+.1f} from the best fixed neck, {best}{doubt}.")
    if not math.isnan(spread):
        sentences.append(f"Standard deviation between seeds: {100 * spread:.1f}.")
    if len(candidates) > 2 and not math.isnan(tau):
        sentences.append(
            f"Kendall's tau between the rewards of the search and these: {tau:.2f} over {len(candidates)} candidates, "
            "all of them chosen for their rewards."
        )
    return " ".join(sentences)


def _write(found: Confirmation, run: Path, *, name: str, seeds: int, steps: int, trials: int) -> None:
    write_csv(found.folder / "confirm.csv", found.rows)
    table = f"{markdown_table(summarize(found.rows))}\n{legend(found.rows)}\n\n{found.text}\n"
    write_atomically(found.folder / "confirm.md", table)
    write_atomically(run / "winner.json", found.graph.to_json() + "\n")
    write_atomically(run / "winner.svg", draw_svg(found.graph, title=f"trial {name}, the winner"))
    data = {
        "schema": "nasneck.confirm/1",
        "winner": found.winner.number,
        "graph_key": found.winner.graph_key,
        "trials": trials,
        "scores": dict(found.scores),
        "seeds": seeds,
        "steps": steps,
        "spread": None if math.isnan(found.spread) else found.spread,
        "tau": None if math.isnan(found.tau) else found.tau,
    }
    # Last: what names the winner stands for all of it.
    write_atomically(confirmed_file(run), json.dumps(data, indent=2) + "\n")
