"""BiFPN at the settings of EfficientDet: Tan et al., CVPR 2020, table 1, and D7x as in google/automl."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nasneck.graph import NeckGraph
from nasneck.necks.bifpn import Weighting, bifpn
from nasneck.necks.pyramid import LevelRange, check_choice

Model = Literal["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x"]


@dataclass(frozen=True, slots=True)
class EfficientDet:
    """A published setting.

    Args:
        channels: Width of the neck, for ``compile_neck``.
        repeats: Times the bidirectional layer is applied.
        in_channels: Widths of C3..C5 of its EfficientNet.
        image_size: Side of its images in pixels.
        fusion: How maps are joined; from D6 on by plain sums, for stability.
        levels: First and last level.
    """

    channels: int
    repeats: int
    in_channels: tuple[int, int, int]
    image_size: int
    fusion: Weighting = "fast_normalized"
    levels: LevelRange = (3, 7)


EFFICIENTDET: dict[str, EfficientDet] = {
    "d0": EfficientDet(64, 3, (40, 112, 320), 512),
    "d1": EfficientDet(88, 4, (40, 112, 320), 640),
    "d2": EfficientDet(112, 5, (48, 120, 352), 768),
    "d3": EfficientDet(160, 6, (48, 136, 384), 896),
    "d4": EfficientDet(224, 7, (56, 160, 448), 1024),
    "d5": EfficientDet(288, 7, (64, 176, 512), 1280),
    "d6": EfficientDet(384, 8, (72, 200, 576), 1280, "sum"),
    "d7": EfficientDet(384, 8, (72, 200, 576), 1536, "sum"),
    "d7x": EfficientDet(384, 8, (80, 224, 640), 1536, "sum", (3, 8)),
}


def efficientdet(
    inputs: LevelRange = (3, 5),
    levels: LevelRange | None = None,
    *,
    model: Model = "d0",
    weights: Literal["effdet", "tf"] = "tf",
) -> NeckGraph:
    """The BiFPN of EfficientDet D0 to D7x, with its published repeats and fusion.

    The width is given to ``compile_neck``; the published one is ``EFFICIENTDET[model].channels``.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck; by default the published ones.
        model: Which of them.
        weights: Whose form of it: ``tf`` has TensorFlow's padding and biases before norms (effdet's
            ``tf_efficientdet_*``), ``effdet`` has neither (its ``efficientdet_d0`` to ``d3``).
    """
    check_choice("efficientdet", "model", model, tuple(EFFICIENTDET))
    check_choice("efficientdet", "weights", weights, ("effdet", "tf"))
    setting = EFFICIENTDET[model]
    return bifpn(
        inputs,
        levels or setting.levels,
        repeats=setting.repeats,
        fusion=setting.fusion,
        bias=weights == "tf",
        padding="same" if weights == "tf" else "symmetric",
    )
