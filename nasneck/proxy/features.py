"""Features of a frozen backbone, computed once and kept in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nasneck.backbone import Backbone
from nasneck.errors import ConfigError
from nasneck.proxy.views import Progress, no_progress

_BATCH = 64


def normalised(images: Tensor, backbone: Backbone, device: torch.device, *, channels_last: bool = True) -> Tensor:
    """Images (N, 3, H, W) uint8 as the backbone wants them: float32 on ``device``."""
    mean = torch.tensor(backbone.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std, device=device).view(1, 3, 1, 1)
    images = images.to(device, memory_format=memory_format(channels_last)).float()
    return (images / 255 - mean) / std


def memory_format(channels_last: bool) -> torch.memory_format:
    """Torch's name for where the channels lie."""
    return torch.channels_last if channels_last else torch.contiguous_format


class FeatureStore:
    """The maps of M images, one tensor per level, finest first.

    They lie as (M, H, W, C), so that taking a batch copies whole images and gives channels-last maps.
    """

    def __init__(self, maps: Sequence[Tensor], device: torch.device) -> None:
        self._maps = list(maps)
        self._device = device

    def __len__(self) -> int:
        return len(self._maps[0])

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return sum(m.numel() * m.element_size() for m in self._maps)

    def take(self, indices: Tensor | slice) -> list[Tensor]:
        """The maps (B, C, H, W) float32 of these images, new tensors on the device of computation."""
        if isinstance(indices, Tensor):
            maps = [m.index_select(0, indices.to(m.device)) for m in self._maps]
        else:
            maps = [m[indices] for m in self._maps]
        return [m.to(self._device, torch.float32, copy=True).permute(0, 3, 1, 2) for m in maps]


@torch.no_grad()
def compute_features(
    backbone: Backbone,
    images: Tensor,
    *,
    device: torch.device,
    dtype: torch.dtype,
    what: str = "features",
    progress: Progress = no_progress,
) -> FeatureStore:
    """Features of ``images`` (M, 3, H, W) uint8 by the backbone in eval mode.

    On a GPU they stay there if they take less than half of its free memory.
    """
    training = backbone.training
    backbone.eval()
    try:
        total = len(images)
        maps: list[Tensor] = []
        for start in range(0, total, _BATCH):
            progress(what, start, total)
            batch = normalised(images[start : start + _BATCH], backbone, device)
            features = [m.permute(0, 2, 3, 1) for m in backbone(batch).values()]
            if not maps:
                place = _place(features, total, device, dtype)
                maps = [torch.empty((total, *m.shape[1:]), dtype=dtype, device=place) for m in features]
            for whole, part in zip(maps, features, strict=True):
                whole[start : start + len(part)] = part.to(whole.device, dtype)
        progress(what, total, total)
    finally:
        backbone.train(training)
    return FeatureStore(maps, device)


def check_memory(
    backbone: Backbone, *, images: int, views: int, canvas: int, dtype: torch.dtype, limit_mb: int
) -> float:
    """MiB that the views and features of ``images`` training images take.

    Raises:
        ConfigError: they exceed ``limit_mb``.
    """
    size = torch.empty((), dtype=dtype).element_size()
    per_view = 3 * canvas**2 + size * sum(
        channels * math.ceil(canvas / 2**level) ** 2 for level, channels in backbone.channels.items()
    )
    needed = per_view * images * views / 2**20
    if needed > limit_mb:
        raise ConfigError(
            f"{images} images x {views} views of {canvas} px and their features need {needed:.0f} MiB, "
            f"more than memory_limit_mb {limit_mb}; take fewer images (train_limit) or views, "
            "a smaller canvas, or fidelity 'scratch'"
        )
    return needed


def _place(maps: Sequence[Tensor], total: int, device: torch.device, dtype: torch.dtype) -> torch.device:
    if device.type != "cuda":
        return device
    size = torch.empty((), dtype=dtype).element_size()
    needed = sum(m[0].numel() for m in maps) * total * size
    free, _ = torch.cuda.mem_get_info(device)
    return device if needed < free / 2 else torch.device("cpu")
