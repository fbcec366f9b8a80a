"""A candidate: the compiled neck with a head, ready to train on canvases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet

from nasneck.backbone import Backbone
from nasneck.compile import compile_neck
from nasneck.cost import feature_shapes
from nasneck.detector import build_detector
from nasneck.errors import ConfigError
from nasneck.graph import NeckGraph
from nasneck.neck import Neck
from nasneck.proxy.canvas import CanvasDetector
from nasneck.proxy.config import NeckConfig, ProxyConfig
from nasneck.proxy.features import memory_format, normalised
from nasneck.proxy.views import Target


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights drawn inside follow ``seed``; torch's generator outside goes on as if nothing had happened."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
        yield


@dataclass(frozen=True, slots=True)
class Candidate:
    """A neck, the detector around it and that detector's part after the features.

    Args:
        neck: Compiled.
        detector: Its backbone is None where candidates get features.
        canvas: Head, losses and detections.
        maps: Level, height and width of each map of the neck, finest first; candidates that agree in it
            have the same anchors.
        amp: Whether convolutions run in bfloat16.
        channels_last: Whether maps and weights have their channels last.
        device: Where it lies.
    """

    neck: Neck
    detector: RetinaNet | FCOS
    canvas: CanvasDetector
    maps: tuple[tuple[int, int, int], ...]
    amp: bool
    channels_last: bool
    device: torch.device

    def outputs(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Head outputs for backbone features, finest first."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
            return self.canvas.outputs(self.neck(list(features)))

    def features(self, images: Tensor) -> list[Tensor]:
        """Features of images (N, 3, S, S) uint8 by the backbone that the detector was built around."""
        pyramid: Any = self.detector.backbone
        backbone: Backbone = pyramid.backbone
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
            given = normalised(images, backbone, self.device, channels_last=self.channels_last)
            return list(backbone(given).values())

    def losses_of_images(self, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        """The detector's losses for a batch of canvases, backbone included."""
        outputs = self.outputs(self.features(images))
        moved = [{name: value.to(self.device) for name, value in target.items()} for target in targets]
        return self.canvas.losses(outputs, moved, self.canvas.matches(moved))


def build_candidate(
    graph: NeckGraph,
    *,
    config: ProxyConfig,
    neck: NeckConfig,
    in_channels: Mapping[int, int],
    num_classes: int,
    seed: int,
    device: torch.device,
    amp: bool,
    backbone: Backbone | None = None,
) -> Candidate:
    """Compile ``graph`` and put a head on it.

    Neck and head are each drawn from ``seed`` on their own, so all candidates of one seed start with the
    same head.

    Raises:
        GraphError, CompileError, ConfigError: a graph that does not fit the backbone or the head.
    """
    module = compile_candidate(graph, neck=neck, in_channels=in_channels, seed=seed)
    return with_head(
        module, config=config, num_classes=num_classes, seed=seed, device=device, amp=amp, backbone=backbone
    )


def with_head(
    module: Neck,
    *,
    config: ProxyConfig,
    num_classes: int,
    seed: int,
    device: torch.device,
    amp: bool,
    backbone: Backbone | None = None,
) -> Candidate:
    """A candidate around a neck; its head is drawn from ``seed``.

    Raises:
        ConfigError: a neck that does not fit the canvas or the head.
    """
    if config.canvas % max(1, module.size_divisor):
        raise ConfigError(f"canvas {config.canvas} px is not divisible by {module.size_divisor}, as this neck needs")
    options = config.detector
    with seeded(seed):
        detector = build_detector(
            options.kind,
            backbone,
            module,
            num_classes=num_classes,
            size_factor=options.size_factor,
            image_size=(config.canvas, config.canvas),
            score_threshold=options.score_threshold,
            nms_threshold=options.nms_threshold,
            detections=options.detections,
            candidates=options.candidates,
        )
    # channels last: max pools and resizes on the CPU and bfloat16 convolutions on GPUs are far faster so.
    detector.to(device=device, memory_format=memory_format(config.channels_last))  # type: ignore[call-overload]
    grids = _grids(module, config.canvas, device)
    canvas = CanvasDetector(detector, grids=grids, canvas=config.canvas, device=device)
    maps = tuple((level, *grid) for level, grid in zip(module.out_channels, grids, strict=True))
    return Candidate(module, detector, canvas, maps, amp, config.channels_last, device)


def compile_candidate(graph: NeckGraph, *, neck: NeckConfig, in_channels: Mapping[int, int], seed: int) -> Neck:
    """The neck of a candidate, with weights drawn from ``seed``.

    Raises:
        GraphError, CompileError: a graph that does not fit the backbone.
    """
    with seeded(seed):
        return compile_neck(graph, in_channels, neck.channels, norm=neck.norm, norm_momentum=neck.norm_momentum or None)


@torch.no_grad()
def _grids(neck: Neck, canvas: int, device: torch.device) -> tuple[tuple[int, int], ...]:
    """Height and width of each map the neck gives."""
    neck.eval()
    maps = neck([torch.zeros(shape, device=device) for shape in feature_shapes(neck, (canvas, canvas))])
    neck.train()
    return tuple((m.shape[-2], m.shape[-1]) for m in maps)
