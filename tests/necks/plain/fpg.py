"""Feature pyramid grids (Chen et al., 2020): mmdet's FPG (mmdet/models/necks/fpg.py), as its configs set it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvModule


class Inner(nn.Module):
    """A convolution under one more name, as the state dict of the public code has it."""

    def __init__(self, name: str, conv: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.get_submodule(self.name)(x)


class FPG(nn.Module):
    """A grid of ``stack_times`` bottom-up pyramids; ``skip_inds[level]`` are the stacks that pass a level through.

    All edges are ReLU, convolution, BN; the outputs are ReLU, convolution.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        num_outs: int = 5,
        stack_times: int = 9,
        add_extra_convs: bool = False,
        skip_inds: Sequence[Sequence[int]] = ((0, 1, 2, 3), (0, 1, 2), (0, 1), (0,), ()),
    ) -> None:
        super().__init__()
        if len(skip_inds) != num_outs:
            raise ValueError("skip_inds needs one entry per level")
        self.skip_inds = tuple(tuple(stacks) for stacks in skip_inds)
        self.lateral_convs = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.extra_downsamples = nn.ModuleList()
        for _ in range(num_outs - len(in_channels)):
            if add_extra_convs:
                self.extra_downsamples.append(nn.Conv2d(channels, channels, 3, 2, 1))
            else:
                self.extra_downsamples.append(nn.MaxPool2d(1, 2))

        self.fpn_transitions = nn.ModuleList()
        for stack in range(stack_times):
            levels = nn.ModuleList()
            for level in range(num_outs):
                edges = nn.ModuleDict()
                if stack not in self.skip_inds[level]:
                    if level > 0:
                        edges["same_up"] = ConvModule(channels, channels, 3, 2, norm=nn.BatchNorm2d)
                    edges["across_lateral"] = ConvModule(channels, channels, 1, norm=nn.BatchNorm2d)
                    if level < num_outs - 1:
                        conv = ConvModule(channels, channels, 3, norm=nn.BatchNorm2d)
                        edges["across_down"] = Inner("conv", conv)
                    edges["across_skip"] = ConvModule(channels, channels, 1, norm=nn.BatchNorm2d)
                levels.append(edges)
            self.fpn_transitions.append(levels)

        self.output_transition = nn.ModuleList()
        for _ in range(num_outs):
            self.output_transition.append(Inner("conv_out", ConvModule(channels, channels, 3)))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        first = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        for downsample in self.extra_downsamples:
            first.append(downsample(first[-1]))

        before = first
        for stack, levels in enumerate(self.fpn_transitions):
            after: list[Tensor] = []
            for level, edges in enumerate(levels):
                if stack in self.skip_inds[level]:
                    after.append(before[level])
                    continue
                x = edges["across_lateral"](torch.relu(before[level]))
                if "same_up" in edges:
                    x = edges["same_up"](torch.relu(after[-1])) + x
                if "across_down" in edges:
                    coarser = F.interpolate(before[level + 1], scale_factor=2, mode="nearest")
                    x = x + edges["across_down"](torch.relu(coarser))
                x = x + edges["across_skip"](torch.relu(first[level]))
                after.append(x)
            before = after
        return tuple(conv(torch.relu(x)) for conv, x in zip(self.output_transition, before, strict=True))
