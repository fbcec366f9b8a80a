"""Searches in other spaces than the first one: two paths from a file, and a function in the user's folder."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from cli_process import Cli

from nasneck import necks
from nasneck.study import Study
from nasneck.trial import State

ROOT = Path(__file__).parents[2]


def sources(folder: Path) -> list[str]:
    """Who chose the candidates that were measured; what decodes to a graph that was measured before is no such."""
    with Study.read(folder) as study:
        trials = study.trials()
    assert {trial.state for trial in trials} <= {State.OK, State.CACHED}
    return [trial.source for trial in trials if trial.state is State.OK]


def of_space(cli: Cli, experiment: str, space: str) -> str:
    """The tiny experiment over another space, in a file."""
    text = (cli.cwd / experiment).read_text()
    assert 'name = "nas_fpn"\nrepeats = 1\n' in text
    (cli.cwd / "other.toml").write_text(text.replace('name = "nas_fpn"\nrepeats = 1\n', space))
    return "other.toml"


def test_bifpn_space_with_the_published_network_first(cli: Cli, experiment: str) -> None:
    file = of_space(cli, experiment, 'name = "bifpn"\n')
    evolution = ["--set", "strategy.name=evolution", "--set", "strategy.population=2"]
    out = cli.good("search", file, "--out", "q", "--set", 'search.warm=["bifpn"]', *evolution)
    assert "3 trials measured" in out
    assert sources(cli.cwd / "q") == ["warm", "strategy", "strategy"]
    with Study.read(cli.cwd / "q") as study:
        assert study.trials()[0].graph_key == necks.bifpn(repeats=3).key()
    cli.good("compare", "q", "bifpn", "bifpn:repeats=1", "--out", "c", "--split", "reward", "--seeds", 1)
    with (cli.cwd / "c/compare.csv").open() as file:
        keys = [row["graph_key"] for row in csv.DictReader(file)]
    assert keys[1:] == [necks.bifpn(repeats=3).key(), necks.bifpn(repeats=1).key()], "its own depth if none is set"


def test_bifpn_space_of_one_depth_sets_that_of_fixed_necks(cli: Cli, experiment: str) -> None:
    file = of_space(cli, experiment, 'name = "bifpn"\nrepeat_choices = [2]\n')
    cli.good("search", file, "--out", "q", "--set", 'search.warm=["bifpn"]', "--set", "search.trials=1")
    with Study.read(cli.cwd / "q") as study:
        assert study.trials()[0].graph_key == necks.bifpn(repeats=2).key()


def test_a_neck_that_is_not_in_the_space(cli: Cli, experiment: str) -> None:
    file = of_space(cli, experiment, 'name = "bifpn"\nrepeat_choices = [1, 2]\n')
    error = cli.bad("search", file, "--out", "q", "--set", 'search.warm=["bifpn"]')
    assert "is not in the space 'bifpn'" in error and "repeats (1, 2)" in error


def test_a_space_that_is_a_function(cli: Cli, experiment: str) -> None:
    (cli.cwd / "search_spaces").mkdir()
    shutil.copy(ROOT / "search_spaces/skip_fpn.py", cli.cwd / "search_spaces/skip_fpn.py")
    file = of_space(cli, experiment, 'name = "search_spaces.skip_fpn:skip_fpn"\n')
    assert "3 trials measured" in cli.good("search", file, "--out", "q")
    assert sources(cli.cwd / "q") == ["strategy"] * 3
    error = cli.bad("search", file, "--out", "w", "--set", 'search.warm=["fpn"]')
    assert "is not in the space 'skip_fpn'" in error
