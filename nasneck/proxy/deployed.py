"""The neck as it will be deployed: its size and its speed at the user's image size and widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from nasneck.compile import compile_neck
from nasneck.cost import count_macs, count_parameters, measure_latency
from nasneck.graph import NeckGraph
from nasneck.neck import Neck
from nasneck.objective import ObjectiveConfig
from nasneck.proxy.config import NeckConfig
from nasneck.slot import SLOT
from nasneck.trial import Measurement, State


@dataclass(frozen=True, slots=True)
class Deployed:
    """Costs of necks under one objective.

    Args:
        objective: Image size, widths and limits.
        neck: What stands where the objective says nothing.
        in_channels: Likewise, of the backbone.
        canvas: Likewise, the side of the images in pixels.
    """

    objective: ObjectiveConfig
    neck: NeckConfig
    in_channels: Mapping[int, int]
    canvas: int

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images, px."""
        return self.objective.image_size or (self.canvas, self.canvas)

    def neck_of(self, graph: NeckGraph, trained: Neck | None = None) -> Neck:
        """The neck to look at: ``trained``, the candidate's own, where widths are those of the proxy."""
        objective = self.objective
        if trained is not None and objective.channels is None and not objective.in_channels:
            return trained
        widths = dict(objective.in_channels) or dict(self.in_channels)
        with torch.random.fork_rng(devices=[]):
            return compile_neck(graph, widths, objective.channels or self.neck.channels, norm=self.neck.norm)

    def costs(self, neck: Neck) -> dict[str, Any]:
        """``parameters``, ``macs`` and the ``image_size`` that they are for."""
        size = self.image_size
        return {"parameters": count_parameters(neck), "macs": count_macs(neck, size), "image_size": size}

    def latency_ms(self, neck: Neck, device: torch.device) -> float:
        """Median time of a forward pass for one image while no other process of nasneck works on this machine."""
        with SLOT.alone():
            return measure_latency(neck, self.image_size, device=device, runs=self.objective.latency_runs)

    def refuse(self, graph: NeckGraph) -> Measurement | None:
        """What to record of a candidate that is too large to be worth a training; None if it is not.

        Nothing is computed, so this is fast and runs anywhere.
        """
        if not self.objective.bounded:
            return None
        with torch.device("meta"):
            neck = self.neck_of(graph)
        return self.refused(Measurement(State.REJECTED, **self.costs(neck)))

    def refused(self, known: Measurement) -> Measurement | None:
        """``known`` as a refusal, if it passes a limit."""
        over = self.objective.over(known)
        return replace(known, state=State.REJECTED, text=over) if over else None
