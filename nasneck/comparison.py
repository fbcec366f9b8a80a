"""A comparison from names to files: the necks a user names, one experiment, a table.

<out>/measurements.jsonl    every finished training; what a restart goes on from
<out>/compare.csv           one row a training
<out>/compare.md            the table
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasneck.compare import Training, compare
from nasneck.data import load_data
from nasneck.device import resolve_device
from nasneck.errors import ConfigError
from nasneck.experiment import Experiment, load_experiment
from nasneck.files import check_folder, write_atomically
from nasneck.graph import NeckGraph
from nasneck.proxy import ProxyTask, for_ap
from nasneck.report import legend, markdown_table, summarize
from nasneck.rows import write_csv
from nasneck.search import Preparing, study_experiment
from nasneck.search_space import build_space
from nasneck.study import Study
from nasneck.targets import Target, resolve


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows of a comparison, one a training, and the files they are in."""

    rows: list[dict[str, Any]]
    csv: Path
    markdown: Path


def run_comparison(
    names: Sequence[str],
    out: str | Path,
    *,
    experiment: str | None = None,
    changes: Sequence[str] = (),
    seeds: int | None = None,
    repeats: int | None = None,
    split: str = "test",
    on_event: Callable[[Training], object] = lambda training: None,
    on_prepare: Preparing = lambda what, done, total: None,
    on_warning: Callable[[str], object] = lambda text: None,
) -> Comparison:
    """Train the necks that ``names`` name under one experiment and write the table to ``out``.

    Args:
        names: As :func:`nasneck.targets.resolve` takes them.
        out: Folder of the comparison.
        experiment: File or shipped name; None takes that of the first run among ``names``.
        changes: Settings in place of the experiment's.
        seeds: Trainings of each neck, with seeds behind that of the search; None takes the experiment's.
        repeats: Of fixed necks that state none; None takes the search space's, so that all necks are as deep.
        split: ``test`` or ``reward``.
        on_event, on_prepare, on_warning: Told what happens.

    Raises:
        NasneckError: names, settings or data that do not fit.
    """
    out = Path(out)
    studies = [folder for folder in (_study_folder(name) for name in names) if folder is not None]
    settings = _experiment(experiment, changes, studies)
    shared = repeats
    if shared is None:
        shared = getattr(build_space(settings.space, settings.neck), "repeats", None)
    targets = [
        resolve(
            name,
            inputs=settings.neck.inputs,
            levels=settings.neck.levels,
            repeats=repeats if _study_folder(name) is not None else shared,
        )
        for name in names
    ]
    for target in targets:
        if target.note:
            on_warning(target.note)
    graphs = _graphs(targets, settings)
    count = settings.compare.seeds if seeds is None else seeds
    if count < 1:
        raise ConfigError(f"seeds {count} must be at least 1")
    resolve_device(settings.device)
    check_folder(out)
    data = load_data(settings.data)
    if split == "test" and data.test is None:
        raise ConfigError("the data have no test images; --split reward takes AP on those held out of the training")
    for note in data.notes:
        on_warning(note)
    # Reward by loss has no AP to show; everything else stays as it was in the search.
    proxy = for_ap(settings.proxy)
    store = (studies[0] if studies else out) / "store"
    # Costs as the user will pay them, and no limits: the table is there to show them.
    objective = settings.objective.to_report
    task = ProxyTask(proxy, settings.neck, data, store=store, device=settings.device, objective=objective)
    rows = compare(
        task,
        graphs,
        out,
        # Not the search's own seed: with it the winner would show the very training that selected it.
        seeds=range(settings.seed + 1, settings.seed + 1 + count),
        split=split,
        steps=settings.compare.steps,
        on_event=on_event,
        on_prepare=on_prepare,
    )
    csv = write_csv(out / "compare.csv", rows)
    text = markdown_table(summarize(rows)) + "\n" + legend(rows) + "\n"
    return Comparison(rows, csv, write_atomically(out / "compare.md", text))


def _study_folder(name: str) -> Path | None:
    folder = Path(name.partition("#")[0])
    return folder if (folder / "study.sqlite").is_file() else None


def _experiment(name: str | None, changes: Sequence[str], studies: Sequence[Path]) -> Experiment:
    if name is not None:
        return load_experiment(name, changes)
    if not studies:
        raise ConfigError("none of the necks comes from a study; say with --experiment how to train them")
    if changes:
        raise ConfigError("--set changes an experiment file; name it with --experiment")
    with Study.read(studies[0]) as study:
        return study_experiment(study)


def _graphs(targets: Sequence[Target], settings: Experiment) -> dict[str, NeckGraph]:
    graphs: dict[str, NeckGraph] = {}
    for target in targets:
        graph = target.graph
        found = (graph.input_levels[0], graph.input_levels[-1]), (graph.output_levels[0], graph.output_levels[-1])
        wanted = settings.neck.inputs, settings.neck.levels
        if found != wanted:
            raise ConfigError(
                f"{target.name}: inputs {found[0]} and levels {found[1]} are not the experiment's {wanted[0]} and "
                f"{wanted[1]}; all necks of a comparison feed the same head"
            )
        if target.name in graphs:
            raise ConfigError(f"{target.name!r} is named twice")
        graphs[target.name] = graph
    return graphs
