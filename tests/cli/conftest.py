"""What the tests of the command line share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_process import EXPERIMENT, Cli


@pytest.fixture(scope="session")
def zygote() -> Iterator[subprocess.Popen[str]]:
    # Ray's workers are nicer than other processes by default, and would wait for the other tests.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    program = [sys.executable, str(Path(__file__).with_name("zygote.py"))]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def cli(zygote: subprocess.Popen[str], tmp_path: Path) -> Cli:
    """Commands in a fresh empty folder."""
    (tmp_path / "here").mkdir()
    return Cli(zygote, tmp_path / "here")


@pytest.fixture(scope="session")
def shapes(zygote: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 generated images; never changed."""
    folder = tmp_path_factory.mktemp("data")
    Cli(zygote, folder).good("data", "shapes", "shapes", "--images", 30, "--size", 80)
    return folder / "shapes"


@pytest.fixture
def experiment(cli: Cli, shapes: Path) -> str:
    """A tiny experiment in the folder of ``cli``: the name of its file."""
    (cli.cwd / "tiny.toml").write_text(EXPERIMENT.format(root=shapes))
    return "tiny.toml"


@pytest.fixture(scope="session")
def study(zygote: subprocess.Popen[str], shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search; never changed."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.toml").write_text(EXPERIMENT.format(root=shapes))
    Cli(zygote, folder).good("search", "tiny.toml", "--out", "q")
    return folder / "q"
