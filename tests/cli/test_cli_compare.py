"""Comparisons: a table, its files, and going on after a break."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pandas as pd
from cli_process import Cli

from nasneck.report import markdown_table, summarize
from nasneck.study import Study


def measurements(folder: Path) -> list[str]:
    file = folder / "measurements.jsonl"
    return file.read_text().splitlines() if file.exists() else []


def test_compare(cli: Cli, study: Path) -> None:
    cli.good("show", "fpn:norm=true", "--out", "mine.json")
    with Study.read(study) as read:
        best = read.best()
    assert best is not None
    other = (best.number + 1) % 3
    necks = [study, f"{study}#{other}", "fpn", "bifpn:repeats=2", "mine.json"]
    out = cli.good("compare", *necks, "--out", "runs/c", "--seeds", 2)
    frame = pd.read_csv(cli.cwd / "runs/c/compare.csv")
    names = [f"q#{best.number}", f"q#{other}", "fpn", "bifpn:repeats=2", "mine"]
    assert list(frame["neck"]) == [name for name in names for _ in range(2)]
    assert list(frame["seed"]) == [1, 2] * 5, "not the seed of the search"
    assert set(frame["state"]) == {"ok"} and set(frame["split"]) == {"test"} and set(frame["steps"]) == {2}
    assert frame["ap"].between(0, 1).all() and (frame["latency_ms"] > 0).all() and (frame["macs"] > 0).all()
    assert frame.groupby("neck")["parameters"].nunique().eq(1).all()
    assert (frame["command"].str.startswith("nasneck compare ")).all() and frame["commit"].notna().all()
    table = (cli.cwd / "runs/c/compare.md").read_text()
    assert table.startswith(markdown_table(summarize(frame)))
    assert "mean ± standard deviation over 2 seeds, 2 training steps each" in table
    for name in names:
        assert re.search(rf"^{re.escape(name)} .*± ", out, re.MULTILINE), out
    assert out.splitlines()[-1] == "rows runs/c/compare.csv, table runs/c/compare.md"


def test_fixed_necks_get_the_repeats_of_the_space(cli: Cli, experiment: str) -> None:
    given = ["--experiment", experiment, "--seeds", 1]
    cli.good("compare", "bifpn", "bifpn:repeats=3", *given, "--out", "c")
    frame = pd.read_csv(cli.cwd / "c/compare.csv").set_index("neck")
    keys = frame["graph_key"]
    assert keys["bifpn:repeats=1"] != keys["bifpn:repeats=3"]
    cli.good("compare", "bifpn", *given, "--out", "d", "--repeats", 3)
    assert pd.read_csv(cli.cwd / "d/compare.csv")["graph_key"][0] == keys["bifpn:repeats=3"]
    # an equal graph is not trained twice
    assert len(measurements(cli.cwd / "c")) == 2


def test_settings_seeds_and_split(cli: Cli, experiment: str) -> None:
    args = ["compare", "fpn", "--experiment", experiment, "--out", "c", "--set", "compare.steps=3", "--set", "seed=5"]
    out = cli.good(*args, "--set", "compare.seeds=3", "--split", "reward")
    frame = pd.read_csv(cli.cwd / "c/compare.csv")
    assert list(frame["seed"]) == [6, 7, 8] and set(frame["steps"]) == {3} and set(frame["split"]) == {"reward"}
    assert "on the reward split, mean ± standard deviation over 3 seeds, 3 training steps each" in out
    assert frame["loss"].nunique() == 3, "seeds differ"


def test_reward_by_loss_is_compared_by_ap(cli: Cli, experiment: str) -> None:
    args = ["compare", "fpn", "--experiment", experiment, "--out", "c", "--seeds", 1, "--set", "proxy.reward=loss"]
    out = cli.good(*args)
    assert "one seed" in out and "±" not in out
    frame = pd.read_csv(cli.cwd / "c/compare.csv")
    assert frame["reward_kind"][0] == "ap" and frame["ap"].notna().all()


def test_the_same_comparison_again_trains_nothing(cli: Cli, study: Path) -> None:
    args = ["compare", study, "fpn", "--out", "c", "--seeds", 1]
    cli.good(*args)
    rows, lines = pd.read_csv(cli.cwd / "c/compare.csv"), measurements(cli.cwd / "c")
    out = cli.good(*args)
    assert out.count("(measured before)") == 2 and measurements(cli.cwd / "c") == lines
    pd.testing.assert_frame_equal(pd.read_csv(cli.cwd / "c/compare.csv"), rows)
    out = cli.good("compare", study, "fpn", "panet", "--out", "c", "--seeds", 2)
    assert out.count("(measured before)") == 2 and len(measurements(cli.cwd / "c")) == 6


def test_interrupted_and_killed_and_gone_on_with(cli: Cli, experiment: str) -> None:
    args = ["compare", "fpn", "panet", "bifpn", "nas_fpn", "--experiment", experiment, "--out", "c", "--seeds", 3]
    finished: list[str] = []
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        running, goal = cli.start(*args), len(finished) + 2
        running.until(lambda goal=goal: len(measurements(cli.cwd / "c")) >= goal)
        running.send(number)
        ended = running.wait()
        assert ended.code == code and ended.err == ""
        assert ("interrupted; the same command goes on where it was" in ended.out) == (code == 130)
        now = measurements(cli.cwd / "c")
        assert now[: len(finished)] == finished and len(now) >= goal
        finished = now
    assert len(finished) < 12 and not (cli.cwd / "c/compare.csv").exists(), "stopped before the end"
    with (cli.cwd / "c/measurements.jsonl").open("a") as file:
        file.write('{"key": "cut sho')  # as a loss of power leaves it
    out = cli.good(*args)
    assert out.count("(measured before)") == len(finished)
    assert len(pd.read_csv(cli.cwd / "c/compare.csv")) == 12
    lines = measurements(cli.cwd / "c")
    assert len(lines) == 13 and lines[: len(finished)] == finished and lines[len(finished)] == '{"key": "cut sho'
    keys = [json.loads(line)["key"] for line in lines if not line.startswith('{"key": "cut sho')]
    assert len(set(keys)) == 12


def test_two_comparisons_in_one_folder(cli: Cli, experiment: str) -> None:
    args = ["compare", "fpn", "--experiment", experiment, "--out", "c"]
    first = cli.start(*args, "--seeds", 500)
    first.until(lambda: measurements(cli.cwd / "c"))
    assert f"c: the study is in use by process {first.pid}" in cli.bad(*args)
    first.send(signal.SIGKILL)
    first.wait()


def test_a_failing_neck_is_a_row(cli: Cli, experiment: str) -> None:
    """With batches of one image, BiFPN's batch norm on 1x1 maps cannot train; FPN has no norm."""
    args = ["compare", "fpn", "bifpn", "--experiment", experiment, "--out", "c", "--seeds", 1]
    out = cli.good(*args, "--set", "proxy.train.batch_size=1", "--set", "neck.channels=64")
    frame = pd.read_csv(cli.cwd / "c/compare.csv").set_index("neck")
    assert frame["state"].to_dict() == {"fpn": "ok", "bifpn:repeats=1": "error"}
    assert "batch norm cannot train on one 1x1 map" in frame["text"]["bifpn:repeats=1"]
    assert re.search(r"^bifpn:repeats=1 \(1 failed\) +- ", out, re.MULTILINE)
    assert "2 training steps each" in out
    assert len(measurements(cli.cwd / "c")) == 1, "failures are tried again"


def test_remembered_rows_name_what_measured_them(cli: Cli, experiment: str) -> None:
    given = ["--experiment", experiment, "--out", "c", "--seeds", 1]
    cli.good("compare", "fpn", *given)
    cli.good("compare", "fpn", "panet", *given)
    commands = pd.read_csv(cli.cwd / "c/compare.csv").set_index("neck")["command"]
    assert " fpn --experiment" in commands["fpn"] and " fpn panet --experiment" in commands["panet"]
