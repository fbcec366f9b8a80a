"""The pre-filter of ``experiments/prefilter.py``: its predictor learns and it skips the right ones."""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasneck.decision import Decision
from nasneck.graph import NeckGraph
from nasneck.necks import fpn
from nasneck.strategy import make_strategy
from nasneck.trial import Outcome

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SIZES = (3, 4, 2, 5, 3, 2)
DECISIONS = tuple(Decision(f"d{i}", size, "d") for i, size in enumerate(SIZES))


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXPERIMENTS)


def additive(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Choices (count, T) and rewards that are sums over decisions."""
    rng = np.random.default_rng(0)
    tables = [rng.normal(size=size) for size in SIZES]
    choices = np.stack([rng.integers(size, size=count) for size in SIZES], axis=1)
    return choices, sum(table[column] for table, column in zip(tables, choices.T, strict=True))


@pytest.mark.parametrize("kernel", ["ridge", "pairs", "hamming", "wiring"])
def test_an_additive_function_is_learnt_from_sixty_and_noise_is_not(kernel: str) -> None:
    predictor, agreement = importlib.import_module("predictor"), importlib.import_module("agreement")
    choices, rewards = additive(260)
    if kernel == "wiring":  # it reads numbers
        choices = np.concatenate(
            [column[:, None] == np.arange(n) for column, n in zip(choices.T, SIZES, strict=True)], 1
        )
        choices = choices.astype(float)
    shuffled = np.random.default_rng(1).permutation(rewards)
    taus = []
    for known in (rewards, shuffled):
        model = predictor.Predictor(kernel)
        model.fit(choices[:60], known[:60])
        taus.append(agreement.tau_b(model.predict(choices[60:]), rewards[60:]))
    assert taus[0] > 0.75
    assert abs(taus[1]) < 0.3


def test_pairs_learn_what_single_decisions_do_not_show() -> None:
    predictor, agreement = importlib.import_module("predictor"), importlib.import_module("agreement")
    choices = np.random.default_rng(0).integers(2, size=(300, 3))
    rewards = (choices[:, 0] == choices[:, 1]) + 0.0
    tau = {}
    for kernel in ("ridge", "pairs"):
        model = predictor.Predictor(kernel)
        model.fit(choices[:100], rewards[:100])
        tau[kernel] = agreement.tau_b(model.predict(choices[100:]).round(6), rewards[100:])
    assert tau["pairs"] > 0.7 > tau["ridge"] + 0.3


def test_scores_order_rewards_and_put_failures_last() -> None:
    scores = importlib.import_module("predictor").normal_scores([0.1, float("nan"), 5.0, 0.1])
    assert scores[1] < scores[0] == scores[3] < scores[2] == -scores[1]


def test_wiring_counts_the_edges_of_merges_by_level() -> None:
    graph: NeckGraph = fpn(inputs=(3, 5), levels=(3, 5))
    counts = importlib.import_module("predictor").wiring(graph).reshape(3, 3)
    # P4 and P3 each merge a lateral of their level with the map above.
    assert counts.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]


class Sum:
    """Stands for a predictor: the sum of the choices; counts its fits."""

    def __init__(self) -> None:
        self.known: list[int] = []

    def fit(self, encoded: np.ndarray, rewards: list[float]) -> None:
        assert len(encoded) == len(rewards)
        self.known.append(len(rewards))

    def predict(self, encoded: np.ndarray) -> np.ndarray:
        return encoded.sum(axis=1)


@pytest.mark.parametrize("told", ["nothing", "rejected"])
def test_the_best_predicted_is_trained_and_nothing_is_skipped_before_enough_are_known(told: Any) -> None:
    filtered_class = importlib.import_module("prefilter_ask").Filtered
    strategy, model = make_strategy("random", DECISIONS, seed=0), Sum()
    filtered = filtered_class(strategy, model, np.array, proposals=4, told=told, start=5)
    proposed = make_strategy("random", DECISIONS, seed=0)  # the same asks
    for _ in range(5):
        ask = filtered.ask()
        assert ask == proposed.ask() and not model.known
        filtered.tell(ask.number, Outcome((random.random(),)))
    for turn in range(3):
        ask, four = filtered.ask(), [proposed.ask() for _ in range(4)]
        assert ask == max(four, key=lambda one: sum(one.choices))
        assert len(strategy.open_asks) == (1 if told == "rejected" else 1 + 3 * (turn + 1))
        filtered.tell(ask.number, Outcome((0.5,)))
    assert model.known[0] == 5


def test_one_proposal_is_the_strategy_itself() -> None:
    strategy, model = make_strategy("random", DECISIONS, seed=0), Sum()
    filtered = importlib.import_module("prefilter_ask").Filtered(strategy, model, np.array, proposals=1, start=0)
    plain = make_strategy("random", DECISIONS, seed=0)
    for _ in range(3):
        ask = filtered.ask()
        assert ask == plain.ask()
        filtered.tell(ask.number, Outcome((0.0,)))
    assert not model.known


def written(path: Path, ahead: float, cost: float = 0.0) -> Path:
    """A made-up CSV: values grow by 1 in 100 evaluations of 1 s, those with the filter ``ahead`` times as fast."""
    lines = ["testbed,measure,strategy,filter,evaluations,value,seconds,seed,evaluation_seconds,device,command,commit"]
    end = ",1.0,cpu: x,prefilter.py run,0123456789"
    for testbed, strategy, kernel in (
        ("synthetic", "random", "pairs"),
        ("synthetic", "evolution", "pairs"),
        ("pool", "random", "wiring"),
        ("live", "evolution", "wiring"),
    ):
        lines.append(f"{testbed},tau,,{kernel},25,0.4,0.0,0{end}")
        lines.append(f"{testbed},tau,,{kernel},25,0.5,0.0,1{end}")
        for name, speed in (("none", 1.0), (f"best of 4 by {kernel}", ahead)):
            spent = cost if speed == ahead else 0.0
            for seed in range(4):
                for n in (20, 75, 100, 150, 400, 800):
                    value = n * speed / 100 + 0.01 * (2 * (seed % 2) - 1) * (name != "none")
                    lines.append(f"{testbed},best,{strategy},{name},{n},{value:.4f},{spent * n},{seed}{end}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_section_says_that_it_pays(tmp_path: Path) -> None:
    text = importlib.import_module("prefilter_table").prefilter_section(written(tmp_path / "a.csv", 2.0))
    assert text.startswith("\n#### A learned pre-filter\n")
    assert "**It pays**" in text and "(best of 4)" in text
    assert "Clearly ahead" in text and "Clearly behind" not in text and "Neither" not in text
    # 400 evaluations without are 200 with: twice as fast, 4 ahead after the same time.
    assert "| synthetic | random | best of 4 by pairs | 4 | 400 | 4.00 | +4.00 ± 0.01 | 200 | 2.00x | 0.0 % |" in text
    assert "| pool | wiring | 0.45 ± 0.07 |" in text
    assert "Commit 0123456789: `prefilter.py run`; cpu: x." in text


def test_section_says_that_it_does_not(tmp_path: Path) -> None:
    section = importlib.import_module("prefilter_table").prefilter_section
    text = section(written(tmp_path / "a.csv", 0.5))
    assert "**It does not pay everywhere**" in text and "Clearly behind" in text and "Clearly ahead" not in text
    # A filter that takes as long as the evaluations loses all that it gains by twice the value.
    text = section(written(tmp_path / "b.csv", 2.0, cost=2.0))
    assert "**It does not pay everywhere**" in text and "200.0 %" in text and "Clearly ahead" not in text


def test_no_section_without_a_csv(tmp_path: Path) -> None:
    assert importlib.import_module("prefilter_table").prefilter_section(tmp_path / "none.csv") == ""


def test_searches_of_every_testbed_give_rows() -> None:
    prefilter, drawn = importlib.import_module("prefilter"), importlib.import_module("prefilter_pool")
    sizes = [decision.choices for decision in prefilter.SPACE.decisions]
    pool = prefilter.Pool({c: float(i) for i, c in enumerate(drawn.draw(sizes, 60))}, 0.0, 1.0)
    for testbed, kernel in (("synthetic", "pairs"), ("pool", "wiring")):
        search = prefilter.Search(testbed, "random", 30, 1, 2, kernel)
        rows = list(prefilter.search_rows(search, 0, pool, None))
        assert [row["evaluations"] for row in rows] == [20, 30]
        assert rows[0]["value"] <= rows[1]["value"] or testbed == "synthetic"
