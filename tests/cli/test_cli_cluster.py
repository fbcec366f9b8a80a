"""A real search on two nodes that loses a worker and then a node, and two searches at once on one cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_process import Cli

from nasneck.study import Study
from nasneck.trial import State, Trial

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@dataclass
class Nodes:
    """The cluster of ``cluster_nodes``."""

    process: subprocess.Popen[str]
    address: str
    raylets: list[int]

    def workers(self, node: int) -> list[Any]:
        """Processes of a node that are measuring."""
        found = []
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.raylets[node]).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "Trainable.train" in " ".join(child.cmdline()):
                        found.append(child)
        return found

    def remove_second(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("remove\n")
        self.process.stdin.flush()


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    program = [sys.executable, str(Path(__file__).with_name("cluster_nodes.py"))]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        # Ray's own lines come first.
        line = next(line for line in process.stdout if line.startswith('{"address"'))
        yield Nodes(process, **json.loads(line))
        process.stdin.close()


def trials_of(folder: Any) -> list[Trial]:
    with contextlib.suppress(Exception), Study.read(folder) as study:
        return study.trials()
    return []


def ended(folder: Any) -> int:
    return sum(trial.state is not None for trial in trials_of(folder))


def first(look: Callable[[], list[Any]], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "nobody is measuring"
        time.sleep(0.05)
    return found[0]


@pytest.mark.long
def test_a_worker_and_then_a_node_are_lost(cli: Cli, experiment: str, cluster: Nodes) -> None:
    args = ["search", experiment, "--out", "q", "--address", cluster.address, "--set", "proxy.steps=400"]
    running = cli.start(*args, "--set", "search.trials=14")
    folder = cli.cwd / "q"
    running.until(lambda: ended(folder) >= 2, 180)
    first(lambda: cluster.workers(0)).kill()
    before = ended(folder)
    running.until(lambda: ended(folder) >= before + 2, 180)
    first(lambda: cluster.workers(1))  # it has something to lose
    cluster.remove_second()
    result = running.wait()
    assert result.code == 0, result.err
    assert "14 trials measured" in result.out
    assert len(re.findall(r"its worker died and it is measured again", result.out)) >= 2
    trials = trials_of(folder)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert {trial.state for trial in trials} <= {State.OK, State.CACHED}
    measured = [trial.graph_key for trial in trials if trial.state is State.OK]
    assert len(measured) == 14 == len(set(measured)), "all, and none twice"
    assert not (folder / ".spool").exists()


@pytest.mark.long
def test_two_searches_at_once_on_one_cluster(cli: Cli, experiment: str, cluster: Nodes) -> None:
    def start(name: str, seed: int) -> Any:
        args = ["--address", cluster.address, "--workers", 1, "--set", f"seed={seed}"]
        return cli.start("search", experiment, "--out", name, *args)

    both = [start("a", 1), start("b", 2)]
    for running in both:
        result = running.wait()
        assert result.code == 0, result.err
        assert "3 trials measured" in result.out
    for name, seed in (("a", 1), ("b", 2)):
        cli.good("search", experiment, "--out", f"{name}-alone", "--set", f"seed={seed}")
        together, alone = trials_of(cli.cwd / name), trials_of(cli.cwd / f"{name}-alone")
        rewards = [
            [(t.graph_key, t.measurement.reward, t.measurement.loss) for t in ts if t.measurement]
            for ts in (together, alone)
        ]
        assert rewards[0] == rewards[1]
