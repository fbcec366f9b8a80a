"""Tables from the rows of a comparison. Only pandas is needed, not torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

_NUMBERS = ("ap", "ap50", "ap_small", "ap_medium", "ap_large", "parameters", "macs", "latency_ms")
COLUMNS = ("neck", "AP", "AP50", "AP_S", "AP_M", "AP_L", "params", "MACs", "latency")


def summarize(rows: Sequence[Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """One line per neck, in the order of first appearance.

    Columns: ``neck``, ``seeds`` (trainings that succeeded), ``failed``, and of these the mean ``ap``, ``ap50``,
    ``ap_small``, ``ap_medium``, ``ap_large`` with the sample standard deviation in ``ap_sd`` (NaN for one
    seed); ``parameters``, ``macs``, and the median ``latency_ms``.
    """
    frame = _frame(rows)
    found = []
    for neck in frame["neck"].unique():
        group = frame[frame["neck"] == neck]
        good = group[group["state"] == "ok"]
        numbers = {name: _floats(good[name]) for name in _NUMBERS}
        found.append(
            {
                "neck": neck,
                "seeds": len(good),
                "failed": len(group) - len(good),
                "ap": numbers["ap"].mean(),
                "ap_sd": numbers["ap"].std(ddof=1),
                "ap50": numbers["ap50"].mean(),
                # an empty bin is -1 and has no mean
                **{name: numbers[name][numbers[name] >= 0].mean() for name in ("ap_small", "ap_medium", "ap_large")},
                **{name: numbers[name].median() for name in ("parameters", "macs", "latency_ms")},
            }
        )
    return pd.DataFrame(found)


def table_rows(summary: pd.DataFrame) -> list[tuple[str, ...]]:
    """The cells of a table with :data:`COLUMNS`, as text."""
    cells = []
    for line in summary.to_dict("records"):
        spread = "" if pd.isna(line["ap_sd"]) else f" ± {100 * line['ap_sd']:.1f}"
        failed = f" ({line['failed']} failed)" if line["failed"] else ""
        cells.append(
            (
                f"{line['neck']}{failed}",
                f"{_percent(line['ap'])}{spread}",
                *(_percent(line[name]) for name in ("ap50", "ap_small", "ap_medium", "ap_large")),
                _count(line["parameters"]),
                _count(line["macs"]),
                "-" if pd.isna(line["latency_ms"]) else f"{line['latency_ms']:.1f} ms",
            )
        )
    return cells


def markdown_table(summary: pd.DataFrame) -> str:
    """The table in Markdown, numbers to the right."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    lines += ["| " + " | ".join(cells) + " |" for cells in table_rows(summary)]
    return "\n".join(lines) + "\n"


def legend(rows: Sequence[Mapping[str, Any]] | pd.DataFrame) -> str:
    """A sentence that says what the numbers of a comparison are."""
    frame = _frame(rows)
    seeds = len(set(frame["seed"]))
    trained = frame[frame["state"] == "ok"]  # a training that failed may not have come to its steps
    steps = "/".join(str(int(s)) for s in sorted(set(trained["steps"] if len(trained) else frame["steps"])))
    devices = "; ".join(sorted(set(frame["device"])))
    shown = frame["image_size"].dropna() if "image_size" in frame else ()
    sizes = sorted({str(size) for size in shown})
    image = f"one image of {'/'.join(sizes)} px" if sizes else "one image"
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    return (
        f"AP in percent on the {frame['split'].iloc[0]} split, {spread}, {steps} training steps each; S, M, L by "
        f"area on the canvas; parameters, multiply-adds and median latency ({image}) of the neck alone; {devices}."
    )


def spread_sentence(candidates: Sequence[float], repeats: Mapping[str, Sequence[float]]) -> str:
    """Whether a search had anything to see: the spread between candidates against that between seeds.

    Args:
        candidates: Rewards of different candidates with one seed.
        repeats: Rewards of some of them with several seeds.
    """
    between = pd.Series(candidates, dtype=float).std(ddof=1)
    groups = [pd.Series(values, dtype=float) for values in repeats.values() if len(values) > 1]
    if not groups:
        return f"standard deviation of the reward between {len(candidates)} candidates: {100 * between:.2f} AP"
    freedom = sum(len(group) - 1 for group in groups)
    within = (sum(((group - group.mean()) ** 2).sum() for group in groups) / freedom) ** 0.5
    verdict = (
        "the candidates differ by more than the seeds do"
        if between > 1.5 * within
        else "the candidates do not differ by more than the seeds do: the search learned nothing"
    )
    return (
        f"Standard deviation of the reward: {100 * between:.2f} AP between {len(candidates)} candidates (one seed "
        f"each), {100 * within:.2f} AP between seeds ({len(groups)} candidates, {freedom} degrees of freedom): "
        f"{verdict}."
    )


def _frame(rows: Sequence[Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    return rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))


def _floats(column: Any) -> pd.Series:
    return pd.Series(column, dtype=float)


def _percent(value: float) -> str:
    return "-" if pd.isna(value) else f"{100 * value:.1f}"


def _count(value: float) -> str:
    """Three digits with a unit: 460 k, 29.9 M, 1.23 G."""
    if pd.isna(value):
        return "-"
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f}"
