"""A search from an experiment to its results: the parts, put together.

<out>/study.sqlite      the study, the only thing that a resume needs
<out>/store/            weights of the cached backbone; features/ in it, which may be deleted
<out>/.spool/           while several workers run: what they finished and the study does not hold yet
<out>/best.json         graph of the best candidate so far
<out>/best.svg          its drawing
<out>/trials.csv        one row a trial
<out>/front.csv         with several objectives: the trials that no other one beats in all of them
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasneck.data import DetectionData, load_data
from nasneck.decision import Choices
from nasneck.device import resolve_device
from nasneck.draw import draw_svg
from nasneck.errors import ConfigError, StudyError
from nasneck.experiment import FREE, Experiment, experiment_from_dict
from nasneck.files import check_folder, write_atomically
from nasneck.graph import NeckGraph
from nasneck.objective import pareto_front
from nasneck.rows import trial_rows, write_csv
from nasneck.runner import Desk
from nasneck.runner.progress import Progress, Summary
from nasneck.runner.spool import FOLDER, bring_home
from nasneck.search_space import build_space
from nasneck.space import SearchSpace, fixed_neck
from nasneck.strategy import STRATEGIES, Strategy, make_strategy
from nasneck.study import Study, resume
from nasneck.trial import Trial
from nasneck.workplace import LocalWorkplace, Workplace
from nasneck.workplace.base import Warn

Preparing = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """How a search ended and where its results lie; ``front`` with several objectives."""

    summary: Summary
    graph: NeckGraph | None
    folder: Path
    front: tuple[Trial, ...] = ()


def search(
    experiment: Experiment,
    out: str | Path,
    *,
    resume_study: bool = False,
    on_event: Callable[[Progress], object] = lambda progress: None,
    on_prepare: Preparing = lambda what, done, total: None,
    on_warning: Callable[[str], object] = lambda text: None,
) -> SearchResult:
    """Run ``experiment`` and leave its results in ``out``.

    In this process, or by several workers on Ray as ``experiment.resources`` says; this process alone writes.

    Everything that can be wrong with the settings or the data is found before anything is written.

    Args:
        experiment: What to do.
        out: Folder of the study.
        resume_study: Go on with the study in ``out``; without it, ``out`` must not hold one.
        on_event: Told when a trial starts and ends.
        on_prepare: Told (what, done, total) while the proxy task prepares.
        on_warning: Told what the user should know, a line each.

    Raises:
        NasneckError: settings or data that do not fit, or a folder that is in use.
    """
    out = Path(out)
    held = (out / "study.sqlite").exists()
    if held and not resume_study:
        raise StudyError(f"{out}: already holds a study; go on with it (--resume) or choose another folder")
    if resume_study and not held:
        raise StudyError(f"{out}: holds no study (there is no study.sqlite); start one without --resume")
    space = build_space(experiment.space, experiment.neck)
    warm = [_warm(name, space) for name in experiment.search.warm]
    make = _strategy_maker(experiment, space)
    make()  # finds out what is wrong with its options
    if not experiment.resources.distributed:
        resolve_device(experiment.device)
        if experiment.resources.gpus_per_trial is not None:
            on_warning("resources.gpus_per_trial is for several workers; one, in this process, takes its device whole")
        if experiment.resources.together > 1 and experiment.proxy.fidelity != "frozen":
            on_warning(
                f"resources.together {experiment.resources.together} saves time with proxy.fidelity 'frozen' alone, and"
                " the strategy hears of results later"
            )
    check_folder(out)
    data = load_data(experiment.data)  # last, as it may generate them
    for note in data.notes:
        on_warning(note)
    with (
        _workplace(experiment, data, out, on_warning) as place,
        _open_study(experiment, data, place, space, out, resume_study) as study,
    ):
        try:
            place.prepare(on_prepare)
        except Exception:
            if not resume_study:
                _discard(out)
            raise
        values = experiment.objective.values
        bring_home(study, out / FOLDER, lambda choices: place.cache_key(space.decode(choices)), values)
        resumed = resume(study, make)
        if resumed.warning:
            on_warning(resumed.warning)

        def keep_best(progress: Progress) -> None:
            if progress.trial.state is not None and progress.best == progress.trial:
                _write_best(study, space, progress.trial)
            on_event(progress)

        desk = Desk(
            study,
            resumed.strategy,
            space,
            place.cache_key,
            trials=experiment.search.trials,
            warm=warm,
            on_event=keep_best,
            max_duplicates=experiment.search.max_duplicates,
            workers=place.workers,
            values=values,
            refuse=place.refuse,
            same_process=not experiment.resources.distributed,
        )
        summary = place.run(desk, space, folder=out)
        best = study.best()
        if best is not None:
            _write_best(study, space, best)
        trials = study.trials()
        write_csv(out / "trials.csv", trial_rows(trials))
        front = pareto_front(trials) if len(experiment.objective.names) > 1 else []
        if front:
            write_csv(out / "front.csv", trial_rows(front))
    return SearchResult(summary, space.decode(best.choices) if best else None, out, tuple(front))


def study_experiment(study: Study) -> Experiment:
    """The experiment that a study was made with."""
    table = study.experiment
    for key in ("data_digest", "computed"):
        table.pop(key, None)
    return experiment_from_dict(table, where=str(study.folder))


def _workplace(experiment: Experiment, data: DetectionData, out: Path, on_warning: Warn) -> Workplace:
    if not experiment.resources.distributed:
        return LocalWorkplace(experiment, data, store=out / "store")
    from nasneck.workplace.cluster import ClusterWorkplace

    return ClusterWorkplace(experiment, data, store=out / "store", on_warning=on_warning)


def _open_study(
    experiment: Experiment, data: DetectionData, place: Workplace, space: SearchSpace, out: Path, resume_study: bool
) -> Study:
    table = {**experiment.to_dict(), "data_digest": data.digest, "computed": place.computed}
    if resume_study:
        return Study.open(out, experiment=table, free=FREE, complete=_with_defaults)
    return Study.create(out, experiment=table, seed=experiment.seed, decisions=space.decisions)


def _with_defaults(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored experiment with the settings that versions since then have added."""
    beside = {key: stored.pop(key) for key in ("data_digest", "computed") if key in stored}
    return {**experiment_from_dict(stored, where="the study").to_dict(), **beside}


