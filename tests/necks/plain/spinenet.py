"""SpineNet (Du et al., 2020), its scale-permuted part, as in TensorFlow's Model Garden (backbones/spinenet.py)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from . import tf_same

WIDTHS = {2: 64, 3: 128, 4: 256, 5: 256, 6: 256, 7: 256}

# Level, whether a bottleneck (else a residual block), two inputs (0 and 1 are the stem's blocks), whether an output.
SPECS = [
    (2, True, (0, 1), False),
    (4, False, (0, 1), False),
    (3, True, (2, 3), False),
    (4, True, (2, 4), False),
    (6, False, (3, 5), False),
    (4, True, (3, 5), False),
    (5, False, (6, 7), False),
    (7, False, (6, 8), False),
    (5, True, (8, 9), False),
    (5, True, (8, 10), False),
    (4, True, (5, 10), True),
    (3, True, (4, 10), True),
    (5, True, (7, 12), True),
    (7, True, (5, 14), True),
    (6, True, (12, 14), True),
    (2, True, (2, 13), True),
]


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class ConvNorm(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, bias=False)
        self.norm = batch_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(tf_same.pad(x, self.conv.kernel_size[0], self.conv.stride[0])))


class Resample(nn.Module):
    """To another level and width, through a narrower one; no activation at the end."""

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int, step: int) -> None:
        super().__init__()
        self.step = step
        self.reduce = ConvNorm(in_channels, mid_channels)
        if step > 0:
            self.down = ConvNorm(mid_channels, mid_channels, 3, stride=2)
        self.expand = ConvNorm(mid_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.reduce(x))
        if self.step > 0:
            x = F.relu(self.down(x))
            for _ in range(self.step - 1):
                x = tf_same.max_pool2d(x, 3, 2)
        elif self.step < 0:
            x = F.interpolate(x, scale_factor=2**-self.step, mode="nearest")
        return self.expand(x)


class Bottleneck(nn.Module):
    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.norm1 = batch_norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = batch_norm(channels)
        self.conv3 = nn.Conv2d(channels, channels * 4, 1, bias=False)
        self.norm3 = batch_norm(channels * 4)
        self.project = in_channels != channels * 4
        if self.project:
            self.shortcut = nn.Conv2d(in_channels, channels * 4, 1, bias=False)
            self.shortcut_norm = batch_norm(channels * 4)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut_norm(self.shortcut(x)) if self.project else x
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        return F.relu(self.norm3(self.conv3(x)) + shortcut)


class Residual(nn.Module):
    """Always fed at its own width, so it needs no projection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = batch_norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = batch_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + x)


def run(block: nn.Module, x: Tensor) -> Tensor:
    x = block(x)
    for unit in block.more:
        x = unit(x)
    return x


class SpineNet(nn.Module):
    """P3-P7 from the stem's map: stride 4, 64 channels, after the 7x7 convolution and the max pool."""

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        filter_size_scale: float = 1.0,
        block_repeats: int = 1,
        alpha: float = 0.5,
    ) -> None:
        super().__init__()
        filters = int(WIDTHS[2] * filter_size_scale)
        self.stem = nn.ModuleList([Bottleneck(in_channels[0], filters), Bottleneck(filters * 4, filters)])
        for block in self.stem:
            block.more = nn.ModuleList([Bottleneck(filters * 4, filters) for _ in range(block_repeats - 1)])

        # Of every block so far: its level, its width, its width before a bottleneck's expansion, how often it is read.
        levels, widths, narrow, reads = [2, 2], [filters * 4] * 2, [filters] * 2, [0, 0]
        self.blocks = nn.ModuleList()
        self.sources: list[tuple[tuple[int, ...], list[int]]] = []
        self.outputs: dict[int, int] = {}
        for level, bottleneck, inputs, is_output in SPECS:
            if level == 2 and is_output:
                continue  # the last block; no endpoint reads it, nor any block
            filters = int(WIDTHS[level] * filter_size_scale)
            width = filters * 4 if bottleneck else filters
            block = Bottleneck(width, filters) if bottleneck else Residual(filters)
            block.inputs = nn.ModuleList()
            for i in inputs:
                block.inputs.append(Resample(widths[i], int(narrow[i] * alpha), width, level - levels[i]))
                reads[i] += 1
            # An output block also takes in, as they are, the blocks like it that nothing has read yet.
            merged = []
            for i, read in enumerate(reads):
                if is_output and not read and levels[i] == level and widths[i] == width:
                    merged.append(i)
                    reads[i] += 1
            block.more = nn.ModuleList(
                [Bottleneck(width, filters) if bottleneck else Residual(filters) for _ in range(block_repeats - 1)]
            )
            if is_output:
                self.outputs[level] = len(levels)
            self.blocks.append(block)
            self.sources.append((inputs, merged))
            levels.append(level)
            widths.append(width)
            narrow.append(filters)
            reads.append(0)
        self.endpoints = nn.ModuleDict({str(p): ConvNorm(widths[self.outputs[p]], channels) for p in range(3, 8)})

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        (x,) = features
        maps = []
        for block in self.stem:
            x = run(block, x)
            maps.append(x)
        for block, (inputs, merged) in zip(self.blocks, self.sources, strict=True):
            total = block.inputs[0](maps[inputs[0]]) + block.inputs[1](maps[inputs[1]])
            for i in merged:
                total = total + maps[i]
            maps.append(run(block, F.relu(total)))
        return tuple(F.relu(self.endpoints[str(p)](maps[self.outputs[p]])) for p in range(3, 8))
