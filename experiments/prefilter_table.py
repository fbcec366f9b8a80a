"""What the README says about a learned pre-filter, from ``prefilter.csv`` (see ``prefilter.py``)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from prefilter_ask import START
from strategies import RESULTS

REFERENCES = {"synthetic": (100, 400), "pool": (75, 150), "live": (75,)}  # evaluations of the unfiltered search
# Where the filter has to pay to be worth a setting of searches.
WANTED = (("synthetic", "random"), ("synthetic", "evolution"), ("pool", "random"), ("live", "evolution"))
CLEAR = 2.0  # standard errors


@dataclass(frozen=True)
class Gain:
    """A filtered search beside the same one without a filter, at so many evaluations of the latter.

    Args:
        before: Mean value of the unfiltered search, in standard deviations of rewards, as all values.
        difference, error: Filtered minus unfiltered after the same time, mean over seeds and standard error; NaN where
            the filtered searches end before.
        reached: Evaluations after which the filtered search has the mean value ``before``; NaN if never.
        speedup: Time to it without the filter over that with it; NaN likewise.
        cost: What the filter adds to an evaluation, as a share of its time.
    """

    testbed: str
    strategy: str
    filter: str
    seeds: int
    evaluations: int
    before: float
    difference: float
    error: float
    reached: float
    speedup: float
    cost: float

    @property
    def verdict(self) -> str:
        """``pays``, ``costs``, ``open``, or empty where nothing can be said."""
        if math.isnan(self.difference):
            return ""
        if self.difference > CLEAR * self.error:
            return "pays"
        return "costs" if self.difference < -CLEAR * self.error else "open"


def prefilter_section(path: Path = RESULTS / "prefilter.csv") -> str:
    """Heading, words, tables and verdict; empty as long as nothing is measured."""
    if not path.exists():
        return ""
    rows = pd.read_csv(path, dtype={"commit": str}, keep_default_na=False)
    found = gains(rows)
    parts = ["#### A learned pre-filter", words(rows), verdict(found), taus(rows), table(found)]
    commits = ", ".join(sorted(set(rows["commit"])))
    parts.append(f"Commit {commits}: `{rows['command'].iloc[0]}`; {'; '.join(sorted(set(rows['device'])))}.")
    return "\n" + "\n\n".join(parts) + "\n\n"


def words(rows: pd.DataFrame) -> str:
    """What was done."""
    return (
        "Does it pay to ask a strategy for several proposals, to train the one that a small predictor thinks best, and"
        " to skip the others? The predictor is a Gaussian process on the study's own results: on which choices agree"
        f" (`pairs`), or on the graph's edges counted by level (`wiring`); it skips nothing before {START} trainings."
        " The testbeds are the test problem above (other seeds), real rewards of the preset `fast` with"
        f" {_steps()} steps ({rows['evaluation_seconds'].iloc[0]:.2f} CPU-seconds an evaluation) of a pool of random"
        " candidates, replayed, and the same rewards measured live. Values are in standard deviations of the"
        " rewards of random candidates; errors are standard errors over seeds, which for the pool are orders of the"
        " same candidates, so that they say nothing of another pool."
    )


def _steps() -> int:
    return int(pd.read_csv(RESULTS / "prefilter_pool.csv")["steps"].max())


def taus(rows: pd.DataFrame) -> str:
    """Kendall's tau of the predictors on held-out candidates."""
    own = rows[rows["measure"] == "tau"]
    again = own[own["evaluations"] == 0]
    own = own[own["evaluations"] > 0]
    sizes = sorted(own["evaluations"].unique())
    lines = [
        f"| testbed | predictor, tau on held-out candidates | {' | '.join(f'{n} trained' for n in sizes)} |",
        "|---|---|" + "---:|" * len(sizes),
    ]
    for (testbed, kernel), part in own.groupby(["testbed", "filter"], sort=False):
        means = part.groupby("evaluations")["value"].agg(["mean", "std"])
        cells = " | ".join(f"{means['mean'][n]:.2f} ± {means['std'][n]:.2f}" for n in sizes)
        lines.append(f"| {testbed} | {kernel} | {cells} |")
    for row in again.to_dict("records"):
        cells = " | ".join([f"{row['value']:.2f}"] * len(sizes))
        lines.append(f"| {row['testbed']} | {row['filter']} | {cells} |")
    return "\n".join(lines)


def gains(rows: pd.DataFrame) -> list[Gain]:
    """Every filtered search at the references of its testbed, in the order of the rows."""
    own = rows[rows["measure"] == "best"]
    each = float(rows["evaluation_seconds"].iloc[0])
    found = []
    for (testbed, strategy), part in own.groupby(["testbed", "strategy"], sort=False):
        plain = part[part["filter"] == "none"]
        for name, filtered in part[part["filter"] != "none"].groupby("filter", sort=False):
            for n in REFERENCES[str(testbed)]:
                if n in set(plain["evaluations"]):
                    found.append(gain(plain, filtered, n, each, (str(testbed), str(strategy), str(name))))
    return found


