"""Searches with several workers: what they leave, and mistakes that concern them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from cli_process import Cli

from nasneck.study import Study

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray")
pytestmark = pytest.mark.slow

QUICK_REFUSALS = [
    (["--workers", "0"], "--workers 0 must be at least 1"),
    (["--workers", "-2"], "--workers -2 must be at least 1"),
    (["--set", "resources.workers=0"], r"\[resources\]: workers 0 must be at least 1"),
    (["--workers", "2", "--set", "resources.cpus_per_trial=0"], "cpus_per_trial 0 must be above 0"),
    (
        ["--workers", "2", "--set", "resources.gpus_per_trial=1.5"],
        "gpus_per_trial 1.5 must be a whole number or a part",
    ),
    (["--workers", "2", "--set", "device=cuda:0"], "device 'cuda:0' names one GPU, but with several workers Ray assig"),
    (["--address", ""], "--address is empty; give host:port or auto"),
    (["--workers", "2", "--set", "device=tpu"], "device 'tpu' is not one of auto, cpu, cuda"),
    (["--address", "head"], "address 'head' is neither host:port, such as 10.0.0.1:6379, nor auto"),
    (["--address", "ray://head:10001"], "Ray's client is not supported"),
    (["--address", "127.0.0.1:{closed}"], r"no Ray cluster answers at 127.0.0.1:\d+ \(Connection refused\); start one"),
    (["--workers", "2", "--set", "strategy.name=optuna", "--set", "strategy.sampler=tpee"], "unknown.*'tpee'.*'tpe'"),
    (["--workers", "2", "--set", "strategy.name=optuna", "--set", "strategy.sampler=cmaes"], "categorical"),
    (
        ["--workers", "2", "--set", "strategy.name=optuna", "--set", "strategy.sampler=brute_force"],
        "at most 2,000 vectors",
    ),
]


@pytest.fixture
def closed() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def running_in(folder: Path) -> list[str]:
    """Command lines of processes below ``folder``: what a search starts there, Ray's own and workers included."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


def all_ended(folder: Path) -> bool:
    """Whether nothing runs below ``folder`` any more, within some seconds."""
    deadline = time.monotonic() + 20
    while running_in(folder) and time.monotonic() < deadline:
        time.sleep(0.5)
    return not running_in(folder)


@pytest.mark.parametrize(("args", "match"), QUICK_REFUSALS)
def test_refused_at_once(cli: Cli, experiment: str, closed: int, args: list[str], match: str) -> None:
    start = time.monotonic()
    message = cli.bad("search", experiment, "--out", "q", *(arg.format(closed=closed) for arg in args))
    assert re.search(match, message), message
    assert time.monotonic() - start < 20
    assert not (cli.cwd / "q").exists()


@pytest.mark.long
def test_an_address_where_something_else_listens(cli: Cli, experiment: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_say_nothing, args=(server,), daemon=True)
        thread.start()
        start = time.monotonic()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        message = cli.bad("search", experiment, "--out", "q", "--address", address)
        assert f"no Ray cluster answers at {address}" in message
        assert time.monotonic() - start < 45  # 30 s, and what it takes to get there on a busy machine
    assert not (cli.cwd / "q").exists()


