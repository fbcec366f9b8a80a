"""Searching with several workers at once, on Ray Tune.

    desk ──next()──> searcher.suggest ──> Tune ──> Worker.step, in its own process, on some machine
         <─finish()─ searcher.on_trial_complete <──────────┘ (measurement; in the spool by then)

Tune starts, places and watches the workers. It decides nothing and its own snapshots are not used: what is
asked and measured is the study's. A worker that dies, alone or with its machine, costs a new attempt.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from nasneck.errors import ClusterError
from nasneck.runner.asha import make_scheduler
from nasneck.runner.cluster import PATIENCE_S, Share, cause
from nasneck.runner.desk import Desk, Job, Space
from nasneck.runner.halving import Halving
from nasneck.runner.measuring import Evaluate
from nasneck.runner.progress import Summary
from nasneck.runner.spool import Spool
from nasneck.runner.worker import REPLACED, Worker
from nasneck.trial import Measurement, State

ATTEMPTS = 3  # so many workers may die over one candidate; then it is recorded as failed
LETHAL = 5  # so many candidates in a row that nobody survives: it is not the candidates

_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the search at once; everything finished is in the log
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "RAY_AIR_NEW_OUTPUT": "0",  # the older output is the one that can be silenced
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a candidate that fails has no score
}


def run_on_tune(
    desk: Desk[Any],
    make: Callable[[], Evaluate],
    *,
    space: Space[Any],
    workers: int,
    share: Share,
    spool: Spool | None,
    scratch: Path,
    halving: Callable[[], Halving | None] = lambda: None,
    timeout_s: float = 0.0,
    on_warning: Callable[[str], object] = lambda text: None,
) -> Summary:
    """Search until the desk has no more jobs, on the Ray that this process is connected to.

    Args:
        desk: Says what to evaluate and takes the measurements in.
        make: Called once in each worker; returns what measures a graph. Sent to the workers, like ``space``.
        space: Decodes choices there.
        workers: Candidates measured at once, if the cluster has room.
        share: Resources of each.
        spool: Where workers leave what they finished; None keeps only what the driver commits.
        scratch: Folder for Tune's own files; removed at the end.
        halving: Gives the state of successive halving by the study as it is then; None for none. Tune's ASHA decides.
        timeout_s: Time limit of an evaluation; a worker that hangs beyond it is ended, and the trial recorded: by way
            of the spool, so that without a shared one it takes as many attempts as any death.
        on_warning: Told when a worker dies, a line each.

    Returns:
        How it ended, as :func:`nasneck.runner.in_process.run` does. After Ctrl-C, which does not wait for
        workers, these live until the process disconnects from Ray.

    Raises:
        ClusterError: workers cannot start, or die again and again.
        StudyError: a study that cannot be written.
    """
    searcher = DeskSearcher(desk, spool, workers=workers, on_warning=on_warning)
    state = halving()
    trainable: Any = tune.with_parameters(
        Worker,
        make=make,
        space=space,
        spool=spool,
        share=share,
        reduction=state.reduction if state is not None else 1.0,
        timeout_s=timeout_s,
    )

    def tuner() -> tune.Tuner:
        state = halving()
        return tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory([share.bundle()])),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=make_scheduler(state) if state is not None else None,
                num_samples=-1,
                max_concurrent_trials=workers,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                # A name of its own, so that two searches on one cluster share nothing.
                name=f"nasneck-{uuid.uuid4().hex[:12]}",
                storage_path=str(scratch.absolute()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[_Watch(searcher)],
            ),
        )

    try:
        with _environment(_SETTINGS):
            while not searcher.done:
                shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
                try:
                    tuner().fit()
                except Exception as error:
                    searcher.broke_off(error)
                    continue
                if not searcher.done:
                    break  # by a signal that Tune takes for a wish to end
    except KeyboardInterrupt:
        pass
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return desk.summary(interrupted=not searcher.done)


class DeskSearcher(Searcher):
    """Ray Tune's view of a desk.

    The first exception is kept in ``problem`` and raised again at every call. Tune takes one that comes from
    :meth:`on_trial_complete` for a failure of the trial; one from :meth:`suggest` ends its run.
    """

    def __init__(
        self, desk: Desk[Any], spool: Spool | None, *, workers: int, on_warning: Callable[[str], object]
    ) -> None:
        super().__init__()
        self.problem: BaseException | None = None
        self.on_warning = on_warning
        self._desk = desk
        self._spool = spool
        self._jobs: dict[str, Job[Any]] = {}  # by Tune's trial id
        self._again: deque[Job[Any]] = deque()
        self._attempts: dict[int, int] = {}
        # In a row, without a measurement in between:
        self._deaths = self._no_starts = 0
        self._most_deaths = ATTEMPTS * max(LETHAL, 2 * workers)

    @property
    def done(self) -> bool:
        """Whether the desk has nothing more to do."""
        # A running job may come back, if its worker dies.
        return self._desk.closed and not self._desk.running

    def suggest(self, trial_id: str) -> Any:
        """The next job as a configuration; None if there is none now."""
        with self._noted():
            job = self._again.popleft() if self._again else self._desk.next()
            if job is None:
                return Searcher.FINISHED if self.done else None
            self._jobs[trial_id] = job
            # As one text: Tune copies and flattens a configuration several times a trial, value by value.
            return {
                "job": json.dumps(
                    {
                        "number": job.number,
                        "choices": list(job.trial.choices),
                        "cache_key": job.cache_key,
                        "latencies": dict(job.latencies),
                    }
                )
            }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A candidate came to a rung: the scheduler's affair."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take a measurement in. Errors come with their reason to :meth:`failed`."""
        if error or result is None:
            return
        with self._noted():
            if "fatal" in result:
                raise ClusterError(str(result["fatal"]))
            self._deaths = self._no_starts = 0
            measurement = Measurement.from_dict(json.loads(result["measurement"]))
            job = self._jobs.pop(trial_id)
            self._finish(job, measurement, self._attempts.get(job.number, 0))

    def failed(self, trial_id: str, reason: str, *, started: bool = True) -> None:
        """A worker died over a trial, or could not start for it."""
        with self._noted():
            job = self._jobs.pop(trial_id, None)
            if job is None:
                return
            if REPLACED in reason:
                self.on_warning(f"trial {job.number} goes to a new worker: that of before was ended, as {REPLACED}")
                self._again.append(job)
                return
            if not started:
                self._no_starts += 1
                if self._no_starts >= ATTEMPTS:
                    raise ClusterError(f"workers cannot start: {reason}")
                self.on_warning(f"trial {job.number}: its worker could not start; another is tried ({reason})")
                self._again.append(job)
                return
            self._deaths += 1
            attempts = self._attempts[job.number] = self._attempts.get(job.number, 0) + 1
            if self._deaths >= self._most_deaths:
                raise ClusterError(f"{self._deaths} workers died in a row without a result; the last one: {reason}")
            if attempts < ATTEMPTS:
                self.on_warning(f"trial {job.number}: its worker died and it is measured again ({reason})")
                self._again.append(job)
            else:
                state = State.OOM if "low on memory" in reason else State.ERROR
                text = f"{attempts} workers died over it; the last one: {reason}"
                self._finish(job, Measurement(state, text=text), attempts - 1)  # the last death is the attempt itself

    def broke_off(self, error: Exception) -> None:
        """Tune's run ended with ``error`` and all its workers with it.

        Some deaths end it, such as by Ray's memory monitor: they come as an exception that Tune does not know.

        Raises:
            NasneckError: it was a problem of ours, or one with nobody at work.
        """
        if self.problem is not None:
            raise self.problem
        if not self._jobs:
            raise ClusterError(f"Ray Tune failed: {cause(error)}") from error
        for trial_id in list(self._jobs):
            self.failed(trial_id, cause(error))

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into files that are never read; a study is no part of them."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: the study has everything."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a search is resumed from its study."""

    def _finish(self, job: Job[Any], measurement: Measurement, deaths: int) -> None:
        self._desk.finish(job.number, measurement, deaths=deaths)
        self._attempts.pop(job.number, None)
        if self._spool is not None:
            self._spool.drop(job.number)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        if self.problem is not None:
            raise self.problem
        try:
            yield
        except BaseException as error:
            self.problem = error
            raise


class _Watch(tune.Callback):
    """Tells the searcher why a trial failed, which Tune itself does not, and the user if nothing happens."""

    def __init__(self, searcher: DeskSearcher) -> None:
        self._searcher = searcher
        self._busy = self._looked = time.monotonic()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        path = trial.error_file
        lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n") if path else []
        text = "\n".join(lines)
        last = next((line for line in reversed(lines) if line.strip()), "no reason given").strip()
        # Raised, not died: as it was made, or (a mistake of ours) at its work.
        raised = "creation task" in text or "RayTaskError" in text
        self._searcher.failed(trial.trial_id, last[:300], started=not raised)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        now = time.monotonic()
        if now - self._looked < 5:  # all trials are looked through, and there are many steps a second
            return
        self._looked = now
        states = {trial.status for trial in trials}
        if "RUNNING" in states or "PENDING" not in states:
            self._busy = now
        elif now - self._busy > PATIENCE_S:
            self._busy = now
            self._searcher.on_warning("no worker is there: the cluster is busy, or has lost its machines; waiting")


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Settings that Tune reads from the environment only; afterwards as before."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
