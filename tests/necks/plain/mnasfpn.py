"""MnasFPN (Chen et al., 2020), as in TensorFlow's ssd_mobilenet_v2_mnasfpn_feature_extractor.py (object_detection)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .tf_same import max_pool2d

# Each block of a cell: its two inputs (0-3 are P3-P6, then the blocks in turn), its level and its kernel size.
CELL = [((1, 2), 4, 3), ((0, 4), 3, 3), ((5, 4), 4, 3), ((4, 3), 5, 5), ((4, 3), 6, 3)]
LEVELS = (3, 4, 5, 6)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=0.01, momentum=0.01)


class Conv1x1(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = batch_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Block(nn.Module):
    """Two inputs at an expanded width and one size, summed, then a separable convolution to the neck's width."""

    def __init__(self, in_channels: Sequence[int], expansion: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.inputs = nn.ModuleList([Conv1x1(c, expansion) for c in in_channels])
        self.depthwise = nn.Conv2d(
            expansion, expansion, kernel_size, padding=kernel_size // 2, groups=expansion, bias=False
        )
        self.pointwise = nn.Conv2d(expansion, out_channels, 1, bias=False)
        self.norm = batch_norm(out_channels)

    def forward(self, maps: Sequence[Tensor], steps: Sequence[int]) -> Tensor:
        resized = []
        for conv, x, step in zip(self.inputs, maps, steps, strict=True):
            # The 1x1 convolution always runs at the smaller of the two sizes. One pool covers several levels.
            if step > 0:
                x = conv(max_pool2d(x, 3, 2**step))
            elif step < 0:
                x = F.interpolate(conv(x), scale_factor=2**-step, mode="nearest")
            else:
                x = conv(x)
            resized.append(x)
        x = F.relu6(resized[0] + resized[1])
        return self.norm(self.pointwise(self.depthwise(x)))


class MnasFPN(nn.Module):
    """P3-P6 from C3-C5, by the same searched cell several times over."""

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 48,
        *,
        repeats: int = 4,
        expansions: Sequence[int] = (256, 128, 128, 128, 96),
    ) -> None:
        super().__init__()
        self.c6 = Conv1x1(in_channels[-1], channels)
        self.cells = nn.ModuleList()
        widths = [*in_channels, channels]
        for _ in range(repeats):
            cell = nn.ModuleList()
            widths += [channels] * len(CELL)
            for (inputs, _level, kernel_size), expansion in zip(CELL, expansions, strict=True):
                cell.append(Block([widths[i] for i in inputs], expansion, channels, kernel_size))
            self.cells.append(cell)
            widths = [channels] * len(LEVELS)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        ins = [*features, self.c6(max_pool2d(features[-1], 3, 2))]
        for cell in self.cells:
            maps, levels = list(ins), list(LEVELS)
            for block, (inputs, level, _) in zip(cell, CELL, strict=True):
                maps.append(block([maps[i] for i in inputs], [level - levels[i] for i in inputs]))
                levels.append(level)
            # In the first cell only the inputs that have the neck's width pass around it.
            outs = maps[-len(LEVELS) :]
            ins = [out + x if out.shape == x.shape else out for out, x in zip(outs, ins, strict=True)]
        return tuple(ins)
