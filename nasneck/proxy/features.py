"""Features of a frozen backbone: computing them and taking batches of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from nasneck.backbone import Backbone
from nasneck.proxy.views import Progress, no_progress

BATCH = 64  # images that the backbone is given at once


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
        self.maps = list(maps)
        self._device = device

    def __len__(self) -> int:
        return len(self.maps[0])

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return sum(m.numel() * m.element_size() for m in self.maps)

    def take(self, indices: Tensor | slice) -> list[Tensor]:
        """The maps (B, C, H, W) float32 of these images, new tensors on the device of computation."""
        if isinstance(indices, Tensor):
            maps = [m.index_select(0, indices.to(m.device)) for m in self.maps]
        else:
            maps = [m[indices] for m in self.maps]
        return [m.to(self._device, torch.float32, copy=True).permute(0, 3, 1, 2) for m in maps]

    def near(self) -> FeatureStore:
        """The same on the device of computation, if that is a GPU and they take less than half of its free memory."""
        if self._device.type != "cuda" or self.nbytes * 2 >= torch.cuda.mem_get_info(self._device)[0]:
            return self
        return FeatureStore([m.to(self._device) for m in self.maps], self._device)


@torch.no_grad()
def compute_features(
    backbone: Backbone,
    batches: Iterable[Tensor],
    *,
    total: int,
    device: torch.device,
    dtype: torch.dtype,
    what: str = "features",
    progress: Progress = no_progress,
) -> FeatureStore:
    """Features of images by the backbone in eval mode, in the memory of the machine.

    Args:
        backbone: Left as it was.
        batches: Of images (B, 3, H, W) uint8.
        total: Images in all.
        device: Where to compute.
        dtype: What to store.
        what, progress: Told (what, done, total).
    """
    training = backbone.training
    backbone.eval()
    maps: list[Tensor] = []
    start = 0
    try:
        for images in batches:
            progress(what, start, total)
            features = [m.permute(0, 2, 3, 1) for m in backbone(normalised(images, backbone, device)).values()]
            maps = maps or [torch.empty((total, *m.shape[1:]), dtype=dtype) for m in features]
            for whole, part in zip(maps, features, strict=True):
                whole[start : start + len(part)] = part.to(whole.device, dtype)
            start += len(images)
        progress(what, total, total)
    finally:
        backbone.train(training)
    return FeatureStore(maps, device)


def feature_bytes(backbone: Backbone, *, canvas: int, dtype: torch.dtype) -> int:
    """Bytes of the features of one image."""
    size = torch.empty((), dtype=dtype).element_size()
    places = {level: math.ceil(canvas / 2**level) ** 2 for level in backbone.channels}
    return size * sum(channels * places[level] for level, channels in backbone.channels.items())