def _say_nothing(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        kept = []
        while True:
            kept.append(server.accept())


@pytest.mark.long
def test_more_gpus_than_any_node_has(cli: Cli, experiment: str) -> None:
    args = ["--workers", 2, "--set", "resources.gpus_per_trial=64"]
    message = cli.bad("search", experiment, "--out", "q", *args)
    assert re.search(r"a trial takes 1 CPUs and 64 GPUs, but no node has them: \S+ has 2 CPUs and \d+ GPUs", message)
    assert not (cli.cwd / "q").exists()
    assert all_ended(cli.cwd)


def test_two_workers_give_what_one_gives(cli: Cli, experiment: str) -> None:
    one = cli.good("search", experiment, "--out", "one")
    assert "3 trials measured" in one
    two = cli.good("search", experiment, "--out", "two", "--workers", 2)
    assert "3 trials measured" in two
    assert all_ended(cli.cwd)
    columns = ["choices", "graph_key", "state", "reward", "loss", "parameters", "macs", "seed"]
    frames = [pd.read_csv(cli.cwd / name / "trials.csv").sort_values("number")[columns] for name in ("one", "two")]
    pd.testing.assert_frame_equal(frames[0].reset_index(drop=True), frames[1].reset_index(drop=True))
    files = {path.name for path in (cli.cwd / "two").iterdir()}
    assert {name for name in files if not name.endswith(("-shm", "-wal"))} == {
        "best.json",
        "best.svg",
        "store",
        "study.lock",
        "study.sqlite",
        "trials.csv",
    }
    # The weights lie where a search in the process looks for them, and it goes on where the workers stopped.
    more = cli.good("search", experiment, "--out", "two", "--resume", "--set", "search.trials=4")
    assert "backbone training" not in more and "4 trials measured" in more


@pytest.mark.long
def test_ctrl_c_and_resume(cli: Cli, experiment: str) -> None:
    args = ["search", experiment, "--out", "q", "--workers", 2, "--set", "search.trials=4"]
    running = cli.start(*args, "--set", "proxy.steps=200")
    running.until(lambda: told(cli.cwd / "q") >= 1, 120)
    assert any("raylet" in line for line in running_in(cli.cwd))
    running.send(signal.SIGINT)
    ended = running.wait()
    assert ended.code == 130, ended.err
    assert "Traceback" not in ended.err + ended.out
    assert "--workers=2 --resume" in ended.out
    assert all_ended(cli.cwd)
    done = told(cli.cwd / "q")
    out = cli.good(*args, "--set", "proxy.steps=200", "--resume")
    assert "4 trials measured" in out and told(cli.cwd / "q") >= done
    assert not (cli.cwd / "q" / ".spool").exists()


@pytest.mark.long
def test_kill_and_resume(cli: Cli, experiment: str) -> None:
    args = ["search", experiment, "--out", "q", "--workers", 2, "--set", "search.trials=4", "--set", "proxy.steps=200"]
    running = cli.start(*args)
    running.until(lambda: told(cli.cwd / "q") >= 1, 120)
    running.send(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    with Study.read(cli.cwd / "q") as study:
        before = {trial.number: trial for trial in study.trials() if trial.state is not None}
    assert "4 trials measured" in cli.good(*args, "--resume")
    with Study.read(cli.cwd / "q") as study:
        after = {trial.number: trial for trial in study.trials()}
    assert len(after) == 4 and all(after[number] == trial for number, trial in before.items())


def told(folder: Path) -> int:
    """Results in the log so far."""
    with contextlib.suppress(Exception), Study.read(folder) as study:
        return sum(trial.state is not None for trial in study.trials())
    return 0


@pytest.fixture
def cluster_without_data(shapes: Path) -> Iterator[str]:
    """A cluster on this machine whose processes see an empty folder where the data lie."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make a mount namespace")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ray = Path(sys.executable).with_name("ray")
    # A short path: those of sockets in it may have 107 bytes.
    folder = tempfile.mkdtemp(prefix="ray")
    start = f"{ray} start --head --port={port} --num-cpus=2 --include-dashboard=false --temp-dir={folder}"
    script = f"mount -t tmpfs none {shapes} && exec {start} --block --disable-usage-stats"
    process = subprocess.Popen(
        [unshare, "-m", "--propagation", "private", "sh", "-c", script],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"},
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        for child in [*children, process]:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                child.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
def test_a_node_without_the_data(cli: Cli, experiment: str, shapes: Path, cluster_without_data: str) -> None:
    ray = Path(sys.executable).with_name("ray")
    deadline = time.monotonic() + 60
    while subprocess.run([ray, "status", "--address", cluster_without_data], capture_output=True).returncode:
        assert time.monotonic() < deadline, "the cluster did not start"
    message = cli.bad("search", experiment, "--out", "q", "--address", cluster_without_data)
    assert re.search(rf"worker on \S+: .*{re.escape(str(shapes))}", message), message
    assert not (cli.cwd / "q").exists()
