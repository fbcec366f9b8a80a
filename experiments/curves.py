"""Several searches of one experiment by every strategy, and the curves of their best reward so far.

    python experiments/curves.py experiments/strategies.toml --out runs/strategies --seeds 3 --jobs 2

Killed at any moment, the same command goes on where it was. It leaves in ``experiments/results/``:

    NAME_trials.csv   every trial of every search, with what made it
    NAME_curves.csv   best reward so far: mean, standard deviation, smallest and largest over the seeds
    NAME_curves.png   the figure

Random search measures the published NAS-FPN network first (it is no part of its curve), so that one can say which share
of random candidates is worse.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from strategies import RESULTS, STRATEGIES

# Told apart without colour as well: by order in the legend.
COLOURS = {"controller": "#0072b2", "tpe": "#009e73", "evolution": "#d55e00", "random": "#666666"}


def main() -> int:
    """Run what is not done yet, then write and draw the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="searches at once, one process each")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    # Seeds are the outer loop, so that an early look compares all strategies.
    plan = [(strategy, seed) for seed in range(given.seeds) for strategy in STRATEGIES]
    first, rest = plan[0], plan[1:]
    folders = {job: given.out / f"{job[0]}-{job[1]}" for job in plan}
    search(given.experiment, folders[first], *first, given.changes)
    with ThreadPoolExecutor(given.jobs) as pool:
        for job in rest:
            if not (folders[job] / "store").exists():
                shutil.copytree(folders[first] / "store", folders[job] / "store")  # one backbone for all
        list(pool.map(lambda job: search(given.experiment, folders[job], *job, given.changes), rest))
    trials = pd.concat(
        [
            pd.read_csv(folder / "trials.csv").assign(strategy=strategy, search_seed=seed)
            for (strategy, seed), folder in folders.items()
        ]
    )
    name = given.experiment.stem
    kept = ["strategy", "search_seed", "number", "source", "graph_key", "state", "reward", "loss", "parameters", "macs"]
    kept += ["seconds", "seed", "steps", "device", "command", "commit"]
    trials[kept].to_csv(RESULTS / f"{name}_trials.csv", index=False)
    write_curves(name)
    print(figure(name))
    return 0


def search(experiment: Path, folder: Path, strategy: str, seed: int, changes: list[str]) -> None:
    """One search, if it is not done."""
    if (folder / "trials.csv").exists():
        return
    sets = [*STRATEGIES[strategy], f"seed={seed}", *changes]
    if strategy == "random":
        # One more trial than the others, which is not random's own.
        trials = next((int(c.partition("=")[2]) for c in changes if c.startswith("search.trials=")), 150)
        sets += ['search.warm=["nas_fpn"]', f"search.trials={trials + 1}"]
    resume = ["--resume"] if (folder / "study.sqlite").exists() else []
    arguments = ["search", str(experiment), "--out", str(folder), *(f"--set={change}" for change in sets), *resume]
    print("nasneck", *arguments, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a") as log:
        subprocess.run([sys.executable, "-m", "nasneck", *arguments], stdout=log, stderr=log, check=True)


def own_rewards(name: str) -> pd.DataFrame:
    """Rewards of the strategies' own new candidates in order; a failed one counts as the worst of its search."""
    trials = pd.read_csv(RESULTS / f"{name}_trials.csv")
    trials = trials[(trials["source"] == "strategy") & ~trials["state"].isin(["cached", "running", "rejected"])]
    trials = trials.sort_values(["strategy", "search_seed", "number"]).reset_index(drop=True)
    groups = trials.groupby(["strategy", "search_seed"])
    trials["reward"] = groups["reward"].transform(lambda rewards: rewards.fillna(rewards.min()))
    trials["evaluations"] = groups.cumcount() + 1
    trials["best"] = groups["reward"].cummax()
    trials["recent"] = groups["reward"].transform(lambda rewards: rewards.rolling(20, min_periods=10).mean())
    return trials


def write_curves(name: str) -> Path:
    """Best so far of every strategy by evaluations, over its searches."""
    rewards = own_rewards(name)
    curves = rewards.groupby(["strategy", "evaluations"])["best"].agg(["mean", "std", "min", "max", "count"])
    target = RESULTS / f"{name}_curves.csv"
    curves.reset_index().round(6).to_csv(target, index=False)
    return target


def figure(name: str) -> Path:
    """Left the best so far, right the mean of the last twenty; bands from the worst search to the best."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    drawing = Figure(figsize=(8, 3.2), layout="constrained")
    panels = dict(zip(("best", "recent"), drawing.subplots(1, 2), strict=True))
    rewards = own_rewards(name)
    for strategy, colour in COLOURS.items():
        own = rewards[rewards["strategy"] == strategy]
        if own.empty:
            continue
        for column, panel in panels.items():
            over = 100 * own.groupby("evaluations")[column].agg(["mean", "min", "max"])
            panel.plot(over.index, over["mean"], color=colour, label=strategy)
            panel.fill_between(over.index, over["min"], over["max"], color=colour, alpha=0.13, linewidth=0)
    warm = pd.read_csv(RESULTS / f"{name}_trials.csv").query("source == 'warm'")["reward"].mean()
    if not pd.isna(warm):
        panels["best"].axhline(100 * warm, color="#000000", linewidth=0.8, linestyle=":", label="published NAS-FPN")
    panels["best"].set(xlabel="candidates measured", ylabel="best reward so far (AP, %)")
    panels["recent"].set(xlabel="candidates measured", ylabel="mean reward of the last 20 (AP, %)")
    panels["best"].legend(frameon=False, loc="lower right")
    target = RESULTS / f"{name}_curves.png"
    drawing.savefig(target, dpi=150, metadata={"Software": None})
    return target


if __name__ == "__main__":
    sys.exit(main())
