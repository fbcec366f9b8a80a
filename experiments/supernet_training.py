"""Training of a supernet on the features of the proxy task, on images that scores do not look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from supernet_weights import SharedWeights, own_candidate
from torch import Tensor

from nasneck import NeckGraph, necks
from nasneck.proxy import ProxyTask
from nasneck.proxy.bank import Kept
from nasneck.proxy.candidate import Candidate
from nasneck.proxy.fit import Fit
from nasneck.proxy.paths import FairPaths
from nasneck.proxy.views import batch_order
from nasneck.space import SearchSpace


@dataclass(frozen=True)
class Plan:
    """How a supernet is trained.

    Args:
        warm: Steps of the published network before: they train head and laterals, and its cells are what all others
            start from.
        paths: Candidates whose gradients make an update, all on one batch.
        budgets: Path-steps (a path on a batch) after which candidates are scored; the rate is constant, so a longer
            training begins with a shorter one.
    """

    warm: int = 100
    paths: int = 4
    budgets: tuple[int, ...] = (200, 600, 1500)


class Images:
    """Batches of features of the images that the candidates' own steps, and so their scores, do not look at.

    Args:
        task: Of the ``cached`` fidelity, with one view an image.
        seed: Of the order.
        steps: Of a candidate's own training.
        batches: How many there are, from first to last; they start anew when all images were seen.
    """

    def __init__(self, task: ProxyTask, *, seed: int, steps: int, batches: int) -> None:
        images, size = len(task.data.train), task.config.train.batch_size
        assert task.config.augment.views == 1, "else an image has several places"
        taken = {i for batch in batch_order(images, batch_size=size, steps=steps, seed=seed) for _, i in batch}
        free = [i for i in range(images) if i not in taken]
        self.count = len(free)
        task.prepare(seed=seed, steps=images // size)  # of all images
        fidelity: Any = task.fidelity
        self._kept: Kept = fidelity._kept[1]
        task.prepare(seed=seed, steps=steps)  # what candidates look at is in memory again
        order = batch_order(len(free), batch_size=size, steps=batches, seed=seed)
        self._rows = [[self._kept.row[free[i]] for _, i in batch] for batch in order]
        self._matches: list[Tensor] = []

    def features(self, batch: int) -> list[Tensor]:
        """Maps (B, C, H, W), finest first."""
        return self._kept.features.take(torch.tensor(self._rows[batch]))

    def loss(self, candidate: Candidate, batch: int, features: Sequence[Tensor]) -> Tensor:
        """The loss of a candidate for a batch and its features, summed over the detector's parts."""
        if not self._matches:  # the same for all, as the maps are
            self._matches = candidate.canvas.matches(self._kept.targets)
        rows = self._rows[batch]
        targets, matches = [self._kept.targets[row] for row in rows], [self._matches[row] for row in rows]
        return torch.stack(list(candidate.canvas.losses(candidate.outputs(features), targets, matches).values())).sum()


def warm_start(task: ProxyTask, images: Images, plan: Plan, seed: int) -> Candidate:
    """The published network after ``plan.warm`` steps on the first batches."""
    found = own_candidate(task, necks.nas_fpn(repeats=1), seed)

    def losses_at(step: int) -> dict[str, Tensor]:
        return {"loss": images.loss(found, step, images.features(step))}

    Fit([found.detector.train()], losses_at, task.config.train, steps=plan.warm).advance(plan.warm)
    return found


def train(
    task: ProxyTask, space: SearchSpace, weights: SharedWeights, images: Images, plan: Plan, seed: int
) -> Iterator[int]:
    """Train the shared weights; stops at each budget and says it.

    Batches are those after the ``plan.warm`` first ones.
    """
    paths = FairPaths(space, seed)
    updates = plan.budgets[-1] // plan.paths
    drawn = [[space.decode(paths.draw()) for _ in range(plan.paths)] for _ in range(updates)]
    for graph in (graph for group in drawn for graph in group):
        weights.of(graph)  # so that the optimiser knows all of them

    def losses_at(step: int) -> dict[str, Tensor]:
        return path_losses(weights, images, plan.warm + step, drawn[step])

    config = replace(task.config.train, warmup=0.0)  # that was the warm start
    fit = Fit(weights.modules, losses_at, config, steps=updates)
    for budget in plan.budgets:
        fit.advance(budget // plan.paths)
        yield budget


def path_losses(weights: SharedWeights, images: Images, batch: int, graphs: Sequence[NeckGraph]) -> dict[str, Tensor]:
    """The losses of some paths for one batch; their sum is the mean over paths."""
    features = images.features(batch)
    return {
        f"path{i}": images.loss(weights.path(graph), batch, features) / len(graphs) for i, graph in enumerate(graphs)
    }
