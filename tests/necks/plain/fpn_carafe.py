"""CARAFE (Wang et al., 2019): mmdet's FPN_CARAFE (mmdet/models/necks/fpn_carafe.py), mmcv's op in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ConvModule


def carafe(x: Tensor, weights: Tensor, kernel_size: int, groups: int, scale: int) -> Tensor:
    """Each output pixel is a weighted sum of the ``kernel_size``² neighbourhood of the input pixel it lies in.

    ``weights`` has ``groups * kernel_size**2`` channels, group by group and each row by row, at the output's size.
    Pixels outside the input count as zero; their weights are not given to the others.
    """
    height, width = x.shape[2:]
    padded = F.pad(x, [kernel_size // 2] * 4)
    per_group = x.shape[1] // groups
    out = x.new_zeros(x.shape[0], x.shape[1], height * scale, width * scale)
    for row in range(kernel_size):
        for column in range(kernel_size):
            neighbour = padded[:, :, row : row + height, column : column + width]
            neighbour = neighbour.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
            weight = weights[:, row * kernel_size + column :: kernel_size**2]
            out = out + neighbour * weight.repeat_interleave(per_group, dim=1)
    return out


class CARAFEPack(nn.Module):
    """Upsampling by two with kernels predicted from the map itself."""

    def __init__(self, channels: int, *, up_kernel: int, up_group: int, encoder_kernel: int, compressed: int) -> None:
        super().__init__()
        self.up_kernel = up_kernel
        self.up_group = up_group
        self.channel_compressor = nn.Conv2d(channels, compressed, 1)
        self.content_encoder = nn.Conv2d(
            compressed, 4 * up_group * up_kernel**2, encoder_kernel, padding=encoder_kernel // 2
        )

    def forward(self, x: Tensor) -> Tensor:
        logits = F.pixel_shuffle(self.content_encoder(self.channel_compressor(x)), 2)
        per_group = [part.softmax(dim=1) for part in logits.chunk(self.up_group, dim=1)]
        return carafe(x, torch.cat(per_group, dim=1), self.up_kernel, self.up_group, 2)


class FPN_CARAFE(nn.Module):
    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        num_outs: int = 5,
        up_kernel: int = 5,
        up_group: int = 1,
        encoder_kernel: int = 3,
        compressed_channels: int = 64,
    ) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList([ConvModule(width, channels, 1) for width in in_channels])
        for extra in range(num_outs - len(in_channels)):
            self.lateral_convs.append(ConvModule(channels if extra else in_channels[-1], channels, 3, 2))
        self.fpn_convs = nn.ModuleList([ConvModule(channels, channels, 3) for _ in range(num_outs)])
        self.upsample_modules = nn.ModuleList()
        for _ in range(num_outs - 1):
            pack = CARAFEPack(
                channels,
                up_kernel=up_kernel,
                up_group=up_group,
                encoder_kernel=encoder_kernel,
                compressed=compressed_channels,
            )
            self.upsample_modules.append(pack)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        laterals: list[Tensor] = []
        for level, conv in enumerate(self.lateral_convs):
            if level < len(features):
                laterals.append(conv(features[level]))
            elif level == len(features):
                laterals.append(conv(features[-1]))
            else:
                laterals.append(conv(laterals[-1]))
        # The extra levels take part in the top-down path. A map that comes out too big is cut, not resized.
        for level in range(len(laterals) - 1, 0, -1):
            upsampled = self.upsample_modules[level - 1](laterals[level])
            height, width = laterals[level - 1].shape[2:]
            laterals[level - 1] = laterals[level - 1] + upsampled[:, :, :height, :width]
        return tuple(conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=True))
