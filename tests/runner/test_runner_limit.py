"""Evaluations that hang, in the process; those of workers are in test_runner_tune_stages."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from search_fakes import FakeGraph, FakeSpace, Listed, cache_key, reward

import nasneck
from nasneck.runner import Desk, run
from nasneck.runner import limit as limits
from nasneck.runner.limit import Overdue, hard_limit, interrupted_after
from nasneck.study import Study
from nasneck.trial import Measurement, State

SPACE = FakeSpace(4, 5, 6, 2)


def test_the_limit_leaves_time_to_end_by_oneself() -> None:
    assert hard_limit(0.0) == float("inf")
    assert hard_limit(100.0) == 125.0


@pytest.mark.parametrize("wait", [lambda: time.sleep(30), lambda: threading.Event().wait(30)])
def test_whatever_waits_is_interrupted(wait: object) -> None:
    before = signal.getsignal(signal.SIGALRM)
    start = time.monotonic()
    with pytest.raises(Overdue, match="within 0 s"), interrupted_after(0.1):
        wait()  # type: ignore[operator]
    assert time.monotonic() - start < 10
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_what_ends_in_time_is_left_alone() -> None:
    with interrupted_after(0.05):
        pass
    time.sleep(0.1)


def test_in_another_thread_nothing_happens() -> None:
    seen = []

    def work() -> None:
        with interrupted_after(0.01):
            time.sleep(0.05)
            seen.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


class Hangs:
    def __call__(self, graph: FakeGraph) -> Iterator[Measurement]:
        if graph.numbers[0] == 1:
            yield Measurement(State.PRUNED, reward=-1.0, reward_kind="loss")
            try:
                while True:
                    time.sleep(1)
            except Exception:  # as libraries do
                yield Measurement(State.ERROR, text="caught on the way")
        yield Measurement(State.OK, reward=reward(graph))


def test_a_trial_that_hangs_is_recorded_and_the_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GRACE_S", 0.2)
    strategy = Listed(SPACE, [(0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0)])
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        summary = run(Desk(study, strategy, SPACE, cache_key, trials=3), Hangs(), timeout_s=0.1)
        states = [trial.state for trial in study.trials()]
        hung = study.trial(1).measurement
    assert states == [State.OK, State.TIMEOUT, State.OK]
    assert hung is not None and hung.text == "interrupted: it did not come to an end within 0 s"
    assert (summary.measured, summary.failed) == (3, 1)


HOLDS = """
import sys, time
from nasneck.runner import limit
limit.GRACE_S = 0.3
def last():
    print("last", flush=True)
with limit.ended_after(0.2, last):
    if sys.argv[1] == "waits":
        time.sleep(60)
    else:
        import re
        re.match("(a+)+$", "a" * 60 + "b")  # in C, and never lets go of the interpreter
print("too late")
"""


@pytest.mark.parametrize(("how", "said"), [("waits", "last\n"), ("holds", "")])
def test_a_process_that_hangs_is_ended(how: str, said: str) -> None:
    root = str(Path(nasneck.__file__).parents[1])
    start = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", HOLDS, how], capture_output=True, text=True, timeout=60, env={"PYTHONPATH": root}
    )
    assert ended.returncode == 1 and ended.stdout == said and ended.stderr == ""
    assert time.monotonic() - start < 40
