"""Rewards of candidates that were not trained, predicted from those of candidates that were.

A Gaussian process (Rasmussen and Williams 2006) with one of these kernels. The first three know nothing but h, the
share of decisions in which two candidates agree; the last one reads :func:`wiring`, with d the mean squared difference:

    ridge    h                ridge regression on one-hot decisions
    pairs    h + w h²         the same on one-hot decisions and all products of two of them
    hamming  exp((h - 1) / w) products of any number of them, the more the less
    wiring   exp(-d / 2 w²)   of numbers, each in units of its deviation among the known candidates

Rewards become normal scores of their ranks first, which know no unit and no outlier. The width w and the share of noise
are those of a small grid that make the rewards likeliest.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from nasneck import NeckGraph

WIDTHS: dict[str, tuple[float, ...]] = {
    "ridge": (0.0,),
    "pairs": (1.0, 4.0, 16.0),
    "hamming": (0.1, 0.2, 0.4, 0.8),
    "wiring": (0.5, 1.0, 2.0, 4.0),
}
NOISES = (0.03, 0.1, 0.3, 1.0, 3.0)  # variance of the noise over that of the kernel
AGAIN = 1.25  # width and noise are chosen anew when there are so many times the rewards


class Predictor:
    """The order of rewards to expect.

    Args:
        kernel: A key of :data:`WIDTHS`.
    """

    def __init__(self, kernel: str = "pairs") -> None:
        self.kernel = kernel
        self._width, self._noise, self._chosen_with = WIDTHS[kernel][0], NOISES[0], 0
        self._known = np.empty((0, 0))
        self._unit = np.empty(0)
        self._weights = np.empty(0)

    def fit(self, encoded: np.ndarray, rewards: Sequence[float]) -> None:
        """Learn from N candidates, all of them each time.

        Args:
            encoded: (N, T) choices, or (N, F) numbers for ``wiring``.
            rewards: N, larger is better; NaN is a candidate that failed, which counts as the worst.
        """
        spread = encoded.std(axis=0)
        self._known, self._unit = encoded, np.where(spread > 0, spread, np.inf)  # what never differs says nothing
        alike, scores = self._alike(encoded), normal_scores(rewards)
        if len(scores) >= AGAIN * self._chosen_with:
            self._choose(alike, scores)
            self._chosen_with = len(scores)
        covariance = covariances(self.kernel, alike, self._width)
        covariance.flat[:: len(scores) + 1] += self._noise
        self._weights = np.linalg.solve(covariance, scores)

    def predict(self, encoded: np.ndarray) -> np.ndarray:
        """Normal scores (M,) of M candidates; only their order and differences mean something."""
        return covariances(self.kernel, self._alike(encoded), self._width) @ self._weights

    def _alike(self, encoded: np.ndarray) -> np.ndarray:
        """How like the known candidates, (M, N): share of equal decisions, or minus the distance of numbers."""
        one, other = encoded[:, None, :], self._known[None, :, :]
        if self.kernel != "wiring":
            return (one == other).mean(axis=2)
        return -(((one - other) / self._unit) ** 2).mean(axis=2)

    def _choose(self, alike: np.ndarray, scores: np.ndarray) -> None:
        best = -np.inf
        for width in WIDTHS[self.kernel]:
            values, vectors = np.linalg.eigh(covariances(self.kernel, alike, width))
            along = (vectors.T @ scores) ** 2
            for noise in NOISES:
                spread = np.maximum(values, 0) + noise
                # Logarithm of the marginal likelihood (equation 5.8), the scale of the kernel being the likeliest.
                likelihood = -0.5 * (len(scores) * np.log((along / spread).mean()) + np.log(spread).sum())
                if likelihood > best:
                    best, self._width, self._noise = likelihood, width, noise


def covariances(kernel: str, alike: np.ndarray, width: float) -> np.ndarray:
    """The kernel of :meth:`Predictor._alike`, equal to 1 for equal candidates."""
    if kernel == "ridge":
        return alike.copy()
    if kernel == "pairs":
        return (alike + width * alike**2) / (1 + width)
    if kernel == "hamming":
        return np.exp((alike - 1) / width)
    return np.exp(alike / (2 * width**2))


def normal_scores(rewards: Sequence[float]) -> np.ndarray:
    """Quantiles (N,) of the normal distribution in the order of the rewards; equal ones share one, NaN is lowest."""
    values = np.asarray(rewards, dtype=float)
    values = np.where(np.isnan(values), -np.inf, values)
    ordered = np.sort(values)
    places = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2 / len(values)
    normal = NormalDist()
    return np.array([normal.inv_cdf(place) for place in places])


def wiring(graph: NeckGraph) -> np.ndarray:
    """Edges into nodes with several inputs, counted by the levels they come from and lead to, (levels ** 2,)."""
    levels = {node.name: node.level for node in graph.nodes}
    first, count = min(graph.output_levels), len(graph.output_levels)
    counts = np.zeros((count, count))
    for node in graph.nodes:
        if node.level is None or len(node.inputs) < 2:
            continue
        for edge in node.inputs:
            source = levels[edge.source]
            if source is not None:
                counts[source - first, node.level - first] += 1
    return counts.ravel()
