"""The README's section on weight sharing, from ``supernet.csv`` and the truth of ``fidelity.py``."""

from __future__ import annotations

from pathlib import Path

import fidelity
import numpy as np
import pandas as pd
from agreement import agreement, by_seed, drawn_taus
from fidelity_speed import STUDY
from fidelity_table import made_by
from strategies import RESULTS
from supernet_training import Plan

PATH = RESULTS / "supernet.csv"
DRAWS = 500
MAIN, STEPS = ("inherited", "batch", "fine-tuned"), 5  # what the README shows of the best sharing
LEVEL = 0.05  # on each side
WORDS = {
    "inherited": "inherited weights, loss",
    "recalibrated": "inherited weights, batch norms recalibrated, loss",
    "batch": "inherited weights, statistics of each batch, loss",
    "fine-tuned": "fine-tuned",
    "warm": "head and laterals alone, fine-tuned",
}


def table(path: Path = PATH) -> pd.DataFrame:
    """A row for each way, sharing, budget and number of steps: cost, agreement with the truth, and the rival.

    ``once`` and ``own`` are CPU seconds of the supernet and of a candidate, medians over seeds and candidates;
    ``seconds`` is that of a candidate in a study of 200. ``rival`` is the tau of the independent training of the fewest
    steps (``rival_steps``) that takes as many seconds, or of the longest there is; ``gain`` is the difference to it,
    and ``gain_low`` and ``gain_high`` bound 90 % of its bootstrap over candidates.
    """
    order, truth = fidelity.truth_of()
    rows = pd.read_csv(path, dtype={"commit": str}, keep_default_na=False)
    rows = rows[rows["neck"].isin(order)]
    names = ["way", "sharing", "budget", "steps"]
    lines, taus = [], []
    for key, group in rows.groupby(names, sort=False):
        scores = by_seed(group, "score", order)
        # The draws are the same whatever the scores, so that differences can be taken.
        taus.append(drawn_taus(scores, truth.mean(axis=0), np.random.default_rng(0), DRAWS))
        low, high = np.nanquantile(taus[-1], [LEVEL, 1 - LEVEL])
        once, own = group["supernet_cpu_seconds"].median(), group["cpu_seconds"].median()
        cost = {"once": once, "own": own, "seconds": own + once / STUDY}
        lines.append({**dict(zip(names, key, strict=True)), **cost, **agreement(scores, truth, draws=1)})
        lines[-1] |= {"low": low, "high": high}
    found = pd.DataFrame(lines)
    alone = found[found["way"] == "independent"].sort_values("steps")
    for i, line in found.iterrows():
        dear = alone[alone["seconds"] >= line["seconds"]]
        rival = dear.index[0] if len(dear) else alone.index[-1]
        gains = taus[i] - taus[rival]
        found.loc[i, ["rival", "rival_steps"]] = found.loc[rival, "tau"], found.loc[rival, "steps"]
        found.loc[i, "gain"] = line["tau"] - found.loc[rival, "tau"]
        found.loc[i, ["gain_low", "gain_high"]] = np.nanquantile(gains, [LEVEL, 1 - LEVEL])
    return found.drop(columns=["low_top", "high_top"])


def supernet_section(path: Path = PATH) -> str:
    """Heading, question, table and verdict; empty as long as nothing is measured."""
    if not path.exists():
        return ""
    found = table(path)
    parts = ["#### Weight sharing", question(), shown(found), verdict(found), made_by(pd.read_csv(path, dtype=str))]
    return "\n" + "\n\n".join(parts) + "\n\n"


def question() -> str:
    """What was done."""
    plan = Plan()
    return (
        "Does a supernet rank candidates better than short trainings of their own do, for the same seconds? Its cells"
        " are shared between candidates by their place in the order of building (`cell`), by node (`node`: outputs by"
        " level), by place and level (`cell_level`) or by place, level and fusion (`cell_level_op`); head and laterals"
        f" by all. It starts from {plan.warm} steps of the published network; then each update is the mean gradient of"
        f" {plan.paths} paths, drawn so that every option of every decision comes equally often. Scores are losses on"
        " images that are new to it. Seconds are CPU seconds of a candidate in a study of"
        f" {STUDY}, with its share of the supernet and of the features that this looks at. The rival is the"
        " independent training (`fast`, stopped early) of as many seconds; gain is the difference in tau, with a 90 %"
        " bootstrap over candidates."
    )


