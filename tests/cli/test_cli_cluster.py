"""A real search on two nodes that loses a worker and then a node, and two searches at once on one cluster."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cli_process import Cli

from nasneck.study import Study
from nasneck.trial import State, Trial

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray")
# Warnings of Ray's own modules.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def workers_of(node: Any) -> list[Any]:
    """Processes of a node that are measuring."""
    found = []
    for raylet in node.all_processes["raylet"]:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(raylet.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "Trainable.train" in " ".join(child.cmdline()):
                        found.append(child)
    return found


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


def test_a_worker_and_then_a_node_are_lost(cli: Cli, experiment: str, cluster: Any) -> None:
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    args = ["search", experiment, "--out", "q", "--address", cluster.address, "--set", "proxy.steps=60"]
    running = cli.start(*args, "--set", "search.trials=14")
    folder = cli.cwd / "q"
    running.until(lambda: ended(folder) >= 2, 180)
    first(lambda: workers_of(cluster.head_node)).kill()
    before = ended(folder)
    running.until(lambda: ended(folder) >= before + 2, 180)
    first(lambda: workers_of(second))  # it has something to lose
    cluster.remove_node(second, allow_graceful=False)
    result = running.wait()
    assert result.code == 0, result.err
    assert "14 trials measured" in result.out
    assert len(re.findall(r"its worker died and it is measured again", result.out)) >= 2
    trials = trials_of(folder)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert {trial.state for trial in trials} <= {State.OK, State.CACHED}
    measured = [trial.graph_key for trial in trials if trial.state is State.OK]
    assert len(measured) == 14 == len(set(measured)), "all, and none twice"
    assert not (folder / "spool").exists() and not (folder / "tune").exists()


def test_two_searches_at_once_on_one_cluster(cli: Cli, experiment: str, cluster: Any) -> None:
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()

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
