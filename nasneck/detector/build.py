"""RetinaNet and FCOS for any number of levels and any first level."""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import (
    FCOS,
    FCOSClassificationHead,
    FCOSHead,
    FCOSRegressionHead,
)
from torchvision.models.detection.retinanet import RetinaNet

from nasneck.backbone import Backbone
from nasneck.detector.anchors import LevelAnchors
from nasneck.errors import ConfigError
from nasneck.settings import did_you_mean

DETECTORS: dict[str, str] = {
    "retinanet": "RetinaNet as published: four convolutions per branch, nine anchors per cell",
    "fcos": "FCOS with centre sampling: four convolutions per branch, one point per cell",
    "fcos_light": "FCOS with one convolution per branch, so that the neck is most of what is trained",
    "fcos_bare": "FCOS without convolutions before the predictors, so that nearly all that is trained is the neck",
}
_FCOS_CONVS = {"fcos": 4, "fcos_light": 1, "fcos_bare": 0}
_OCTAVE = tuple(2 ** (k / 3) for k in range(3))
_RATIOS = (0.5, 1.0, 2.0)


class Pyramid(nn.Module):
    """An image (N, 3, H, W), or the features of a backbone, to an ordered mapping of P-levels.

    Attributes:
        out_channels: The one width of all levels.
        levels: Finest first.
    """

    def __init__(self, backbone: Backbone | None, neck: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        widths: dict[int, int] = neck.out_channels  # type: ignore[assignment]  # an attribute of every neck
        self.levels = tuple(widths)
        if len(set(widths.values())) != 1:
            listed = ", ".join(f"P{level}: {width}" for level, width in widths.items())
            raise ConfigError(f"the levels of the neck have unequal widths ({listed}); a shared head needs one")
        if backbone is not None:
            _check_inputs(backbone, neck)
        self.out_channels = next(iter(widths.values()))

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        features = images if self.backbone is None else list(self.backbone(images).values())
        return OrderedDict((f"p{level}", m) for level, m in zip(self.levels, self.neck(features), strict=True))


def build_detector(
    kind: str,
    backbone: Backbone | None,
    neck: nn.Module,
    *,
    num_classes: int,
    size_factor: float = 1.0,
    image_size: tuple[int, int] = (800, 1333),
    score_threshold: float = 0.05,
    nms_threshold: float | None = None,
    detections: int = 100,
    candidates: int = 1000,
) -> RetinaNet | FCOS:
    """A torchvision detector: ``model(images, targets)`` gives losses, ``model(images)`` detections.

    Labels run from 0 to K-1 without a background class, as both heads are sigmoids.

    Args:
        kind: One of :data:`DETECTORS`.
        backbone: None for a detector that is given the backbone's features by the caller; its ``head``,
            losses and post-processing work, its ``forward`` does not.
        neck: A compiled neck: ``out_channels`` (by level, finest first), ``size_divisor``.
        num_classes: K.
        size_factor: Scales the sizes of objects that a level is responsible for. At 1, RetinaNet's anchors
            on level l are 4 * 2**l px times 3 octave scales, and FCOS's level l takes boxes whose farthest
            side is 4..8 * 2**l px from the point (about half the box). Smaller for small canvases: with 0.25,
            level l takes distances of 1..2 strides. The window of centre sampling stays 1.5 strides.
        image_size: Shorter and longer side that images are resized to, px.
        score_threshold: Detections below are dropped.
        nms_threshold: IoU of non-maximum suppression; 0.5 for RetinaNet and 0.6 for FCOS by default.
        detections: Kept per image.
        candidates: Kept per level before non-maximum suppression.

    Raises:
        ConfigError: an unknown kind, unequal widths, a neck that does not fit the backbone, no classes.
    """
    if kind not in DETECTORS:
        raise ConfigError(f"unknown detector {kind!r}{did_you_mean(kind, DETECTORS)}")
    if num_classes < 1:
        raise ConfigError(f"num_classes {num_classes} must be at least 1")
    if not 0 < size_factor < math.inf:
        raise ConfigError(f"size_factor {size_factor} must be above 0")
    pyramid = Pyramid(backbone, neck)
    options: dict[str, Any] = {
        "num_classes": num_classes,
        "min_size": image_size[0],
        "max_size": image_size[1],
        "size_divisible": max(1, int(neck.size_divisor)),  # type: ignore[arg-type]  # an int of every neck
        "score_thresh": score_threshold,
        "detections_per_img": detections,
        "topk_candidates": candidates,
    }
    if backbone is not None:
        options |= {"image_mean": list(backbone.mean), "image_std": list(backbone.std)}
    if kind == "retinanet":
        anchors = LevelAnchors(pyramid.levels, scales=[4 * size_factor * octave for octave in _OCTAVE], ratios=_RATIOS)
        return RetinaNet(
            pyramid,
            anchor_generator=anchors,
            nms_thresh=0.5 if nms_threshold is None else nms_threshold,
            **options,
        )
    if any(fine + 1 != coarse for fine, coarse in zip(pyramid.levels, pyramid.levels[1:], strict=False)):
        raise ConfigError(
            f"detector {kind!r} needs consecutive levels, the neck gives {pyramid.levels}: objects of the "
            "sizes between would have no level"
        )
    # torchvision's FCOS measures a level's range of sizes and its centre sampling in anchor sizes; the
    # first is to follow the factor and the second is not.
    return FCOS(
        pyramid,
        anchor_generator=LevelAnchors(pyramid.levels, scales=[size_factor]),
        head=_fcos_head(pyramid.out_channels, num_classes, convs=_FCOS_CONVS[kind]),
        center_sampling_radius=1.5 / size_factor,
        nms_thresh=0.6 if nms_threshold is None else nms_threshold,
        **options,
    )


def _fcos_head(channels: int, num_classes: int, *, convs: int) -> FCOSHead:
    # torchvision's head has a fixed norm of 32 groups, 8 channels each at its width of 256; narrower heads
    # keep about 8 per group, for with one or two a 1x1 map would lose all it says.
    groups = next(g for g in range(max(1, channels // 8), 0, -1) if channels % g == 0)
    norm = functools.partial(HeadGroupNorm, groups)
    head = FCOSHead(32, 1, num_classes, num_convs=0)
    head.classification_head = FCOSClassificationHead(channels, 1, num_classes, convs, norm_layer=norm)
    head.regression_head = FCOSRegressionHead(channels, 1, convs, norm_layer=norm)
    return head


class HeadGroupNorm(nn.GroupNorm):
    """torch's group norm, on a contiguous copy of maps whose channels lie last; what it gives lies as they do.

    The result is the same. torch's CPU kernel for channels-last maps with few channels per group took 2 to 12
    times as long, which made it the most expensive operation of the head. The way back is for what follows: each
    convolution would convert the map by itself, and once more for its gradient.
    """

    def forward(self, input: Tensor) -> Tensor:
        normed = super().forward(input.contiguous())
        if input.is_contiguous():
            return normed
        return normed.contiguous(memory_format=torch.channels_last)


def _check_inputs(backbone: Backbone, neck: nn.Module) -> None:
    wanted = getattr(neck, "in_channels", None)
    if isinstance(wanted, Mapping) and dict(wanted) != backbone.channels:
        gives = _widths(backbone.channels)
        raise ConfigError(f"the neck takes {_widths(wanted)}, but the backbone gives {gives}")


def _widths(channels: Mapping[int, int]) -> str:
    return ", ".join(f"C{level}: {width}" for level, width in channels.items())