def shown(found: pd.DataFrame) -> str:
    """The main ways of the sharing whose rows have the best mean tau, and the best row of each other one."""
    shared = found[found["sharing"] != ""]
    best = shared.groupby("sharing")["tau"].mean().idxmax()
    main = shared[(shared["sharing"] == best) & shared["way"].isin(MAIN) & shared["steps"].isin((0, STEPS))]
    others = shared[shared["sharing"] != best]
    others = others.loc[others.groupby("sharing")["tau"].idxmax()]
    kept = pd.concat([found[(found["way"] == "warm") & (found["steps"] == STEPS)], main, others])
    lines = [
        "| score | sharing | path-steps | own steps | seconds | tau (90 % interval) | rival: steps, tau | gain |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in kept.to_dict("records"):
        sharing = f"`{row['sharing']}`" if row["sharing"] else ""
        lines.append(
            f"| {WORDS[row['way']]} | {sharing} | {row['budget']} |"
            f" {row['steps']} | {row['seconds']:.2f} | {_tau(row)} | {row['rival_steps']:.0f}, {row['rival']:.2f} |"
            f" {_gain(row)} |"
        )
    return "\n".join(lines)


def verdict(found: pd.DataFrame) -> str:
    """What the numbers say, good or bad."""
    shared = found[found["sharing"] != ""]
    above, below = (shared["gain_low"] > 0).sum(), (shared["gain_high"] < 0).sum()
    plain = shared[shared["way"] == "inherited"]
    top = shared.loc[shared["tau"].idxmax()]
    longest = found[found["way"] == "independent"].sort_values("steps").iloc[-1]
    means = ", ".join(f"`{name}` {tau:.2f}" for name, tau in shared.groupby("sharing")["tau"].mean().items())
    word = "Whether weight sharing pays cannot be told"
    if above > below:
        word = "Weight sharing pays here"
        if (plain["gain_high"] < 0).all():
            word += ", if batch norms have statistics of the candidate's own"
    elif below > above:
        word = "Weight sharing does not pay here"
    return (
        f"**{word}**: of {len(shared)} scores by shared weights (all sharings, budgets and steps), {above} are above"
        f" their rival and {below} below it with the whole interval, and {(shared['gain'] > 0).sum()} are above it at"
        f" all. Weights as they are have tau {plain['tau'].min():.2f} to {plain['tau'].max():.2f}. The best score,"
        f" chosen by the truth itself and so flattered, is {WORDS[top['way']]}, `{top['sharing']}`,"
        f" {top['budget']} path-steps, {top['steps']} own steps: tau {_tau(top)} at {top['seconds']:.2f} s, against"
        f" {_tau(longest)} of `fast` at {longest['seconds']:.2f} s. {cheaper(shared, longest)} Mean tau by sharing:"
        f" {means}."
    )


def cheaper(shared: pd.DataFrame, longest: pd.Series) -> str:
    """The cheapest score that is as good as the whole independent training."""
    good = shared[shared["tau"] >= longest["tau"]]
    if good.empty:
        return "None is as good as that."
    least = good.loc[good["seconds"].idxmin()]
    if least["seconds"] >= longest["seconds"]:
        return "None that is as good as that is cheaper."
    share = least["seconds"] / longest["seconds"]
    even = least["once"] / (longest["seconds"] - least["own"])
    return (
        f"The cheapest that is as good as that takes {least['seconds']:.2f} s, {share:.2f} of it; its supernet takes"
        f" {least['once']:.0f} s once, which {even:.0f} candidates bring in."
    )


def _tau(row: dict | pd.Series) -> str:
    return f"{row['tau']:.2f} ({row['low']:.2f} to {row['high']:.2f})"


def _gain(row: dict) -> str:
    return f"{row['gain']:+.2f} ({row['gain_low']:+.2f} to {row['gain_high']:+.2f})"