def gain(plain: pd.DataFrame, filtered: pd.DataFrame, n: int, each: float, names: tuple[str, str, str]) -> Gain:
    """See :class:`Gain`; between two marks, values and seconds are taken to be on a line."""
    time, value = curves(plain, each)
    filtered_time, filtered_value = curves(filtered, each)
    seeds = sorted(set(value) & set(filtered_value))
    before = float(np.mean([value[seed][n] for seed in seeds]))
    differences = np.array([at(filtered_time[seed], filtered_value[seed], time[seed][n]) for seed in seeds])
    differences -= np.array([value[seed][n] for seed in seeds])
    # The curve of the mean, as far as all seeds go.
    marks = sorted(set.intersection(*(set(filtered_value[seed].index) for seed in seeds)))
    mean = pd.Series([np.mean([filtered_value[seed][mark] for seed in seeds]) for mark in marks], index=marks)
    reached = first_at(mean, before)
    both = [mark for mark in marks if mark in time[seeds[0]].index]
    last = both[-1]
    spent, spent_filtered = (np.mean([series[seed][last] for seed in seeds]) for series in (time, filtered_time))
    needed = np.mean([np.interp(reached, filtered_time[seed].index, filtered_time[seed]) for seed in seeds])
    return Gain(
        *names,
        seeds=len(seeds),
        evaluations=n,
        before=before,
        difference=float(differences.mean()),
        error=float(differences.std(ddof=1) / math.sqrt(len(seeds))),
        reached=reached,
        speedup=math.nan if math.isnan(reached) else float(np.mean([time[seed][n] for seed in seeds]) / needed),
        cost=float((spent_filtered - spent) / last / each),
    )


def curves(rows: pd.DataFrame, each: float) -> tuple[dict[int, pd.Series], dict[int, pd.Series]]:
    """Seconds, evaluations included, and values by evaluations, for each seed."""
    time, value = {}, {}
    for seed, own in rows.groupby("seed"):
        own = own.set_index("evaluations").sort_index()
        time[int(seed)], value[int(seed)] = own["seconds"] + each * own.index, own["value"]
    return time, value


def at(time: pd.Series, value: pd.Series, moment: float) -> float:
    """The value after so many seconds; NaN after the last mark."""
    return float(np.interp(moment, time, value, right=math.nan))


def first_at(mean: pd.Series, target: float) -> float:
    """Where a curve first has the target; NaN if it never has."""
    places, values = mean.index.to_numpy(dtype=float), mean.to_numpy()
    enough = np.flatnonzero(values >= target)
    if not len(enough):
        return math.nan
    i = int(enough[0])
    if i == 0:
        return float(places[0])
    share = (target - values[i - 1]) / (values[i] - values[i - 1])
    return float(places[i - 1] + share * (places[i] - places[i - 1]))


def table(found: list[Gain]) -> str:
    """A row for each filter and reference, in Markdown."""
    lines = [
        "| testbed | strategy | filter | searches | N | without at N | with, after the same time | reached by | time |"
        " cost |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for g in found:
        difference = "" if math.isnan(g.difference) else f"{g.difference:+.2f} ± {g.error:.2f}"
        reached = "never" if math.isnan(g.reached) else f"{g.reached:.0f}"
        faster = "" if math.isnan(g.speedup) else f"{g.speedup:.2f}x"
        lines.append(
            f"| {g.testbed} | {g.strategy} | {g.filter} | {g.seeds} | {g.evaluations} | {g.before:.2f} | {difference} |"
            f" {reached} | {faster} | {100 * g.cost:.1f} % |"
        )
    legend = (
        "N: evaluations without the filter; reached by: evaluations with it for the same mean value, and time: how much"
        " less time that is, with the filter's own, which is its cost in percent of an evaluation. A search of the pool"
        " with the filter ends when the pool is used up."
    )
    return "\n".join([*lines, "", legend])


def verdict(found: list[Gain]) -> str:
    """Where the filter pays, and whether it does wherever it has to."""
    kinds: dict[str, list[str]] = {"pays": [], "costs": [], "open": []}
    paying: set[tuple[str, str, str]] = set()
    for names in dict.fromkeys((g.testbed, g.strategy, g.filter) for g in found):
        said = {g.verdict for g in found if (g.testbed, g.strategy, g.filter) == names} - {""}
        # Clear at one reference and not against it at another is not enough: clear at all of them.
        kind = said.pop() if len(said) == 1 else "open"
        kinds[kind].append(f"{names[1]} on {names[0]} ({names[2]})")
        if kind == "pays":
            paying.add(names)
    proposals = [name.partition(" by ")[0] for _, _, name in paying]
    everywhere = sorted(
        many
        for many in set(proposals)
        if all(any(names[:2] == case and names[2].startswith(f"{many} by ") for names in paying) for case in WANTED)
    )
    head = (
        f"**It pays** with random search and with evolution wherever they were tried ({', '.join(everywhere)})."
        if everywhere
        else "**It does not pay everywhere**: no number of proposals is clearly ahead with random search and with"
        " evolution wherever they were tried."
    )
    parts = [
        f"{text} ({CLEAR:.0f} standard errors after the same time, at every N): {'; '.join(kinds[kind])}."
        for kind, text in (("pays", "Clearly ahead"), ("costs", "Clearly behind"))
        if kinds[kind]
    ]
    if kinds["open"]:
        parts.append(f"Neither: {'; '.join(kinds['open'])}.")
    return " ".join([head, *parts])
