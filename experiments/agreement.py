"""How well scores of candidates agree with a truth, and a truth with itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd


def tau_b(one: np.ndarray, other: np.ndarray) -> float:
    """:func:`nasneck.ranking.kendall_tau` for arrays, fast enough for a bootstrap."""
    upper = np.triu_indices(len(one), 1)
    first = np.sign(one[:, None] - one[None, :])[upper]
    second = np.sign(other[:, None] - other[None, :])[upper]
    known = math.sqrt(np.count_nonzero(first) * np.count_nonzero(second))
    return float((first * second).sum() / known) if known else math.nan


def drawn_taus(scores: np.ndarray, truth: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    """Tau-b of ``scores`` (seeds, N) to ``truth`` (N,), mean over seeds, in each draw of a bootstrap: (draws,).

    A draw is so many copies of each candidate; pairs are counted as often as they come, and copies of one candidate are
    ties, as in :func:`tau_b` of the drawn values, which takes a thousand times as long. NaN where all are ties.
    """
    size = len(truth)
    copies = np.array([np.bincount(rng.integers(size, size=size), minlength=size) for _ in range(draws)], dtype=float)

    def pairs(weight: np.ndarray) -> np.ndarray:
        return ((copies @ weight) * copies).sum(axis=1)

    second = np.sign(truth[:, None] - truth[None, :])
    taus = []
    for row in scores:
        first = np.sign(row[:, None] - row[None, :])
        known = np.sqrt(pairs(np.abs(first)) * pairs(np.abs(second)))
        taus.append(pairs(first * second) / np.where(known > 0, known, np.nan))
    return np.mean(taus, axis=0)


def agreement(found: np.ndarray, truth: np.ndarray, *, draws: int = 2000) -> dict[str, float]:
    """How the scores (seeds, N) agree with the truth (seeds, N); NaN is a candidate that failed.

    ``tau`` and ``rho`` are of one seed of the score against the mean truth, averaged over the seeds; ``low`` and
    ``high`` bound 90 % of the bootstrap over candidates; ``tau_top`` is over the better half by the truth;
    ``tau_single`` is against single seeds of the truth, as the ceiling is.
    """
    lowest = np.nanmin(found)
    found = np.where(np.isnan(found), lowest - 1, found)  # a failed one is the worst
    mean = truth.mean(axis=0)
    top = np.argsort(-mean)[: (len(mean) + 1) // 2]

    def tau(places: np.ndarray) -> float:
        return float(np.mean([tau_b(row[places], mean[places]) for row in found]))

    every = np.arange(len(mean))
    rng = np.random.default_rng(0)
    drawn = drawn_taus(found, mean, rng, draws)
    drawn_top = drawn_taus(found[:, top], mean[top], rng, draws)
    rho = [pd.Series(row).corr(pd.Series(mean), method="spearman") for row in found]
    return {
        "tau": tau(every),
        "low": float(np.nanquantile(drawn, 0.05)),
        "high": float(np.nanquantile(drawn, 0.95)),
        "rho": float(np.mean(rho)),
        "tau_top": tau(top),
        "low_top": float(np.nanquantile(drawn_top, 0.05)),
        "high_top": float(np.nanquantile(drawn_top, 0.95)),
        "tau_single": float(np.mean([tau_b(row, other) for row in found for other in truth])),
        "best_is": float(np.mean([1 + np.sum(mean > mean[np.argmax(row)]) for row in found])),
    }


def ceiling(truth: np.ndarray) -> dict[str, float]:
    """Tau between the seeds of the truth, over all candidates and the better half, and of one against the others."""
    pairs = [(i, j) for i in range(len(truth)) for j in range(i)]
    top = np.argsort(-truth.mean(axis=0))[: (truth.shape[1] + 1) // 2]
    rest = [np.delete(truth, i, axis=0).mean(axis=0) for i in range(len(truth))]
    return {
        "tau": float(np.mean([tau_b(truth[i], truth[j]) for i, j in pairs])),
        "tau_top": float(np.mean([tau_b(truth[i, top], truth[j, top]) for i, j in pairs])),
        "tau_rest": float(np.mean([tau_b(row, other) for row, other in zip(truth, rest, strict=True)])),
        "sd_seeds": float(np.sqrt(truth.var(axis=0, ddof=1).mean())),
        "sd_candidates": float(truth.mean(axis=0).std(ddof=1)),
    }


def by_seed(data: pd.DataFrame, column: str, order: Sequence[str]) -> np.ndarray:
    """``column`` as (seeds, candidates)."""
    return data.pivot_table(index="seed", columns="neck", values=column, dropna=False).reindex(columns=order).to_numpy()
