"""Backbone weights of the project's own making: a short detector training."""

from __future__ import annotations

import torch
from torch import Tensor

from nasneck.backbone import Backbone, build_backbone
from nasneck.errors import ConfigError
from nasneck.necks import fpn
from nasneck.proxy.candidate import build_candidate, seeded
from nasneck.proxy.config import BackboneConfig, NeckConfig, ProxyConfig
from nasneck.proxy.fit import NotFinite, fit
from nasneck.proxy.views import Progress, StoredViews, batch_order, no_progress


def make_backbone(config: BackboneConfig, *, levels: tuple[int, int], seed: int) -> Backbone:
    """The backbone as configured; random weights are drawn from ``seed``."""
    file = None if config.weights in ("random", "pretrained") else config.weights
    width = {"width": config.width} if not config.name.startswith("timm:") else {}
    with seeded(seed):
        return build_backbone(
            config.name,
            levels=levels,
            norm=config.norm,
            pretrained=config.weights == "pretrained",
            weights=file,
            **width,
        )


def train_backbone(
    backbone: Backbone,
    views: StoredViews,
    *,
    images: int,
    config: ProxyConfig,
    neck: NeckConfig,
    num_classes: int,
    device: torch.device,
    amp: bool,
    progress: Progress = no_progress,
) -> None:
    """Train ``backbone`` in place, as part of a detector with FPN, on the stored views of ``images`` images.

    The views that it has seen are kept by ``views``, as far as ``config.memory_limit_mb`` goes.

    Raises:
        ConfigError: the training diverged.
    """
    graph = fpn(inputs=neck.inputs, levels=neck.levels)
    backbone.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    candidate = build_candidate(
        graph,
        config=config,
        neck=neck,
        in_channels=backbone.channels,
        num_classes=num_classes,
        seed=0,
        device=device,
        amp=amp,
        backbone=backbone,
    )
    options = config.backbone_train
    order = batch_order(images, batch_size=options.batch_size, steps=options.steps, seed=0)
    batches = views.places(order)
    seen = sorted({place for batch in batches for place in batch})
    room = config.memory_limit_mb * 2**20 // (3 * config.canvas**2)
    views.keep(seen[:room], progress)

    def losses_at(step: int) -> dict[str, Tensor]:
        shown = views.at(batches[step])
        return candidate.losses_of_images(shown.images, shown.targets)

    try:
        fit(
            [candidate.detector],
            losses_at,
            options,
            steps=options.steps,
            progress=lambda done, total: progress("backbone training", done, total),
        )
    except NotFinite as error:
        raise ConfigError(
            f"the backbone's training diverged ({error}); lower backbone_train.learning_rate {options.learning_rate:g}"
        ) from None
