"""The FPN that OPANAS found: Liang et al., "OPANAS: One-Shot Path Aggregation Network Architecture Search", CVPR 2021.

A densely connected graph of five steps over four levels. Step t joins, for each earlier state j, what the
information path on the edge (j, t) makes of it; the outputs are the sum of all states but the first.

    TD  top-down             BU  bottom-up            skip  as it is            none  nothing
    FS  fusing-splitting     SE  scale-equalizing
"""

from __future__ import annotations

from collections.abc import Sequence

from nasneck.graph import Act, Conv, Edge, GlobalPool, NeckGraph, Node, Pool, Resample
from nasneck.necks.pyramid import LevelRange, backbone_features

# The published network; the edges of each step, from the first state on (configs/opanas of VDIGPKU/OPANAS).
PUBLISHED: tuple[tuple[str, ...], ...] = (
    ("TD",),
    ("TD", "TD"),
    ("FS", "none", "skip"),
    ("BU", "skip", "none", "TD"),
    ("BU", "none", "FS", "SE", "BU"),
)
_STATES = 4  # levels that the paths connect


def opanas(inputs: LevelRange = (3, 5), levels: LevelRange = (3, 7)) -> NeckGraph:
    """OPA-FPN with plain 3x3 convolutions (the published weights have deformable ones).

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck. The paths connect its four finest; where the backbone gives only
            three of them, the fourth is a 3x3 convolution of stride 2 and so is the fifth output, as in the
            authors' RetinaNet form, else further outputs take every second cell of the last.
    """
    nodes, covered = backbone_features(
        "opanas", inputs, levels, least=3, why="its paths connect four levels, one of which it can make itself"
    )
    low = covered[0]
    every = list(range(low, low + _STATES))
    own = [level for level in every if level in covered]
    nodes += [Node(f"lat{level}", level, "sum", [Edge(f"c{level}", [Conv(1, init="glorot")])]) for level in own]
    made_up = len(own) < _STATES
    if made_up:
        step = Conv(3, stride=2, init="glorot")
        nodes.append(Node(f"lat{every[-1]}", every[-1], "sum", [Edge(f"lat{own[-1]}", [step])]))
    builder = _Paths(nodes, every)
    top = f"lat{every[-1]}"
    nodes.append(Node("context", None, "sum", [Edge(top, [Conv(1, init="glorot"), GlobalPool("avg")])]))
    nodes.append(Node("x0_top", every[-1], "sum", [Edge("context", ()), Edge(top, ())]))
    states = [[*(f"lat{level}" for level in every[:-1]), "x0_top"]]
    for number, paths in enumerate(PUBLISHED, 1):
        parts = [builder.path(f"s{number}{j}", kind, states[j]) for j, kind in enumerate(paths)]
        states.append(builder.sums(f"x{number}", parts))
    outs = builder.sums("p", [states[-1], *states[1:-1]], by_level=True)
    outputs = dict(zip(every, outs, strict=True))
    for level in range(every[-1] + 1, levels[1] + 1):
        step = Conv(3, stride=2, init="glorot") if made_up else Pool("max", kernel=1, stride=2, padding=0)
        nodes.append(Node(f"p{level}", level, "sum", [Edge(outputs[level - 1], [step])]))
        outputs[level] = f"p{level}"
    wanted = {level: name for level, name in outputs.items() if level <= levels[1]}
    return NeckGraph(nodes, outputs=wanted, name="opanas")


