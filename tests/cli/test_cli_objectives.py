"""Searches with several objectives, limits, rungs and a last stage; real trainings of two steps."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from cli_process import Cli

from nasneck import NeckGraph
from nasneck.study import Study
from nasneck.trial import State

MISTAKES = [
    (["objective.names=['latency']"], r"\[objective\]: names \['latency'\]: reward comes first"),
    (["objective.soft=latency"], r"\[objective\]: soft and target go together"),
    (["objective.max_params=-1"], r"\[objective\]: max_params -1 must be above 0"),
    (["objective.max_param=9"], r"\[objective\]: unknown setting 'max_param'; did you mean 'max_params'\?"),
    (
        ["strategy.name=controller", 'objective.names=["reward","macs"]'],
        r"\[strategy\]: 'controller' learns from one objective, and \[objective\] names 2; take strategy 'optuna'",
    ),
    (["proxy.reward=loss", "objective.soft=macs", "objective.target=9"], "soft needs a reward above 0"),
    (["halving.steps=[2]"], r"\[halving\]: steps \[2\] must lie below the 2 steps of a training"),
    (["halving.steps=[3,1]"], r"\[halving\]: steps \[3, 1\] must be rising numbers"),
    (["halving.steps=[1]", "halving.reduction=1"], r"\[halving\]: reduction 1 must be above 1"),
    (["confirm.top=0"], r"\[confirm\]: top 0 must be at least 1"),
]


@pytest.mark.parametrize(("changes", "match"), MISTAKES)
def test_refused_at_once(cli: Cli, experiment: str, changes: list[str], match: str) -> None:
    message = cli.bad("search", experiment, "--out", "q", *(f"--set={change}" for change in changes))
    assert re.search(match, message), message
    assert not (cli.cwd / "q").exists()


def test_two_objectives_give_a_front(cli: Cli, experiment: str) -> None:
    sets = ["strategy.name=optuna", "strategy.sampler=nsgaii", 'objective.names=["reward","parameters"]']
    out = cli.good("search", experiment, "--out", "q", "--set=search.trials=4", *(f"--set={s}" for s in sets))
    assert re.search(r"Pareto front of reward, parameters: \d+ trials, in q/front.csv", out)
    with Study.read(cli.cwd / "q") as study:
        trials = study.trials()
    assert all(len(trial.values) == 2 for trial in trials if trial.state is State.OK)
    front = set(pd.read_csv(cli.cwd / "q/front.csv")["number"])
    assert max(trials, key=lambda trial: trial.values).number in front


def test_over_a_limit_nothing_is_trained(cli: Cli, experiment: str) -> None:
    limits = ["objective.max_macs=1", "search.max_duplicates=1"]
    ended = cli("search", experiment, "--out", "q", *(f"--set={limit}" for limit in limits))
    assert ended.code == 1
    assert "10 candidates in a row were over a limit" in ended.out
    with Study.read(cli.cwd / "q") as study:
        states = {trial.state for trial in study.trials()}
        texts = {trial.measurement.text for trial in study.trials() if trial.measurement}
    assert states == {State.REJECTED}
    assert all(re.fullmatch(r"[\d,.e+]+ multiply-adds are more than 1", text) for text in texts), texts


def test_latency_is_a_limit_on_whoever_trains(cli: Cli, experiment: str) -> None:
    limits = ["objective.max_latency_ms=1e-6", "search.max_duplicates=1", "objective.image_size=[64,96]"]
    ended = cli("search", experiment, "--out", "q", *(f"--set={limit}" for limit in limits))
    assert ended.code == 1 and "candidates in a row were over a limit" in ended.out
    with Study.read(cli.cwd / "q") as study:
        found = [trial.measurement for trial in study.trials() if trial.state is State.REJECTED and trial.measurement]
    assert len(found) >= 10
    assert all(m.latency_ms and m.latency_ms > 1e-6 and m.image_size == (64, 96) and not m.steps for m in found)


def test_rungs_and_the_last_stage(cli: Cli, experiment: str) -> None:
    sets = ["halving.steps=[1]", "halving.reduction=2", "search.trials=6", "confirm.top=2", "confirm.seeds=1"]
    command = ["search", experiment, "--out", "q", *(f"--set={s}" for s in sets), "--confirm"]
    out = cli.good(*command)
    with Study.read(cli.cwd / "q") as study:
        trials = study.trials()
    pruned = [trial.measurement for trial in trials if trial.state is State.PRUNED]
    assert pruned and all(m and m.steps == 1 and m.text == "stopped after 1 of 2 steps" for m in pruned)
    assert re.search(r"Winner: q#\d+, \d+\.\d over 1 seeds of 4 steps", out)
    winner = json.loads((cli.cwd / "q/confirm/confirm.json").read_text())["winner"]
    assert f"Winner: q#{winner}, " in out
    NeckGraph.from_json((cli.cwd / "q/winner.json").read_text())
    # Again, nothing is trained; with more seeds, only those.
    again = cli.good("confirm", "q", "--top", 2, "--seeds", 1, "--steps", 4)
    assert again.count("(measured before)") == 6
    more = cli.good("confirm", "q", "--top", 1, "--seeds", 2, "--necks", "fpn", "--steps", 4)
    assert more.count("(measured before)") == 2 and "4/4 done" in more
    cli.good("show", "q", "--out", "shown.json")
    assert (cli.cwd / "shown.json").read_text() == (cli.cwd / "q/winner.json").read_text()


def test_nothing_to_confirm(cli: Cli) -> None:
    assert "holds no study" in cli.bad("confirm", "nowhere")
    assert "holds no study" in cli.bad("confirm", "nowhere", "--seeds", 0)


def test_settings_of_a_last_stage_that_do_not_fit(cli: Cli, study: str) -> None:
    assert "--seeds 0 must be at least 1" in cli.bad("confirm", study, "--seeds", 0)
    assert "'fpm'" in cli.bad("confirm", study, "--necks", "fpm")
