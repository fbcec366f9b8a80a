"""The README's section on quick scores, from the CSVs of ``fidelity.py``, ``fidelity_speed.py`` and ``together.py``."""

from __future__ import annotations

import fidelity
import fidelity_speed
import pandas as pd
from strategies import RESULTS

# Score, reward and steps of a row, and its words.
ROWS: tuple[tuple[str, str, int, str], ...] = (
    ("fast", "loss", 10, "`fast`, stopped at 10 steps"),
    ("fast", "loss", 20, "`fast`, stopped at 20 steps"),
    ("fast", "loss", 30, "`fast`, stopped at 30 steps"),
    ("fast", "loss", 40, "**`fast`**: the preset, 40 steps"),
    ("float32", "loss", 40, "in float32"),
    ("light", "loss", 40, "a head with one convolution per branch"),
    ("backbone_200", "loss", 40, "backbone trained for 200 steps, not 100"),
    ("backbone_500", "loss", 40, "backbone trained for 500 steps, not 100"),
    ("long", "loss", 60, "120 steps, stopped at 60"),
    ("long", "loss", 120, "120 steps"),
    ("light_long", "loss", 60, "120 steps, one convolution per branch, stopped at 60"),
    ("light_long", "loss", 120, "120 steps, one convolution per branch"),
    ("ap", "ap", 120, "120 steps, AP"),
    ("quick", "ap", 120, "`quick`: one convolution per branch, rate along a cosine, AP"),
)


def fidelity_words() -> str:
    """What a quick score is worth."""
    order, truth = fidelity.truth_of()
    top = fidelity.ceiling(truth)
    table = fidelity.table()
    lines = [
        "| score | steps | tau (90 % interval) | rho | tau, better half | tau to one seed | place of its best |",
        "|---|---:|---:|---:|---:|---:|---:|",
        f"| naive, one seed to another: the ceiling | 280 | {top['tau']:.2f} | | {top['tau_top']:.2f} |"
        f" {top['tau']:.2f} | |",
    ]
    for score, reward, steps, words in ROWS:
        found = table[(table["score"] == score) & (table["reward"] == reward) & (table["steps"] == steps)]
        for row in found.to_dict("records"):
            lines.append(
                f"| {words} | {steps} | {row['tau']:.2f} ({row['low']:.2f} to {row['high']:.2f}) | {row['rho']:.2f} |"
                f" {row['tau_top']:.2f} | {row['tau_single']:.2f} | {row['best_is']:.1f} |"
            )
    halved = fidelity.halved()
    places = ", ".join(str(place) for place in halved["winner_is"])
    words = (
        f"The naive way to score a candidate ({fidelity.CPU.naive.name}: from scratch, 280 steps, float32, AP) with"
        f" three seeds on {len(order)} candidates, 24 of them drawn uniformly, is the truth: AP"
        f" {100 * truth.mean():.1f} ± {100 * top['sd_candidates']:.1f} between candidates, ±"
        f" {100 * top['sd_seeds']:.1f} between seeds. Below are"
        " Kendall's tau and Spearman's rho of quick scores to its mean (one seed of the score, mean over three; the"
        " interval is a bootstrap over candidates). The last column is the place by the truth of the candidate that the"
        " score puts first."
    )
    halving = (
        f"Successive halving (30, 60, 120 steps, one in two goes on) takes {halved['share'].mean():.2f} of the steps of"
        f" training all to the end; its winner has place {places} by the truth (one a seed)."
    )
    return "\n\n".join([words, "\n".join(lines), halving])


def speed_words() -> str:
    """How many candidates an hour."""
    rows = pd.read_csv(RESULTS / "fidelity_speed.csv")
    s = fidelity_speed.summary(rows)
    together = pd.read_csv(RESULTS / "together.csv")
    ratios = ", ".join(f"{row['ratio']:.2f} (K = {row['together']})" for row in together.to_dict("records"))
    return (
        f"Two one-thread processes score {s['naive_per_hour']:,.0f} candidates an hour the naive way"
        f" ({s['naive_s']:.1f} s each) and {s['fast_per_hour']:,.0f} with `fast` ({s['fast_s']:.2f} s each, and"
        f" {s['once_s']:.0f} s once for backbone and features, charged to a study of {fidelity_speed.STUDY}):"
        f" **{s['ratio']:.0f} times** ({s['ratio_low']:.0f} to {s['ratio_high']:.0f} by rounds of one run in turns)."
        f" {made_by(rows)}\n\n"
        "K candidates that take turns in one process and share what is fetched, in time against one after another:"
        f" {ratios}. So nasneck does not do it on the CPU. {made_by(together)}"
    )


def made_by(rows: pd.DataFrame) -> str:
    """Commits, command and hardware."""
    commits = ", ".join(sorted({str(commit) for commit in rows["commit"]}))
    return f"Commit {commits}: `{rows['command'].iloc[0]}`; {'; '.join(sorted(set(rows['device'].dropna())))}."


def fidelity_section() -> str:
    """All of it; empty as long as a part is not measured."""
    names = ("fidelity_truth", "fidelity_scores", "fidelity_speed", "together")
    if not all((RESULTS / f"{name}.csv").exists() for name in names):
        return ""
    truth, scores = (pd.read_csv(RESULTS / f"fidelity_{name}.csv") for name in ("truth", "scores"))
    parts = [
        "### How fast can a candidate be scored?",
        speed_words(),
        fidelity_words(),
        made_by(truth),
        made_by(scores),
    ]
    return "\n" + "\n\n".join(parts) + "\n\n"
