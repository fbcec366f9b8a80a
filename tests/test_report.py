"""Tables of a comparison, against numbers worked out by hand, and the CSV that they are made of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nasneck.report import COLUMNS, _count, legend, markdown_table, spread_sentence, summarize, table_rows
from nasneck.rows import measurement_row, trial_rows, write_csv
from nasneck.trial import Measurement, State, Trial


def row(neck: str, seed: int, ap: float | None, **more: Any) -> dict[str, Any]:
    good = Measurement(
        State.OK,
        reward=ap,
        ap=ap,
        ap50=2 * ap if ap else 0.0,
        ap75=0.1,
        ap_small=0.1,
        ap_medium=0.2,
        ap_large=0.3,
        loss=1.5,
        parameters=1_234_567,
        macs=2_500_000_000,
        latency_ms=4.0,
        seconds=3.0,
        peak_memory_mb=100.0,
        seed=seed,
        steps=150,
        split="test",
        device="cpu: here, 2 threads",
    )
    return {"neck": neck, "graph_key": "k", **measurement_row(good), **more}


def failed(neck: str, seed: int) -> dict[str, Any]:
    lost = Measurement(State.OOM, seed=seed, split="test", device="cpu: here, 2 threads", text="out of memory")
    return {"neck": neck, "graph_key": "k", **measurement_row(lost)}


ROWS = [
    row("fpn", 0, 0.20, latency_ms=4.0, ap_small=0.10),
    row("fpn", 1, 0.26, latency_ms=9.0, ap_small=-1.0),
    row("fpn", 2, 0.23, latency_ms=5.0, ap_small=0.13),
    row("bifpn", 0, 0.30, ap_large=-1.0),
    failed("bifpn", 1),
    failed("bifpn", 2),
    failed("ours", 0),
    failed("ours", 1),
    failed("ours", 2),
]


def test_summarize_by_hand() -> None:
    summary = summarize(ROWS).set_index("neck")
    assert list(summary.index) == ["fpn", "bifpn", "ours"], "in order of appearance"
    assert summary["seeds"].tolist() == [3, 1, 0] and summary["failed"].tolist() == [0, 2, 3]
    fpn = summary.loc["fpn"]
    assert fpn["ap"] == pytest.approx(0.23)
    assert fpn["ap_sd"] == pytest.approx(0.03), "the sample's: sqrt((0.03**2 + 0.03**2 + 0) / 2)"
    assert fpn["ap50"] == pytest.approx(0.46)
    assert fpn["ap_small"] == pytest.approx(0.115), "an empty bin is no zero"
    assert (fpn["latency_ms"], fpn["parameters"], fpn["macs"]) == (5.0, 1_234_567, 2_500_000_000)
    assert summary.loc["bifpn", "ap"] == pytest.approx(0.30)
    assert math.isnan(summary.loc["bifpn", "ap_sd"]) and math.isnan(summary.loc["bifpn", "ap_large"])
    assert summary.loc["ours"].drop(["seeds", "failed"]).isna().all()


def test_markdown_by_hand() -> None:
    assert markdown_table(summarize(ROWS)).splitlines() == [
        "| neck | AP | AP50 | AP_S | AP_M | AP_L | params | MACs | latency |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        "| fpn | 23.0 ± 3.0 | 46.0 | 11.5 | 20.0 | 30.0 | 1.23 M | 2.5 G | 5.0 ms |",
        "| bifpn (2 failed) | 30.0 | 60.0 | 10.0 | 20.0 | - | 1.23 M | 2.5 G | 4.0 ms |",
        "| ours (3 failed) | - | - | - | - | - | - | - | - |",
    ]
    assert all(len(cells) == len(COLUMNS) for cells in table_rows(summarize(ROWS)))


def test_legend() -> None:
    assert legend(ROWS) == (
        "AP in percent on the test split, mean ± standard deviation over 3 seeds, 150 training steps each; S, M, L by "
        "area on the canvas; parameters, multiply-adds and median latency (one image) of the neck alone; "
        "cpu: here, 2 threads."
    )
    one = legend([row("fpn", 7, 0.2)])
    assert "split, one seed, 150 training steps" in one and "±" not in one
    assert "0 training steps" in legend([failed("fpn", 0)]), "nothing better to say"


def test_the_csv_gives_the_same_table(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "c.csv", ROWS)
    frame = pd.read_csv(path)
    assert markdown_table(summarize(frame)) == markdown_table(summarize(ROWS))
    assert legend(frame) == legend(ROWS)


def test_rows_are_read_back(tmp_path: Path) -> None:
    odd = Measurement(State.ERROR, seed=3, text='line one\nline "two", with a comma')
    good = Measurement(State.OK, reward=0.123456789, ap=0.123456789, parameters=29_858_048, latency_ms=1e-7)
    trials = [
        Trial(0, (1, 2, 3), "key0", State.OK, good, source="warm"),
        Trial(1, (0, 0, 4), "key1", State.ERROR, odd),
        Trial(2, (4, 5, 6), "key2"),
    ]
    frame = pd.read_csv(write_csv(tmp_path / "t.csv", trial_rows(trials)), keep_default_na=True)
    assert frame["number"].tolist() == [0, 1, 2]
    assert frame["state"].tolist() == ["ok", "error", "running"]
    assert frame["source"].tolist() == ["warm", "strategy", "strategy"]
    assert frame["choices"].tolist() == ["1 2 3", "0 0 4", "4 5 6"]
    assert frame["reward"][0] == pytest.approx(0.123457, abs=1e-12) and math.isnan(frame["reward"][1])
    assert frame["parameters"][0] == 29_858_048, "whole numbers are not rounded"
    assert frame["latency_ms"][0] == pytest.approx(1e-7)
    assert frame["text"][1] == odd.text
    assert frame["commit"].notna().all() and frame["command"].notna().all()


def test_no_rows_make_a_header(tmp_path: Path) -> None:
    assert write_csv(tmp_path / "t.csv", []).read_text() == "number,command,commit\n"


def test_spread_of_a_search_that_saw_something() -> None:
    # between: sd(0.1, 0.2, 0.3) = 0.1; within: sqrt((2 * 0.01**2 + 2 * 0.01**2) / 2) = 0.01414
    text = spread_sentence([0.1, 0.2, 0.3], {"a": [0.11, 0.09], "b": [0.31, 0.29]})
    assert text == (
        "Standard deviation of the reward: 10.00 AP between 3 candidates (one seed each), 1.41 AP between seeds "
        "(2 candidates, 2 degrees of freedom): the candidates differ by more than the seeds do."
    )


def test_spread_of_a_search_that_saw_noise() -> None:
    text = spread_sentence([0.1, 0.2, 0.3], {"a": [0.05, 0.15, 0.25]})
    assert "10.00 AP between 3 candidates" in text
    assert "10.00 AP between seeds (1 candidates, 2 degrees of freedom)" in text
    assert text.endswith("the candidates do not differ by more than the seeds do: the search learned nothing.")


def test_spread_without_repeats() -> None:
    assert spread_sentence([0.1, 0.2, 0.3], {"a": [0.1]}) == (
        "standard deviation of the reward between 3 candidates: 10.00 AP"
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (460_272, "460 k"), (999_600, "1 M"), (29_858_048, "29.9 M"), (4.99e10, "49.9 G")],
)
def test_counts_have_three_digits_and_a_unit(number: float, text: str) -> None:
    assert _count(number) == text
