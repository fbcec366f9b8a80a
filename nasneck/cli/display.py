"""What a running search or comparison shows: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nasneck.compare import Training
from nasneck.report import COLUMNS, legend, summarize, table_rows
from nasneck.runner.progress import Progress
from nasneck.trial import State


class Display:
    """Events of a search as text. Use as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(soft_wrap=True, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._start = time.monotonic()
        self._prepared = ""
        self._shown = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self) -> None:
        """Take the live line away."""
        if self._live.is_started:
            self._live.stop()

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
        elif what != self._prepared or done >= total or time.monotonic() - self._shown > 10:
            self._shown = time.monotonic()
            self.say(f"{what}: {share}")
        self._prepared = what

    def trial(self, progress: Progress) -> None:
        """A trial of a search started or ended."""
        trial = progress.trial
        if trial.state is None:
            self._status(f"trial {trial.number} is training; {self._left(progress)}")
            return
        measured = trial.measurement
        if trial.state in (State.OK, State.CACHED) and measured is not None and measured.reward is not None:
            result = f"reward {measured.reward:.4f}" + (" (measured before)" if trial.state is State.CACHED else "")
        else:
            result = f"{trial.state}: {measured.text if measured else ''}"
        best = progress.best.measurement.reward if progress.best and progress.best.measurement else None
        self.say(
            f"trial {trial.number:>3}  {result}  best {'-' if best is None else f'{best:.4f}'}  "
            f"{progress.measured}/{progress.budget} done  {self._left(progress)}"
        )

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
        rest = (time.monotonic() - self._start) / max(training.done, 1) * (training.total - training.done)
        self.say(
            f"{training.name:<16} seed {training.seed}  {result}  {training.done}/{training.total} done  "
            f"{_duration(rest)} left"
        )

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The result of a comparison."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for i, column in enumerate(COLUMNS):
            table.add_column(column, justify="right" if i else "left", no_wrap=True)
        for cells in table_rows(summarize(rows)):
            table.add_row(*cells)
        self._console.print()
        self._console.print(table)
        self._console.print()
        self.say(legend(rows))

    def _left(self, progress: Progress) -> str:
        if progress.seconds_left is None:
            return "time left unknown"
        return f"{_duration(progress.seconds_left)} left"

    def _status(self, text: str) -> None:
        if self._live.is_started:
            self._live.update(Text(text, style="dim"))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
