"""Batches of features, and the losses of candidates on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nasneck.proxy.bank import Kept
from nasneck.proxy.candidate import Candidate


class BatchesByNumber(Protocol):
    """What a training of neck and head looks at: :class:`Batches` or :class:`nasneck.proxy.passes.Passes`."""

    def features(self, batch: int) -> list[Tensor]: ...
    def losses(self, candidate: Candidate, batch: int, outputs: dict[str, Tensor]) -> dict[str, Tensor]: ...


@dataclass(frozen=True, slots=True)
class Batches:
    """Batches of stored features.

    Args:
        kept: Features and targets.
        places: Of the images of each batch.
    """

    kept: Kept
    places: Sequence[Sequence[int]]

    def features(self, batch: int) -> list[Tensor]:
        """Maps (B, C, H, W) of a batch, finest first; new tensors."""
        return self.kept.features.take(torch.tensor(self._rows(batch)))

    def losses(self, candidate: Candidate, batch: int, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of what a candidate gave for the features of a batch."""
        kept, rows = self.kept, self._rows(batch)
        if candidate.maps not in kept.matches:  # the same for all candidates with the same maps
            kept.matches[candidate.maps] = candidate.canvas.matches(kept.targets)
        matches = kept.matches[candidate.maps]
        return candidate.canvas.losses(outputs, [kept.targets[row] for row in rows], [matches[row] for row in rows])

    def _rows(self, batch: int) -> list[int]:
        return [self.kept.row[place] for place in self.places[batch]]
