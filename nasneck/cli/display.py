"""What a running search or comparison shows: a live table or line on a terminal, plain lines elsewhere.

A search on a terminal:

    best      0.4321, trial 7      finished  12 of 24
    running   2                    failed    1
    ...
    trial  state    reward  params   MACs  latency  time
       13  running       -       -      -        -  12 s
       12  ok       0.4012   460 k  107 M   7.1 ms  31 s
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nasneck.cli.words import HEAD, NONE, TO_THE_RIGHT, cells, duration, rate, reward
from nasneck.compare import Training
from nasneck.report import COLUMNS, legend, summarize, table_rows
from nasneck.runner.progress import Progress
from nasneck.trial import State, Trial

RUNNING, ENDED = 8, 5  # so many of each are shown; a terminal has some twenty lines


class Display:
    """Events of a search as text. Use as a context manager.

    Args:
        console: Where to; standard output by default.
        clock: Seconds since some moment.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(soft_wrap=True, highlight=False)
        self._clock = clock
        self._start = clock()
        self._prepared = ""
        self._shown = 0.0
        self._board: _Board | None = None
        self._live = Live(console=self._console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self) -> None:
        """Take what is live away; the last state of a search stays."""
        if self._live.is_started:
            self._live.stop()
            if self._board is not None:
                self._console.print(self._board.final())

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(text))

    def warn(self, text: str) -> None:
        """A line that stays, marked as something to know."""
        self.say(f"note: {text}")

    def prepare(self, what: str, done: int, total: int) -> None:
        """Progress of something that comes before the first trial."""
        share = f"{100 * done // max(total, 1)} %"
        if self._live.is_started:
            self._status(f"{what}: {share}")
        elif what != self._prepared or done >= total or self._clock() - self._shown > 10:
            self._shown = self._clock()
            self.say(f"{what}: {share}")
        self._prepared = what

    def trial(self, progress: Progress) -> None:
        """A trial of a search started or ended."""
        if self._live.is_started:
            if self._board is None:
                self._board = _Board(self._clock)
                self._live.update(self._board)
            self._board.take(progress)
        elif progress.trial.state is not None:
            self.say(_line(progress))

    def training(self, training: Training) -> None:
        """A training of a comparison started or ended."""
        measured = training.measurement
        if measured is None:
            self._status(f"{training.name}, seed {training.seed}, is training; {training.done}/{training.total} done")
            return
        if measured.state is State.OK and measured.ap is not None:
            result = f"AP {measured.ap:.4f}" + (" (measured before)" if training.remembered else "")
        else:
            result = f"{measured.state}: {measured.text}"
        rest = (self._clock() - self._start) / max(training.done, 1) * (training.total - training.done)
        self.say(
            f"{training.name:<16} seed {training.seed}  {result}  {training.done}/{training.total} done  "
            f"{duration(rest)} left"
        )

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The result of a comparison."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for i, column in enumerate(COLUMNS):
            table.add_column(column, justify="right" if i else "left", no_wrap=True)
        for row in table_rows(summarize(rows)):
            table.add_row(*row)
        self._console.print()
        self._console.print(table)
        self._console.print()
        self.say(legend(rows))

    def _status(self, text: str) -> None:
        if self._live.is_started:
            self._live.update(Text(text, style="dim"))


class _Board:
    """The live table. The console draws it from a thread of its own, so what it reads is replaced, never changed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._progress: Progress | None = None
        self._heard = 0.0
        self._running: dict[int, tuple[Trial, float]] = {}
        self._ended: tuple[Trial, ...] = ()

    def take(self, progress: Progress) -> None:
        """Go on to the state after an event."""
        trial, now = progress.trial, self._clock()
        others = {number: entry for number, entry in self._running.items() if number != trial.number}
        if trial.state is None:
            self._running = {**others, trial.number: (trial, now)}
        else:
            self._ended = (trial, *self._ended)[:ENDED]
            self._running = others
        self._progress, self._heard = progress, now

    def __rich__(self) -> RenderableType:
        """As it stands now: the clocks go on between events."""
        return self._picture(self._running)

    def final(self) -> RenderableType:
        """What stays when nothing runs any more."""
        return self._picture({})

    def _picture(self, running: Mapping[int, tuple[Trial, float]]) -> RenderableType:
        if self._progress is None:
            return Text("")
        now = self._clock()
        facts = _facts(self._progress, running=len(running), since=now - self._heard)
        grid = Table.grid(padding=(0, 3, 0, 0))
        for i in range(0, len(facts), 2):
            pair = [[Text(label, style="dim"), Text(value)] for label, value in facts[i : i + 2]]
            grid.add_row(*pair[0], *pair[1])
        rows = [cells(trial, seconds=now - began) for trial, began in running.values()]
        return Group(grid, Text(""), _trials(rows, self._ended))


def _trials(running: Sequence[Sequence[str]], ended: Sequence[Trial]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    shown = [name for name in HEAD if name != "source"]
    for name in shown:
        table.add_column(name, justify="right" if name in TO_THE_RIGHT else "left", no_wrap=True)
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)  # what room is left is for the reason
    for row in running[:RUNNING]:
        table.add_row(*_without_source(row), "", style="dim")
    if len(running) > RUNNING:
        table.add_row("", "running", *[""] * (len(shown) - 2), f"and {len(running) - RUNNING} more", style="dim")
    for trial in ended:
        table.add_row(*_without_source(cells(trial)), Text(trial.measurement.text if trial.measurement else ""))
    return table


def _without_source(row: Sequence[str]) -> list[str]:
    return [cell for cell, name in zip(row, HEAD, strict=True) if name != "source"]


def _facts(progress: Progress, *, running: int, since: float) -> list[tuple[str, str]]:
    """Label and value, two to a line; ``since`` is the time since the event."""
    best = NONE
    if progress.best is not None:
        best = f"{reward(progress.best.measurement)}, trial {progress.best.number}"
    left = progress.seconds_left
    return [
        ("best reward", best),
        ("finished", f"{progress.measured} of {progress.budget}"),
        ("running", str(running)),
        ("failed", str(progress.failed)),
        ("rejected", str(progress.rejected)),
        ("pruned", str(progress.pruned)),
        ("cached", str(progress.cached)),
        ("candidates/hour", rate(progress.candidates_per_hour)),
        ("time left", "unknown" if left is None else duration(max(0.0, left - since))),
        ("elapsed", duration(progress.seconds + since)),
    ]


def _line(progress: Progress) -> str:
    """An ended trial where lines are all there is."""
    trial = progress.trial
    measured = trial.measurement
    if trial.state in (State.OK, State.CACHED) and measured is not None and measured.reward is not None:
        result = f"reward {measured.reward:.4f}" + (" (measured before)" if trial.state is State.CACHED else "")
    else:
        result = f"{trial.state}: {measured.text if measured else ''}"
    left = progress.seconds_left
    more = {
        "cached": progress.cached,
        "failed": progress.failed,
        "rejected": progress.rejected,
        "pruned": progress.pruned,
    }
    ends = [f"{number} {name}" for name, number in more.items() if number]
    speed = [] if progress.candidates_per_hour is None else [f"{rate(progress.candidates_per_hour)} per hour"]
    return "  ".join(
        [
            f"trial {trial.number:>3}",
            result,
            f"best {reward(progress.best.measurement if progress.best else None)}",
            f"{progress.measured}/{progress.budget} done",
            "time left unknown" if left is None else f"{duration(left)} left",
            *speed,
            *([", ".join(ends)] if ends else []),
        ]
    )
