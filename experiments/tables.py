"""Write the result tables of the README from the CSVs in ``experiments/results/``.

    python experiments/tables.py           # rewrites the part of README.md between the markers
    python experiments/tables.py --check   # says whether it is up to date (exit status 1 if not)

For each experiment NAME there: ``NAME_compare.csv`` (a comparison), and if present ``NAME_trials.csv`` (its search),
``NAME_reward.csv`` (some of its candidates with several seeds on the reward split), and for searches with several
strategies ``NAME_STRATEGY_trials.csv`` and ``NAME_best.png`` (see ``strategies.py`` and ``figures.py``). Before them
what is known of the strategies, of speed and of scale: ``synthetic.csv``, ``strategies_trials.csv``,
``overhead_*.csv``, ``fidelity_*.csv``, ``bccd_octaves_scores.csv``, ``prefilter.csv``, ``supernet.csv``,
``ap_speed.csv``, ``step_speed.csv``, ``views.csv``, ``speed.csv`` and ``scale.csv``, by the scripts of these names,
``fidelity_bccd.py`` and ``curves.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from fidelity_table import fidelity_section
from prefilter_table import prefilter_section
from scale_table import scale_section
from strategies import RESULTS, STRATEGIES
from supernet_table import supernet_section
from synthetic import table as synthetic_table

from nasneck.report import legend, markdown_table, spread_sentence, summarize

ROOT = Path(__file__).resolve().parent.parent
FIGURE = "experiments/results/strategies_curves.png"
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
    """What is known of strategies, speed and scale, then every comparison's section, in the order of their names."""
    sections = [strategy_section(), fidelity_section(), supernet_section(), prefilter_section()]
    sections += [speed_section(), scale_section()]
    sections += [section(path) for path in sorted(RESULTS.glob("*_compare.csv"))]
    return "".join(sections)


def strategy_section() -> str:
    """The test problem, the real proxy, and what a search costs beside its evaluations."""
    synthetic, curves = pd.read_csv(RESULTS / "synthetic.csv"), pd.read_csv(RESULTS / "strategies_trials.csv")
    parts = ["### Do the strategies learn?", synthetic_words(synthetic), synthetic_table(synthetic)]
    parts += [made_by(synthetic), curves_words(curves), f"![curves]({FIGURE})", made_by(curves)]
    parts += ["### What does a search cost beside its evaluations?", overhead_table()]
    if (RESULTS / "ap_speed.csv").exists():
        parts.append(ap_words(pd.read_csv(RESULTS / "ap_speed.csv")))
    return "\n" + "\n\n".join(parts) + "\n\n"


def synthetic_words(rows: pd.DataFrame) -> str:
    """How many evaluations of each strategy are worth 2,000 of random search."""
    means = rows.groupby(["search", "evaluations"])["value"].mean()
    bar = means["random", 2000]
    reached = []
    for search in ("evolution", "controller fast", "tpe", "controller nasnet", "gp"):
        own = means[search]
        enough = own[own >= bar]
        reached.append(f"{search} by {enough.index[0]:,}" if len(enough) else f"{search} not by {own.index[-1]:,}")
    return (
        "On a test problem over the NAS-FPN space (half of the variance from single decisions, half from pairs, noise"
        " of 0.2 standard deviations; other seeds than those that settings were chosen on), true value of the best"
        " found in standard deviations, mean ± standard error, by evaluations. `two` are searches with two objectives,"
        f" of which the hypervolume above (-2, -2) counts. What random search reaches with 2,000 ({bar:.2f}) is"
        f" reached on average, by {', '.join(reached)} (at the marks of the table)."
    )


def curves_words(trials: pd.DataFrame) -> str:
    """The real proxy: best rewards, what is asked at the end, and where the published network stands."""
    own = trials[(trials["source"] == "strategy") & (trials["state"] == "ok")]
    lines = []
    for strategy in STRATEGIES:
        rewards = 100 * own[own["strategy"] == strategy].sort_values("number").set_index("search_seed")["reward"]
        best, late = rewards.groupby(level=0).max(), rewards.groupby(level=0).apply(lambda r: r.tail(50).mean())
        lines.append(f"{strategy} {best.mean():.1f} ± {best.std():.1f} and {late.mean():.1f} ± {late.std():.1f}")
    warm = trials[trials["source"] == "warm"]
    below = []
    for row in warm.to_dict("records"):
        others = own[(own["strategy"] == "random") & (own["search_seed"] == row["search_seed"])]["reward"]
        below.append(100 * (others < row["reward"]).mean())
    seconds, sizes = own["seconds"].median(), own.groupby(["strategy", "search_seed"]).size()
    return (
        "On a real proxy (generated shapes, `experiments/strategies.toml`;"
        f" {seconds:.1f} s a candidate, median, on a busy machine),"
        f" {own['search_seed'].nunique()} searches each of {sizes.min()} to {sizes.max()} candidates (who settles on"
        " known ones ends early): best reward, and mean reward of the last 50 candidates, in percent AP, mean ±"
        f" standard deviation over the searches: {'; '.join(lines)}. The published NAS-FPN network is better than"
        f" {', '.join(f'{share:.0f} %' for share in below)} of the random candidates of the same seed."
    )


