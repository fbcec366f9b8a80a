"""The README's section on quick scores, from the CSVs of ``fidelity.py``, ``fidelity_speed.py`` and ``together.py``."""

from __future__ import annotations

import fidelity
import fidelity_bccd
import fidelity_speed
import pandas as pd
from agreement import ceiling
from step_table import step_words, views_words
from strategies import RESULTS

PROCESSES = 2
MANY = 1000  # candidates of a longer study

# Score, reward and steps of a row, and its words.
ROWS: tuple[tuple[str, str, int, str], ...] = (
    ("fast", "loss", 10, "`fast`, stopped at 10 steps"),
    ("fast", "loss", 20, "`fast`, stopped at 20 steps"),
    ("fast", "loss", 30, "`fast`, stopped at 30 steps"),
    ("fast", "loss", 40, "**`fast`**: the preset, 40 steps"),
    ("shared", "loss", 1, "`shared`, stopped at 1 step"),
    ("shared", "loss", 2, "`shared`, stopped at 2 steps"),
    ("shared", "loss", 5, "**`shared`**: the preset, 5 steps from weights that candidates share"),
    ("shared_1", "loss", 5, "`shared`, another seed of these weights"),
    ("shared_2", "loss", 5, "`shared`, a third"),
    ("shared_long", "loss", 5, "`shared`, weights trained for 600 path-steps, not 200"),
    ("shared_long", "loss", 10, "`shared`, these weights, 10 steps"),
    ("float32", "loss", 40, "`fast` in float32"),
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
    top = ceiling(truth)
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


def speed_of(score: str, rows: pd.DataFrame) -> str:
    """How many candidates an hour, of one run."""
    s = fidelity_speed.summary(rows)
    many = fidelity_speed.summary(rows, study=MANY)
    processor = rows["device"].iloc[0].removeprefix("cpu: ").partition(",")[0]
    return (
        f"| **`{score}`** | {processor} | {s['naive_s']:.1f} | {s['naive_per_hour']:,.0f} |"
        f" {s['fast_s']:.2f} | {s['once_s']:.0f} | {s['fast_per_hour']:,.0f} |"
        f" **{s['ratio']:.0f}** ({s['ratio_low']:.0f} to {s['ratio_high']:.0f}) |"
        f" {many['ratio']:.0f} |"
    )


def speed_words() -> str:
    """How many candidates an hour."""
    rows = pd.read_csv(RESULTS / "fidelity_speed.csv")
    rows = rows[rows["processes"] == PROCESSES]
    table = [
        "| score | processor | naive: s each | an hour | quick: s each | s once | an hour | times naive |"
        f" in a study of {MANY:,} |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
        *(speed_of(str(score), run) for (score, _), run in rows.groupby(["score", "device"], sort=False)),
    ]
    together = pd.read_csv(RESULTS / "together.csv")
    ratios = ", ".join(f"{row['ratio']:.2f} (K = {row['together']})" for row in together.to_dict("records"))
    return (
        "Candidates an hour that two one-thread processes score the naive way and with the quick presets. What is done"
        " once (backbone, features and, for `shared`, the shared weights, the last by one process while the other has"
        f" nothing to do) is charged to a study of {fidelity_speed.STUDY}. Ratios are by rounds of one run in which the"
        " two ways take turns; the seconds of two runs are not comparable.\n\n"
        + "\n".join(table)
        + f"\n\n{made_by(rows)}\n\n"
        "K candidates that take turns in one process and share what is fetched, in time against one after another:"
        f" {ratios}. So stored features are no reason for it on the CPU; passes of a backbone are (`frozen`, below)."
        f" {made_by(together)}"
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
        step_words(),
        fidelity_words(),
        made_by(truth),
        made_by(scores),
        fidelity_bccd.words(),
        views_words(),
    ]
    return "\n" + "\n\n".join(part for part in parts if part) + "\n\n"
