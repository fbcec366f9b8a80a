"""The README's sections on a training step and on views, from the CSVs of ``step_speed.py`` and ``views.py``."""

from __future__ import annotations

from typing import Any

import pandas as pd
import views
from strategies import RESULTS

SETS = {"shapes": "generated shapes", "bccd": "blood cells"}


def step_words() -> str:
    """What a step costs each way, a column for each backbone; empty as long as nothing is measured."""
    path = RESULTS / "step_speed.csv"
    if not path.exists():
        return ""
    rows: Any = pd.read_csv(path)
    settings = rows[["backbone", "width", "channels"]].drop_duplicates().to_dict("records")
    heads = [f"ResNet-{s['backbone'][6:]}, {s['width']}; neck {s['channels']}" for s in settings]
    lines = [f"| a step | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    same = ["fidelity", "together", "float32", "channels_last", "reads"]
    for way, own in rows.groupby(same, sort=False):
        cells = [times(row) for row in own.to_dict("records")]
        lines.append(f"| {name_of(*way)} | {' | '.join(cells)} |")
    commits = ", ".join(sorted(set(rows["commit"].astype(str))))
    return (
        "What a training step of a candidate costs (the published network with the light head, 128 px, 16 images, one"
        " thread), as times the speed of the naive way: from scratch, in float32 and torch's own layout; elsewhere"
        f" channels lie last. With quartiles of {rows['rounds'].min()} rounds in which all ways take turns; `≥` is the"
        " bound that stored features should meet, and what misses it is bold.\n\n"
        + "\n".join(lines)
        + f"\n\nCommit {commits}: `{rows['command'].iloc[0]}`; {rows['device'].iloc[0]}."
    )


def name_of(fidelity: str, together: int, float32: bool, channels_last: bool, reads: bool) -> str:
    """What a way is called."""
    if reads:
        return "the naive way, images read and augmented in the step"
    name = {"scratch": "from scratch", "frozen": "frozen backbone", "cached": "stored features"}[fidelity]
    if not channels_last:
        return f"{name}, torch's own layout, images at hand: the naive way"
    if fidelity == "frozen":
        name += ", one alone" if together == 1 else f", {together} in turns"
    return name if float32 else f"{name}, bfloat16"


def times(row: dict[Any, Any]) -> str:
    """A cell."""
    if not row["channels_last"] and not row["reads"]:
        return f"1 ({row['step_ms']:.0f} ms)"
    value = f"{row['times']:.1f}"
    if pd.isna(row["bound"]):
        return f"{value} ({row['times_low']:.1f} to {row['times_high']:.1f})"
    met = row["times"] >= row["bound"]
    return f"{value if met else f'**{value}**'} ({row['times_low']:.1f} to {row['times_high']:.1f}; ≥ {row['bound']:g})"


def views_words() -> str:
    """How many views of an image it takes; empty as long as nothing is measured."""
    if not views.CSV.exists():
        return ""
    rows: Any = pd.read_csv(views.CSV)
    lines = ["| images | epochs | views | AP | against new ones | training loss |", "|---|---:|---:|---:|---:|---:|"]
    for row in views.table().to_dict("records"):
        new = row["views"] == views.EPOCHS
        less = "" if new else f"{row['less']:+.1f} ± {row['error']:.1f}"
        lines.append(
            f"| {SETS[row['data']]} | {row['epochs']:.0f} | {'new in each' if new else row['views']} |"
            f" {row['ap']:.1f} | {less} | {row['loss']:.2f} |"
        )
    commits = ", ".join(sorted(set(rows["commit"].astype(str))))
    count, seeds = rows["neck"].nunique(), rows["seed"].nunique()
    return (
        "How many stored views of an image it takes (`proxy.augment.views`), where a training sees each image many"
        f" times: mean AP in percent of {count} necks with {seeds} seeds each, and the difference to views that are"
        " new in each epoch, by pairs of neck and seed, with its standard error.\n\n"
        + "\n".join(lines)
        + f"\n\nCommit {commits}: `{rows['command'].iloc[0]}`; {'; '.join(sorted(set(rows['device'])))}."
    )
