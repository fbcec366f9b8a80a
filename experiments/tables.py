"""Write the result tables of the README from the CSVs in ``experiments/results/``.

    python experiments/tables.py           # rewrites the part of README.md between the markers
    python experiments/tables.py --check   # says whether it is up to date (exit status 1 if not)

For each experiment NAME there: ``NAME_compare.csv`` (a comparison), and if present ``NAME_trials.csv`` (its search),
``NAME_reward.csv`` (some of its candidates with several seeds on the reward split), and for searches with several
strategies ``NAME_STRATEGY_trials.csv`` and ``NAME_best.png`` (see ``strategies.py`` and ``figures.py``).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from strategies import RESULTS, STRATEGIES

from nasneck.report import legend, markdown_table, spread_sentence, summarize

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def main() -> int:
    """Rewrite or check the README."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    written = f"{before}{BEGIN}\n{tables()}{END}{after}"
    if "--check" in sys.argv[1:]:
        return int(written != text)
    readme.write_text(written, encoding="utf-8")
    return 0


def tables() -> str:
    """The section of every comparison, in the order of their names."""
    return "".join(section(path) for path in sorted(RESULTS.glob("*_compare.csv")))


def section(path: Path) -> str:
    """Heading, table, legend and what the search saw, of one comparison."""
    name = path.stem.removesuffix("_compare")
    rows = pd.read_csv(path)
    parts = [f"### {name}", verdict(rows), markdown_table(summarize(rows)).strip(), legend(rows)]
    paths = {strategy: RESULTS / f"{name}_{strategy}_trials.csv" for strategy in STRATEGIES}
    searches = [search_line(strategy, path) for strategy, path in paths.items() if path.exists()]
    if searches:
        parts.append("\n".join([SEARCH_HEAD, *searches]))
        parts.append(f"![best reward so far](experiments/results/{name}_best.png)")
    trials, reward = RESULTS / f"{name}_trials.csv", RESULTS / f"{name}_reward.csv"
    if trials.exists():
        parts.append(spread(pd.read_csv(trials), pd.read_csv(reward) if reward.exists() else None))
    commits = ", ".join(sorted(set(rows["commit"])))
    parts.append(f"Commit {commits}: `{rows['command'].iloc[0]}`")
    return "\n" + "\n\n".join(parts) + "\n\n"


def verdict(rows: pd.DataFrame) -> str:
    """Whether the best of the searched necks is ahead of the best of the others by more than the seeds' spread."""
    summary = summarize(rows)
    searched = summary["neck"].str.contains("#")  # RUN#TRIAL
    found, best = (part.loc[part["ap"].idxmax()] for part in (summary[searched], summary[~searched]))
    ahead = float(found["ap"] - best["ap"])
    # Standard error of a difference of two means.
    error = float((found["ap_sd"] ** 2 / found["seeds"] + best["ap_sd"] ** 2 / best["seeds"]) ** 0.5)
    said = "more than twice" if abs(ahead) > 2 * error else "less than twice"
    return (
        f"The best found, {found['neck']}, is {100 * ahead:+.1f} AP from the best fixed neck, {best['neck']}; that is "
        f"{said} the standard error of the difference ({100 * error:.1f})."
    )


SEARCH_HEAD = """\
| search | candidates | best reward | mean reward | of the last 20 | standard deviation |
|---|---:|---:|---:|---:|---:|"""


def search_line(strategy: str, path: Path) -> str:
    """What one strategy found, a row below :data:`SEARCH_HEAD`; rewards in percent AP."""
    trials = pd.read_csv(path).sort_values("number")
    rewards = 100 * trials[trials["state"] == "ok"]["reward"]
    numbers = (rewards.max(), rewards.mean(), rewards.tail(20).mean(), rewards.std(ddof=1))
    return f"| {strategy} | {len(rewards)} | " + " | ".join(f"{number:.1f}" for number in numbers) + " |"


def spread(trials: pd.DataFrame, reward: pd.DataFrame | None) -> str:
    """The spread of the reward between candidates beside that between seeds."""
    good = trials[trials["state"] == "ok"]
    repeats: dict[str, list[float]] = {}
    if reward is not None:
        for row in reward[reward["state"] == "ok"].to_dict("records"):
            repeats.setdefault(str(row["neck"]), []).append(float(row["reward"]))
    return spread_sentence([float(value) for value in good["reward"]], repeats)


if __name__ == "__main__":
    sys.exit(main())
