"""The commands, each a thin layer over a function of the library."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nasneck.cli.parse import changed_confirm, parse_channels, parse_range
from nasneck.errors import ConfigError, StudyError

if TYPE_CHECKING:
    from nasneck.experiment import ConfirmConfig
    from nasneck.runner.board import Board
    from nasneck.targets import Target

Inputs = Annotated[
    str | None, typer.Option(help="First and last level that the backbone gives, such as 3-5; default: the neck's own.")
]
Levels = Annotated[
    str | None, typer.Option(help="First and last level that the neck gives, such as 3-7; default: the neck's own.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as proxy.steps=100. May be repeated."),
]


def list_() -> None:
    """List fixed necks, search spaces, strategies and experiments."""
    from nasneck.cli.listing import listing

    print(listing())


def show(
    neck: Annotated[str, typer.Argument(help="A fixed neck (bifpn:repeats=3), a graph file, or a run (runs/q#7).")],
    inputs: Inputs = None,
    levels: Levels = None,
    repeats: Annotated[int | None, typer.Option(help="Repeats, for necks that have them.")] = None,
    all_repeats: Annotated[
        bool, typer.Option(help="Draw every repeat, also where all are alike, and every node of a block.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write .svg, .json or .txt instead of printing text.")] = None,
) -> None:
    """Show a neck, drawn by pyramid level."""
    from nasneck.draw import draw_svg, draw_text
    from nasneck.files import write_atomically
    from nasneck.targets import resolve

    target = resolve(neck, inputs=_range(inputs), levels=_range(levels), repeats=repeats)
    _note(target)
    # a trial is told by its space, a fixed neck as it was asked for
    heading = target.name if target.study is None else None
    if out is None:
        print(draw_text(target.graph, title=heading))
        return
    if out.suffix == ".svg":
        text = draw_svg(target.graph, title=target.name, all_repeats=all_repeats)
    elif out.suffix == ".json":
        text = target.graph.to_json() + "\n"
    elif out.suffix == ".txt":
        text = draw_text(target.graph, title=heading) + "\n"
    else:
        raise ConfigError(f"--out {out}: the name should end in .svg, .json or .txt")
    print(write_atomically(out, text))


def shapes(
    folder: Annotated[Path, typer.Argument(help="Where to put the data; new, empty, or holding the same data.")],
    images: Annotated[int, typer.Option(help="Number of images, test images included.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same data.")] = 0,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 128,
) -> None:
    """Generate detection data: textured shapes of many sizes."""
    from nasneck.data import ShapesConfig, generate_shapes

    config = ShapesConfig(images=images, seed=seed, size=size)
    new = generate_shapes(folder, images=images, seed=seed, size=size)
    counts = f"{images - config.val_images} training and {config.val_images} test images of {size} px"
    print(f"{folder}: {counts}{'' if new else ' (there already)'}")


def check(
    folder: Annotated[Path, typer.Argument(help="A COCO-format folder.")],
    train: Annotated[str | None, typer.Option(help="Training annotations, relative to the folder.")] = None,
    test: Annotated[str | None, typer.Option(help="Test annotations, likewise; '' if there are none.")] = None,
) -> None:
    """Read a data set as a search would, and say what is in it."""
    from dataclasses import replace

    from nasneck.data import DataConfig, load_data

    given = {name: path for name, path in (("train", train), ("test", test)) if path is not None}
    data = load_data(replace(DataConfig(root=str(folder)), **given))
    for split in (data.train, data.reward, data.test):
        if split is not None:
            print(f"{split.name:<7} {len(split):>6} images {split.boxes:>8} boxes")
    print(f"classes {', '.join(data.classes)}")
    for note in data.notes:
        print(f"note    {note}")


def search(
    experiment: Annotated[str, typer.Argument(help="A TOML file, or the name of a shipped experiment.")],
    out: Annotated[Path, typer.Option(help="Folder of the study.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study in --out.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Candidates measured at once; several run on Ray. Default: the experiment's, 1.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster, host:port or auto; with all its room if no --workers.")
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="At the end, retrain the best with several seeds: nasneck confirm OUT.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write scalars for TensorBoard to OUT/tensorboard as well.")
    ] = False,
    set_: Sets = None,
) -> int:
    """Search for a neck."""
    from contextlib import ExitStack

    from nasneck.cli.display import Display
    from nasneck.cli.words import cells, table
    from nasneck.experiment import load_experiment, with_workers
    from nasneck.runner import Progress
    from nasneck.search import search as run_search

    settings = with_workers(load_experiment(experiment, set_ or ()), workers=workers, address=address)
    command = ["nasneck", "search", experiment, "--out", str(out), *(f"--set={change}" for change in set_ or ())]
    command += [f"--workers={workers}"] if workers is not None else []
    command += [f"--address={address}"] if address is not None else []
    command += ["--confirm"] if confirm else []
    command += ["--tensorboard"] if tensorboard else []
    with ExitStack() as stack:
        display = stack.enter_context(Display())
        board = stack.enter_context(_board(out, display.warn)) if tensorboard else None
        listeners: list[Callable[[Progress], object]] = [display.trial, *([board] if board else [])]
        try:
            result = run_search(
                settings,
                out,
                resume_study=resume,
                on_event=lambda progress: [listen(progress) for listen in listeners],
                on_prepare=display.prepare,
                on_warning=display.warn,
            )
        except KeyboardInterrupt:
            # Before the study is there, there is nothing to resume.
            again = [*command, "--resume"] if (out / "study.sqlite").exists() else command
            display.say(f"interrupted before the first trial; go on with: {shlex.join(again)}")
            return 130
        if board is not None:
            board.finish()
        display.finish()
    print(result.summary.text)
    best = result.summary.best
    if best is not None and best.measurement is not None:
        print(f"best: trial {best.number}, reward {best.measurement.reward:.4f}, graph {best.graph_key}")
        print(f"study {out / 'study.sqlite'}, graph {out / 'best.json'}, drawing {out / 'best.svg'}")
    if result.front:
        print(
            f"Pareto front of {', '.join(settings.objective.names)}: {len(result.front)} trials, in {out / 'front.csv'}"
        )
        print("\n".join(table([cells(trial) for trial in result.front])))
    if result.summary.interrupted:
        print(f"go on with: {shlex.join([*command, '--resume'])}")
        return 130
    if best is None:
        print(f"no candidate could be measured; {out / 'trials.csv'} says why", file=sys.stderr)
        return 1
    if confirm:
        return _confirm(out, settings.confirm)
    folders = shlex.quote(str(out)), shlex.quote(str(out / "compare"))
    print(f"confirm it: nasneck confirm {folders[0]}")
    print(f"compare it: nasneck compare {folders[0]} fpn panet bifpn nas_fpn --out {folders[1]}")
    return 0


def confirm(
    run: Annotated[Path, typer.Argument(help="Folder of a study.")],
    top: Annotated[
        int | None, typer.Option(help="Candidates of the search to retrain. Default: the experiment's.")
    ] = None,
    necks: Annotated[
        str | None, typer.Option(help="Fixed necks beside them, such as fpn,bifpn; '' for none. Default: likewise.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trainings of each. Default: likewise.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of each. Default: likewise, or twice the search's.")] = None,
) -> int:
    """Retrain the best of a search with several seeds; name the winner."""
    from nasneck.search import study_experiment
    from nasneck.study import Study

    with Study.read(run) as read:
        settings = study_experiment(read).confirm
    return _confirm(run, changed_confirm(settings, top=top, necks=necks, seeds=seeds, steps=steps))


def status(
    runs: Annotated[list[str], typer.Argument(help="Folders of studies.")],
    json: Annotated[bool, typer.Option("--json", help="As a JSON list, one object a run.")] = False,
) -> None:
    """Say how searches stand, also while they run."""
    from json import dumps

    from nasneck.cli.status import as_json, read_status
    from nasneck.cli.status_text import as_text

    found, missing = [], []
    for run in runs:
        try:
            found.append(read_status(Path(run)))
        except StudyError as error:
            missing.append(str(error))
    if json:
        print(dumps([as_json(one) for one in found], indent=2))
    elif found:
        print("\n\n".join(as_text(one) for one in found))
    if missing:  # those that are there have been told by now
        raise StudyError("; ".join(missing))


def study(
    run: Annotated[Path, typer.Argument(help="Folder of a study.")],
    last: Annotated[int | None, typer.Option(help="Only so many trials, the newest ones.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all that is known of each trial as CSV.")] = None,
    to_optuna: Annotated[
        Path | None, typer.Option(help="Write a new SQLite file that optuna-dashboard opens (sqlite:///FILE).")
    ] = None,
) -> None:
    """Print the trials of a study, or write them as files."""
    from nasneck.cli.words import cells, table
    from nasneck.files import write_atomically
    from nasneck.study import Study

    if last is not None and last < 1:
        raise ConfigError(f"--last {last} must be at least 1")
    if last is not None and (csv or to_optuna):
        raise ConfigError("--last is for the table that is printed; --csv and --to-optuna write all trials")
    if csv is not None and csv.suffix != ".csv":
        raise ConfigError(f"--csv {csv}: the name should end in .csv")
    with Study.read(run.parent if run.name == "study.sqlite" else run) as read:
        if csv is None and to_optuna is None:
            trials = read.trials()
            print("\n".join(table([cells(trial) for trial in trials[-(last or len(trials)) :]])))
        if to_optuna is not None:  # the one that can be refused comes first
            from nasneck.study.optuna_file import write_optuna

            write_optuna(read, to_optuna)
            print(f"{to_optuna}, to be seen with: optuna-dashboard {shlex.quote(f'sqlite:///{to_optuna}')}")
        if csv is not None:
            print(write_atomically(csv, read.frame().to_csv(index=False)))


def compare(
    necks: Annotated[list[str], typer.Argument(help="Runs, fixed necks (bifpn:repeats=3), graph files.")],
    out: Annotated[Path, typer.Option(help="Folder of the comparison.")],
    experiment: Annotated[
        str | None, typer.Option(help="A TOML file or shipped experiment; by default that of the first run named.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trainings of each neck.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Repeats of necks that state none; default: the space's.")] = None,
    split: Annotated[Literal["test", "reward"], typer.Option(help="Split that AP is taken on.")] = "test",
    set_: Sets = None,
) -> int:
    """Train several necks under one budget and print a table."""
    from nasneck.cli.display import Display
    from nasneck.comparison import run_comparison

    with Display() as display:
        try:
            result = run_comparison(
                necks,
                out,
                experiment=experiment,
                changes=set_ or (),
                seeds=seeds,
                repeats=repeats,
                split=split,
                on_event=display.training,
                on_prepare=display.prepare,
                on_warning=display.warn,
            )
        except KeyboardInterrupt:
            display.say("interrupted; the same command goes on where it was")
            return 130
        display.finish()
        display.table(result.rows)
    print(f"rows {result.csv}, table {result.markdown}")
    return 0 if any(row["state"] == "ok" for row in result.rows) else 1


def export(
    neck: Annotated[str, typer.Argument(help="A run (runs/q, runs/q#7), a fixed neck or a graph file.")],
    in_channels: Annotated[str, typer.Option(help="Widths of the backbone features, such as 3:512,4:1024,5:2048.")],
    out: Annotated[Path, typer.Option(help="Python file to write.")],
    channels: Annotated[int, typer.Option(help="Width of the neck.")] = 256,
    norm: Annotated[
        Literal["batch", "group", "frozen"] | None,
        typer.Option(help="What normalises; default: as in the study, or batch."),
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Repeats, in place of the study's.")] = None,
    inputs: Annotated[
        str | None, typer.Option(help="First and last level of the backbone; default: those of --in-channels.")
    ] = None,
    levels: Levels = None,
) -> None:
    """Write a neck as one Python file that needs torch alone."""
    import torch

    from nasneck.cells import as_norm
    from nasneck.compile import compile_neck
    from nasneck.cost import count_parameters
    from nasneck.export import neck_source
    from nasneck.files import write_atomically
    from nasneck.targets import resolve

    widths = parse_channels(in_channels)
    given = _range(inputs) or (min(widths), max(widths))
    target = resolve(neck, inputs=given, levels=_range(levels), repeats=repeats)
    _note(target)
    with torch.device("meta"):  # only the structure is wanted
        module = compile_neck(target.graph, widths, channels, norm=norm or as_norm(target.norm))
    if out.suffix != ".py":
        raise ConfigError(f"--out {out}: the name should end in .py")
    write_atomically(out, neck_source(module, comment=f"From {target.name}."))
    outputs = ", ".join(f"P{level} {width}" for level, width in module.out_channels.items())
    print(f"{out}: class Neck, {count_parameters(module) / 1e6:.2f} M parameters, gives {outputs}")


def _note(target: Target) -> None:
    if target.note:
        print(f"note: {target.note}", file=sys.stderr)


def _confirm(run: Path, settings: ConfirmConfig) -> int:
    from nasneck.cli.display import Display
    from nasneck.confirm import confirm as run_confirm

    with Display() as display:
        try:
            found = run_confirm(
                run,
                settings=settings,
                on_event=display.training,
                on_prepare=display.prepare,
                on_warning=display.warn,
            )
        except KeyboardInterrupt:
            display.say(f"interrupted; nasneck confirm {shlex.quote(str(run))} goes on where it was")
            return 130
        display.finish()
        display.table(found.rows)
    print(found.text)
    print(f"rows {found.folder / 'confirm.csv'}, table {found.folder / 'confirm.md'}, winner {run / 'winner.json'}")
    return 0


def _board(out: Path, on_warning: Callable[[str], object]) -> Board:
    from nasneck.runner.board import Board

    return Board(out, on_warning=on_warning)


def _range(text: str | None) -> tuple[int, int] | None:
    return None if text is None else parse_range(text)
