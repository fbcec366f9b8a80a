"""Functions without weights that the inference form of a neck calls. They need torch alone.

Maps are (N, C, H, W). Unlike those of ``nasneck.functional``, some write their result into a map that they are given:
``nasneck.inference`` lets them only where nothing else reads that map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# From this width on, adding cells of a smaller map is faster than enlarging it first: 0.3 to 0.9 of the time.
_WIDE = 128
# Below so many values, four views of a map take longer than what transposing it in blocks saves.
_MANY = 2**14


def enter(x: Tensor) -> Tensor:
    """A feature as it came; no gradients flow to it."""
    return x.detach()


def as_channels_last(x: Tensor) -> Tensor:
    """``x`` with the channels of a cell side by side in memory; itself where they are already."""
    n, channels, height, width = x.shape
    # torch transposes matrices in blocks, for which a single image serves: 1.1 to 3.6 times as fast, unless it is small
    if not torch.compiler.is_compiling() and n == 1 and x.is_contiguous() and x.numel() >= _MANY:
        cells = x.view(channels, height * width).t().contiguous()
        return cells.view(1, height, width, channels).permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)


def add_into(x: Tensor, other: Tensor) -> Tensor:
    """``x + other``, written into ``x`` if it can hold it."""
    # A single cell broadcasts, and autocast may have made the types differ.
    if x.shape == other.shape and x.dtype == other.dtype:
        return x.add_(other)
    return x + other


def add_upsampled(x: Tensor, small: Tensor, like: Tensor, overwrite: bool) -> Tensor:
    """``x`` plus ``small`` at the size of ``like`` (nearest), written into ``x`` if that may be overwritten."""
    n, channels, height, width = small.shape
    if (
        not torch.compiler.is_compiling()
        and channels >= _WIDE
        and x.shape == (n, channels, 2 * height, 2 * width)
        and x.shape[-2:] == like.shape[-2:]
        and x.dtype == small.dtype
        and x.is_contiguous(memory_format=torch.channels_last)
    ):
        cells = x.permute(0, 2, 3, 1).view(n, height, 2, width, 2, channels)
        added = small.permute(0, 2, 3, 1)[:, :, None, :, None]
        total = cells.add_(added) if overwrite else cells + added
        return total.reshape(n, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
    large = F.interpolate(small, size=like.shape[-2:], mode="nearest")
    return add_into(x, large) if overwrite else add_into(large, x)


def attend(gating: Tensor, other: Tensor, context: Tensor, overwrite: bool) -> Tensor:
    """``gating + sigmoid(context) * other`` in one pass, written into ``gating`` if that may be overwritten."""
    share = torch.sigmoid(context)
    if overwrite and gating.shape == other.shape and gating.dtype == other.dtype == share.dtype:
        return gating.addcmul_(other, share)
    return torch.addcmul(gating, other, share)


def weighted(share: Tensor, overwrite: int, *maps: Tensor) -> Tensor:
    """Sum of ``share[i] * maps[i]``, one pass a map; it is written into ``maps[overwrite]`` unless that is negative."""
    shares = share.unbind()
    first = max(overwrite, 0)
    total = maps[first] * shares[first] if overwrite < 0 else maps[first].mul_(shares[first])
    for i, x in enumerate(maps):
        if i == first:
            continue
        if x.shape == total.shape and x.dtype == total.dtype == share.dtype:
            total.addcmul_(x, shares[i])
        else:
            total = total + x * shares[i]
    return total