def overhead_table() -> str:
    """Ratios of the runners, and times of strategies in long studies."""
    commit, tune = (pd.read_csv(RESULTS / f"overhead_{name}.csv") for name in ("commit", "tune"))
    long, optuna = (pd.read_csv(RESULTS / f"overhead_{name}.csv") for name in ("long", "optuna"))
    lines = [
        f"One trial costs {commit['ratio'].median():.1f} times a durable commit of SQLite in the process, and"
        f" {tune['ratio'].median():.1f} times a trial of bare Ray Tune with reused actors (medians of {len(commit)} and"
        f" {len(tune)} rounds, both sides in turns). Long studies, milliseconds each:",
        "",
        "| strategy | trials | ask | tell | slowest tell | resume |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, rows in long.groupby("strategy"):
        slowest, ended = rows["tell_max_ms"].max(), rows["resume_s"].max()
        lines.append(
            f"| {name} | {rows['trials'].max():,} | {rows['ask_ms'].mean():.1f} | {rows['tell_ms'].mean():.1f} |"
            f" {slowest:.0f} | {ended:.1f} s |"
        )
    for name, rows in optuna.groupby("sampler"):
        last = rows.loc[rows["trials"].idxmax()]
        lines.append(
            f"| {name} | {last['trials']:,} | {last['ask_ms']:.1f} | {last['tell_ms']:.1f} |"
            f" {last['tell_max_ms']:.0f} | {last['repeat_s']:.1f} s |"
        )
    return "\n".join([*lines, "", made_by(commit)])


def ap_words(rows: pd.DataFrame) -> str:
    """How much faster AP is with the optional library."""
    cases = []
    for (images, classes), own in rows.groupby(["images", "classes"]):
        slow, fast = own["pycocotools_s"].median(), own["faster_s"].median()
        cases.append(
            f"{own['ratio'].median():.1f} times with {images:,} images and {classes} classes"
            f" ({slow:.2f} s, {fast:.2f} s)"
        )
    worst = rows["largest_difference"].max()
    difference = "the values are equal to the bit" if worst == 0 else f"the values differ by at most {worst:.1g}"
    return (
        "AP by faster-coco-eval (`pip install faster-coco-eval`, then taken by itself) is faster than by pycocotools:"
        f" {', '.join(cases)}, 20 to 100 detections an image; {difference}. {made_by(rows)}"
    )


def speed_section() -> str:
    """Compiled necks beside others' and the peak, each with its bound; empty as long as nothing is measured."""
    if not (RESULTS / "speed.csv").exists():
        return ""
    rows = pd.read_csv(RESULTS / "speed.csv")
    # the processor with most cases first: theirs is the order of the rows
    count = rows.groupby("device")["case"].transform("size")
    rows = rows.loc[count.sort_values(ascending=False, kind="stable").index]
    devices = list(rows["device"].drop_duplicates())
    names = [device.removeprefix("cpu: ").partition(",")[0] for device in devices]
    lines = [
        f"| neck | against | image | width | bound | {' | '.join(names)} |",
        f"|---|---|---:|---:|---:|{'---:|' * len(names)}",
    ]
    same = ["case", "against", "pixels", "channels", "sense", "bound"]
    for (case, against, pixels, channels, sense, bound), own in rows.groupby(same, sort=False):
        found = {row["device"]: speed_cell(row) for row in own.to_dict("records")}
        cells = " | ".join(found.get(device, "") for device in devices)
        sign = "≥" if sense == "at least" else "≤"
        lines.append(f"| {case} | {against} | {pixels} px | {channels} | {sign} {bound:.2f} | {cells} |")
    widths = " / ".join(str(rows["in_channels"].iloc[0]).split())
    rounds = " or ".join(str(n) for n in sorted(rows["rounds"].unique()))
    words = (
        f"Time of ours over theirs for one image (training: two), features of {widths} channels, medians of"
        f" {rounds} pairs of blocks in turns, with quartiles and our milliseconds; where a bound is"
        " missed, the ratio is bold. `peak` is the arithmetic speed of ours over that of one 3x3 convolution of the"
        " finest map."
    )
    made = [made_by(own) for _, own in rows.groupby("device", sort=False)]
    return "\n" + "\n\n".join(["### How fast are compiled necks?", words, "\n".join(lines), *made]) + "\n\n"


def speed_cell(row: dict[Any, Any]) -> str:
    """A ratio with its quartiles."""
    met = row["ratio"] >= row["bound"] if row["sense"] == "at least" else row["ratio"] <= row["bound"]
    ratio = f"{row['ratio']:.2f}" if met else f"**{row['ratio']:.2f}**"
    return f"{ratio} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f}; {row['ours_ms']:.1f} ms)"


def made_by(rows: pd.DataFrame) -> str:
    """Commits, command and hardware."""
    commits = ", ".join(sorted({str(commit) for commit in rows["commit"]}))
    hardware = "; ".join(sorted(set(rows["hardware" if "hardware" in rows else "device"].dropna())))
    return f"Commit {commits}: `{rows['command'].iloc[0]}`; {hardware}."


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
        found = pd.read_csv(trials)
        scored = (found["reward_kind"] == "loss").any()
        parts.append(by_loss(found) if scored else spread(found, pd.read_csv(reward) if reward.exists() else None))
    commits = ", ".join(sorted(set(rows["commit"])))
    parts.append(f"Commit {commits}: `{rows['command'].iloc[0]}`")
    return "\n" + "\n\n".join(parts) + "\n\n"


def by_loss(trials: pd.DataFrame) -> str:
    """What a search was whose rewards are losses, which are on no scale that a reader knows."""
    ok = trials[trials["state"] == "ok"]
    return (
        f"The search scored {len(ok)} candidates by the loss of {ok['steps'].max():.0f} steps"
        f" ({ok['seconds'].median():.1f} s each, on a busy machine); the one in the table is the best by AP of those"
        " that `nasneck confirm` trained again."
    )


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