class _Paths:
    """Adds the nodes of information paths to ``nodes``; a state is one map per level, finest first."""

    def __init__(self, nodes: list[Node], every: Sequence[int]) -> None:
        self.nodes, self.every = nodes, every

    def path(self, prefix: str, kind: str, state: Sequence[str]) -> list[str] | None:
        """What the path ``kind`` makes of ``state``; None for nothing."""
        if kind == "none":
            return None
        if kind == "skip":
            return list(state)
        make = {"TD": self._top_down, "BU": self._bottom_up, "FS": self._fuse_split, "SE": self._equalize}[kind]
        return make(prefix, state)

    def sums(self, prefix: str, parts: Sequence[Sequence[str] | None], *, by_level: bool = False) -> list[str]:
        """The sum of several states, level by level."""
        there = [part for part in parts if part is not None]
        return [
            self._add(f"{prefix}{level}" if by_level else f"{prefix}_{i}", i, [Edge(part[i], ()) for part in there])
            for i, level in enumerate(self.every)
        ]

    def _top_down(self, prefix: str, state: Sequence[str]) -> list[str]:
        found: dict[int, str] = {}
        for i in reversed(range(_STATES)):
            coarser = [self._resized(found[i + 1], i)] if i + 1 in found else []
            found[i] = self._conv(f"{prefix}_{i}", i, [Edge(state[i], ()), *coarser])
        return [found[i] for i in range(_STATES)]

    def _bottom_up(self, prefix: str, state: Sequence[str]) -> list[str]:
        found: list[str] = []
        for i in range(_STATES):
            finer = [self._resized(found[i - 1], i)] if i else []
            found.append(self._conv(f"{prefix}_{i}", i, [Edge(state[i], ()), *finer]))
        return found

    def _fuse_split(self, prefix: str, state: Sequence[str]) -> list[str]:
        fine = self._add(f"{prefix}_fine", 1, [Edge(state[1], ()), self._resized(state[0], 1)])
        coarse = self._add(f"{prefix}_coarse", 2, [self._resized(state[3], 2), Edge(state[2], ())])
        # One convolution for both, as in the released code.
        first = self._conv(f"{prefix}_1", 1, [Edge(fine, ()), self._resized(coarse, 1)], op="concat")
        second = self._conv(f"{prefix}_2", 2, [self._resized(fine, 2), Edge(coarse, ())], op="concat", shares=first)
        outer = self._add(f"{prefix}_0", 0, [self._resized(first, 0)])
        return [outer, first, second, self._add(f"{prefix}_3", 3, [self._resized(second, 3)])]

    def _equalize(self, prefix: str, state: Sequence[str]) -> list[str]:
        """One pyramid convolution for all levels: three kernels, for the map itself and its two neighbours."""
        own, finer, coarser = [], [], []
        for i in range(_STATES):
            own.append(self._conv(f"{prefix}_own{i}", i, [Edge(state[i], ())], shares=own[0] if own else None))
            if i:
                down = Edge(state[i - 1], [Conv(3, stride=2), Resample("nearest", to=self._size(i))])
                finer.append(self._add(f"{prefix}_finer{i}", i, [down], shares=finer[0] if finer else None))
                share = coarser[0] if coarser else None
                coarser.append(self._conv(f"{prefix}_coarser{i}", i, [Edge(state[i], ())], shares=share))
        found = []
        for i in range(_STATES):
            edges = [Edge(own[i], ())]
            edges += [Edge(finer[i - 1], ())] if i else []
            edges += [self._resized(coarser[i], i)] if i < _STATES - 1 else []
            found.append(f"{prefix}_{i}")
            self.nodes.append(Node(found[-1], self.every[i], "sum", edges, [Act("relu")]))
        return found

    def _conv(self, name: str, i: int, edges: Sequence[Edge], *, op: str = "sum", shares: str | None = None) -> str:
        self.nodes.append(Node(name, self.every[i], op, edges, [Conv(3)], shares=shares))
        return name

    def _add(self, name: str, i: int, edges: Sequence[Edge], *, shares: str | None = None) -> str:
        self.nodes.append(Node(name, self.every[i], "sum", edges, shares=shares))
        return name

    def _size(self, i: int) -> str:
        return f"lat{self.every[i]}"

    def _resized(self, source: str, i: int) -> Edge:
        """``source`` at the size of the i-th level: nearest up, 2x2 max pools down."""
        return Edge(source, [Resample("auto", to=self._size(i))])
