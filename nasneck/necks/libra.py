"""Balanced feature pyramid: Pang et al., "Libra R-CNN", CVPR 2019, section 3.2.

All levels are brought to one size and averaged, the mean is refined, and goes back to every level as a residual.
"""

from __future__ import annotations

from typing import Literal

from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, NonLocal, Op, Resample
from nasneck.necks.chain import chain
from nasneck.necks.fpn import fpn
from nasneck.necks.pyramid import Extra, LevelRange, backbone_features, check_choice

Refine = Literal["non_local", "conv", "none"]
_REFINE: dict[str, tuple[Op, ...]] = {
    "non_local": (NonLocal(),),
    "conv": (Conv(3, width="input", init="glorot"), Act("relu")),
    "none": (),
}


def libra(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 7),
    *,
    refine: Refine = "non_local",
    extra: Extra = "pool",
) -> NeckGraph:
    """Libra R-CNN's neck: an FPN, then the balanced pyramid over its outputs.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck.
        refine: As for :func:`bfp`.
        extra: How the FPN makes levels above the backbone's.
    """
    return chain(fpn(inputs, levels, extra=extra), bfp(levels, refine=refine), name="libra")


def bfp(levels: LevelRange = (3, 7), *, refine: Refine = "non_local", at: int | None = None) -> NeckGraph:
    """The balanced pyramid alone: a neck over maps of one width, such as another neck's outputs (see ``chain``).

    Args:
        levels: First and last level, of its features and its outputs.
        refine: What is done to the mean: ``non_local`` (the paper's), ``conv`` or ``none``.
        at: Level that the maps are brought to; by default the third, or the last if there are fewer.
    """
    check_choice("bfp", "refine", refine, tuple(_REFINE))
    nodes, covered = backbone_features("bfp", levels, levels)
    middle = min(covered[0] + 2, covered[-1]) if at is None else at
    check_choice("bfp", "at", middle, covered)
    gathered = [Edge(f"c{level}", _resized(level, middle)) for level in covered]
    nodes.append(Node("balanced", middle, "mean", gathered, _REFINE[refine]))
    for level in covered:
        scattered = Edge("balanced", _resized(middle, level))
        nodes.append(Node(f"p{level}", level, "sum", [scattered, Edge(f"c{level}", ())]))
    return NeckGraph(nodes, outputs={level: f"p{level}" for level in covered}, name="bfp")


def _resized(at: int, to: int) -> list[Op]:
    if at == to:
        return []
    return [Resample("max" if at < to else "nearest", to=f"c{to}")]
