"""A search as scalars for TensorBoard, in ``<run>/tensorboard``.

step = number of the trial; a scalar is left out where a trial has none

    trial/reward, trial/objective            of a whole training, and the first value that the strategy was told of it
    trial/seconds, trial/parameters, trial/macs, trial/latency_ms
    search/best_reward, search/measured, search/failed, search/cached, search/rejected, search/pruned
                                             of this trial and all before it, by number

Trials are written in the order of their numbers, each when all before it have ended: TensorBoard takes a smaller step
after a larger one for a restart, and forgets what it had. The study is the source of truth: a run begins by writing
what the study holds anew, so nothing is missing or there twice, whatever became of the process before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nasneck.errors import ConfigError, NasneckError
from nasneck.files import check_folder
from nasneck.runner.progress import Progress
from nasneck.runner.tally import Tally
from nasneck.study import Study
from nasneck.study.entries import entries
from nasneck.trial import State, Trial

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
_FILES = "events.out.tfevents."


class Board:
    """Writes events of a search; call it with each :class:`Progress`. Use as a context manager.

    Nothing is written before the first event, and nothing that goes wrong with writing ends the search.

    Args:
        folder: Of the study.
        on_warning: Told once if the files cannot be written.

    Raises:
        ConfigError: TensorBoard is not installed, or the folder cannot be written.
    """

    def __init__(self, folder: str | Path, *, on_warning: Callable[[str], object] = lambda text: None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(f"TensorBoard is missing ({error}); pip install tensorboard") from None
        self._make = SummaryWriter
        self._study = Path(folder)
        self.folder = self._study / FOLDER
        check_folder(self.folder)
        self._on_warning = on_warning
        self._writer: SummaryWriter | None = None
        self._broken = False
        self._waiting: dict[int, tuple[Trial, float]] = {}
        self._next = 0
        self._rung: int | None = None  # of whole trainings
        self._tally = Tally((), budget=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, progress: Progress) -> None:
        """A trial started or ended."""
        self._guarded(lambda: self._take(progress.trial))

    def finish(self) -> None:
        """The search has ended: write the rest, past trials that are not finished, and all of it if nothing came."""
        self._guarded(self._finish)

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        writer, self._writer, self._broken = self._writer, None, True
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                self._warn(error)

    def _guarded(self, write: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            write()
        except (OSError, NasneckError) as error:
            self._broken = True
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        self._on_warning(f"{self.folder}: no more scalars can be written ({reason})")

    def _take(self, trial: Trial) -> None:
        self._begin()
        if trial.state is not None and trial.number >= self._next:
            self._waiting[trial.number] = (trial, time.time())
        self._write_ready()

    def _finish(self) -> None:
        self._begin()
        for number in sorted(self._waiting):
            if number in self._waiting:  # else it was written with the one before
                self._next = number
                self._write_ready()

    def _begin(self) -> None:
        """Make the file, in place of earlier ones, with what the study holds."""
        if self._writer is not None:
            return
        # Read first: after an interruption in here the next attempt finds no writer and begins anew.
        with Study.read(self._study) as study:
            for entry in entries(study):
                if entry.told is not None:
                    self._waiting[entry.number] = (entry.trial, entry.told.time)
        old = list(self.folder.glob(f"{_FILES}*")) if self.folder.is_dir() else []
        # TensorBoard reads files by name, and the first part of a name is the second in which it was made.
        latest = max((_second(path) for path in old), default=0)
        time.sleep(min(1.0, max(0.0, latest + 1 - time.time())))
        # The step tells a TensorBoard that is looking on to forget what it has read from the old files.
        self._writer = self._make(str(self.folder), purge_step=0)
        for path in old:
            # A TensorBoard that is reading a file would not find the way from one that is gone to the next one.
            if path.stat().st_size:
                os.truncate(path, 0)
            else:
                path.unlink()
        self._write_ready()

    def _write_ready(self) -> None:
        assert self._writer is not None
        before = self._next
        while self._next in self._waiting:
            self._write(self._writer, *self._waiting.pop(self._next))
            self._next += 1
        if self._next > before:
            self._writer.flush()

    def _write(self, writer: SummaryWriter, trial: Trial, moment: float) -> None:
        measured = trial.measurement
        assert measured is not None
        tally = self._tally
        tally.add(trial, seconds=measured.seconds)
        if trial.state is State.OK:
            self._rung = measured.rung
        # What a training gave that was stopped early is on another scale, also as a duplicate's.
        whole = trial.state is State.OK or (trial.state is State.CACHED and measured.rung == self._rung)
        best = tally.best.measurement.reward if tally.best and tally.best.measurement else None
        scalars = {
            "trial/reward": measured.reward if whole else None,
            "trial/objective": trial.values[0] if whole and trial.values else None,
            "trial/seconds": None if trial.state is State.CACHED else measured.seconds,
            "trial/parameters": measured.parameters,
            "trial/macs": measured.macs,
            "trial/latency_ms": measured.latency_ms,
            "search/best_reward": best,
            "search/measured": tally.measured,
            "search/failed": tally.failed,
            "search/cached": tally.cached,
            "search/rejected": tally.rejected,
            "search/pruned": tally.pruned,
        }
        for tag, value in scalars.items():
            if value is not None:  # a number that is not finite is shown as such
                writer.add_scalar(tag, value, trial.number, walltime=moment)


def _second(path: Path) -> int:
    text = path.name.removeprefix(_FILES).partition(".")[0]
    return int(text) if text.isdecimal() else 0
