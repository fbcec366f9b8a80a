"""GFPN of GiraffeDet (Tan et al., 2022), as in damo-cv/GiraffeDet (mmdet/models/necks/giraffe_neck.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ConvModule

# A node of the graph: (column, level); column -1 holds the inputs.
Node = tuple[int, int]


def node_inputs(column: int, level: int, num_levels: int, skip: str) -> list[Node]:
    """Where a node reads from, in the order of the concatenation, each source once."""
    sources: list[Node] = []
    if column == 0:
        sources.append((-1, level))
    elif skip == "dense":
        sources += [(c, level) for c in range(column)]
    else:
        sources += [(column - d, level) for d in (32, 16, 8, 4, 2, 1) if column - d >= 0]
    # Even columns run from the coarsest level to the finest, odd ones back: each node reads the one before it, and the
    # first of a column the last of the previous column, which has the same level.
    before = level + 1 if column % 2 == 0 else level - 1
    sources.append((column, before) if 0 <= before < num_levels else (column - 1, level))
    sources += [(column - 1, near) for near in (level + 1, level - 1) if 0 <= near < num_levels]
    return list(dict.fromkeys(sources))


class GiraffeNode(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.after_combine = nn.Sequential()
        self.after_combine.add_module("conv1x1", nn.Conv2d(in_channels, out_channels, 1, bias=False))
        self.after_combine.add_module("act", nn.SiLU())
        # The peer's norm_kwargs (eps 1e-3, momentum 0.01) never reach this norm: it has the defaults.
        self.after_combine.add_module("conv", ConvModule(out_channels, out_channels, 3, norm=nn.BatchNorm2d))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.after_combine(torch.cat(list(maps), dim=1))


class GiraffeNeck(nn.Module):
    """``2 * depth_multiplier - 1`` columns of nodes, and one more node per level at the end."""

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        inner_channels: int = 256,
        depth_multiplier: int = 7,
        width_multiplier: float = 0.7,
        skip_connect_type: str = "log2n",
    ) -> None:
        super().__init__()
        self.num_levels = len(in_channels)
        levels = range(self.num_levels)
        columns = 2 * depth_multiplier - 1
        # The order of the nodes in the state dict is the order in which they run.
        self.graph: list[tuple[Node, list[Node]]] = []
        for column in range(columns):
            for level in reversed(levels) if column % 2 == 0 else levels:
                inputs = node_inputs(column, level, self.num_levels, skip_connect_type)
                self.graph.append(((column, level), inputs))
        self.graph += [((columns, level), [(columns - 1, level)]) for level in levels]

        width = {(-1, level): c for level, c in enumerate(in_channels)}
        nodes = nn.ModuleList()
        for node, inputs in self.graph:
            width[node] = channels if node[0] == columns else int(inner_channels * width_multiplier)
            nodes.append(GiraffeNode(sum(width[i] for i in inputs), width[node]))
        self.cell = nn.Sequential()
        self.cell.add_module("giraffeNeck", nn.Module())
        self.cell.giraffeNeck.fnode = nodes

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        maps: dict[Node, Tensor] = {(-1, level): x for level, x in enumerate(features)}
        for (node, inputs), module in zip(self.graph, self.cell.giraffeNeck.fnode, strict=True):
            sources = []
            for source in inputs:
                x = maps[source]
                if source[1] < node[1]:
                    x = F.max_pool2d(x, 3, stride=2, padding=1)
                elif source[1] > node[1]:
                    x = F.interpolate(x, scale_factor=2, mode="nearest")
                sources.append(x)
            maps[node] = module(sources)
        return tuple(maps[node] for node, _ in self.graph[-self.num_levels :])