def _discard(out: Path) -> None:
    """Take away the study that was just made in ``out``, so that the next attempt is a new one."""
    for name in ("study.sqlite", "study.sqlite-wal", "study.sqlite-shm", "study.lock"):
        (out / name).unlink(missing_ok=True)
    for folder in (out / "store", out):
        with contextlib.suppress(OSError):  # it holds something, such as weights, which are of use
            folder.rmdir()


def _strategy_maker(experiment: Experiment, space: SearchSpace) -> Callable[[], Strategy]:
    chosen, count = experiment.strategy, len(experiment.objective.names)
    options = dict(chosen.options)
    known = STRATEGIES.get(chosen.name)
    if known is not None and "objectives" in known.Options.__dataclass_fields__:
        if options.setdefault("objectives", count) != count:
            raise ConfigError(
                f"[strategy]: objectives {options['objectives']}, but [objective] has {count} names; leave it out"
            )
    elif known is not None and known.learns and count > 1:
        raise ConfigError(
            f"[strategy]: {chosen.name!r} learns from one objective, and [objective] names {count}; take strategy"
            " 'optuna' with sampler 'nsgaii' or 'tpe', or one objective with soft, which weighs a cost against it"
        )
    return lambda: make_strategy(chosen.name, space.decisions, seed=experiment.seed, options=options)


def _warm(name: str, space: SearchSpace) -> Choices:
    try:
        graph = fixed_neck(name, space)
    except ConfigError as error:
        raise ConfigError(f"[search] warm: {error}") from None
    return space.encode(graph)


def _write_best(study: Study, space: SearchSpace, trial: Trial) -> None:
    graph = space.decode(trial.choices)
    write_atomically(study.folder / "best.json", graph.to_json() + "\n")
    write_atomically(study.folder / "best.svg", draw_svg(graph, title=f"trial {trial.number} of {study.folder.name}"))
