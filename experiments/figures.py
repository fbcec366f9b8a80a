"""Draw the figures of the README from the CSVs in ``experiments/results/``.

    python experiments/figures.py

For each experiment NAME with ``NAME_STRATEGY_trials.csv`` there: ``NAME_best.png``, the best reward so far of every
strategy over the candidates that it had measured, and the rewards themselves.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from strategies import RESULTS, STRATEGIES

# Told apart without colour as well: by order in the legend and by the labels at their ends.
COLOURS = {"controller": "#0072b2", "tpe": "#009e73", "evolution": "#d55e00", "random": "#666666"}


def main() -> int:
    """Draw all there are."""
    for path in sorted(RESULTS.glob(f"*_{next(iter(STRATEGIES))}_trials.csv")):
        name = path.name.removesuffix(f"_{next(iter(STRATEGIES))}_trials.csv")
        print(best_so_far(name))
    return 0


def best_so_far(name: str) -> Path:
    """Two panels: every strategy's best so far, and the mean reward of the last ten candidates."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for strategy, colour in COLOURS.items():
        path = RESULTS / f"{name}_{strategy}_trials.csv"
        if not path.exists():
            continue
        rewards = 100 * measured(path)
        count = range(1, len(rewards) + 1)
        left.step(count, rewards.cummax(), where="post", color=colour, label=strategy)
        right.plot(count, rewards.rolling(10, min_periods=5).mean(), color=colour, label=strategy)
        right.plot(count, rewards, ".", color=colour, alpha=0.25, markersize=3)
    left.set(xlabel="candidates measured", ylabel="best reward so far (AP, %)")
    right.set(xlabel="candidates measured", ylabel="reward (AP, %), mean of the last ten")
    low = left.get_ylim()[1] - 8
    left.set_ylim(bottom=low)
    left.legend(frameon=False, loc="lower right")
    target = RESULTS / f"{name}_best.png"
    figure.savefig(target, dpi=150, metadata={"Software": None})
    return target


def measured(path: Path) -> pd.Series:
    """Rewards in the order of the trials; a failed one counts as the worst."""
    trials = pd.read_csv(path).sort_values("number")
    trials = trials[~trials["state"].isin(["cached", "running"])]
    return trials["reward"].fillna(trials["reward"].min()).reset_index(drop=True)


if __name__ == "__main__":
    sys.exit(main())
