"""The space around BiFPN and PANet: which edges, fusions and convolutions a top-down and a bottom-up path have.

The frame is that of :mod:`nasneck.necks.bidirectional`. Decisions, in this order:

    repeats         index into the numbers of repeats
    width           index into the widths of all maps
    p6_td.inputs    which of the plain sources are read: index of a non-empty subset, larger ones first
                        top-down   the repeat's input on this level; the path's map one level coarser
                        bottom-up  the repeat's input; the top-down map; the path's map one level finer
    p6_td.extra     one more edge: 0 none, then those of ``extras`` that this node can have
                        far        the path's map two levels back
                        coarser    the repeat's input one level coarser
                        finer      the repeat's input one level finer
    p6_td.op        index into the fusions
    p6_td.conv      index into the convolutions

and so on down to the finest level and up again. A node always reads something, so every vector is legal. With
one source there is no fusion, and attention of more than two joins the first two and adds the others.

All zeros are the published BiFPN where the options are listed as in the shipped file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

from nasneck.decision import Choices, Decision
from nasneck.errors import GraphError, SpaceError
from nasneck.graph import Conv, NeckGraph
from nasneck.graph.fusion import FUSIONS, Concat, Fusion, Gate, Input, PixelWeighted
from nasneck.graph.spec import fusion_from_spec
from nasneck.necks.bidirectional import build_bidirectional, slots
from nasneck.necks.paths import PathNode, Source
from nasneck.settings import did_you_mean
from nasneck.space.base import SearchSpace
from nasneck.space.encode_paths import smallest_choices

CONVS: dict[str, Conv] = {
    "separable3": Conv(3, separable=True, bias=False, init="glorot"),
    "separable5": Conv(5, separable=True, bias=False, init="glorot"),
    "conv3": Conv(3, bias=False, init="glorot"),
    "conv1": Conv(1, bias=False, init="glorot"),
}
EXTRAS = ("far", "coarser", "finer")


@dataclass(frozen=True, repr=False)
class BidirectionalSpace(SearchSpace):
    """Necks of a top-down and a bottom-up path.

    Args:
        name: Name of the space.
        inputs: First and last level of the backbone.
        levels: First and last level of the neck.
        ops: Names of the fusions to choose from.
        convs: Names of the convolutions to choose from: ``separable3``, ``separable5``, ``conv3``, ``conv1``.
        extras: Further edges that a node may have, one at a time: ``far``, ``coarser``, ``finer``.
        repeat_choices: Numbers of repeats to choose from.
        widths: Widths to choose from, as in graphs; all maps of a neck have one, since heads want one.

    Raises:
        SpaceError: settings that leave nothing to search or name something unknown.
    """

    name: str = "bidirectional"
    inputs: tuple[int, int] = (3, 5)
    levels: tuple[int, int] = (3, 7)
    ops: tuple[str, ...] = ("fast_normalized", "sum", "attention")
    convs: tuple[str, ...] = ("separable3", "conv3")
    extras: tuple[str, ...] = EXTRAS
    repeat_choices: tuple[int, ...] = (1, 2, 3, 4)
    widths: tuple[str, ...] = ("channels", "channels/2")
    decisions: tuple[Decision, ...] = field(init=False, repr=False, compare=False)
    fusions: tuple[Fusion, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check()
        object.__setattr__(self, "fusions", tuple(fusion_from_spec(op, where="ops") for op in self.ops))
        object.__setattr__(self, "decisions", tuple(self._decide()))
        try:
            for width in range(len(self.widths)):
                self.build([self.options(slot)[0] for slot in self.slots], 0, width)
        except GraphError as error:
            raise SpaceError(f"space {self.name!r} cannot be decoded: {error}") from None

    def decode(self, choices: Sequence[int]) -> NeckGraph:
        """Return the graph of ``choices``."""
        left = iter(self.check(choices))

        def take(count: int) -> int:
            return next(left) if count > 1 else 0

        repeats, width = take(len(self.repeat_choices)), take(len(self.widths))
        nodes = [self._node(slot, [take(n) for n in self._counts(slot).values()]) for slot in self.slots]
        return self.build(nodes, repeats, width)

    def encode(self, graph: NeckGraph) -> Choices:
        """Return the lexicographically smallest choices that give the key of ``graph``."""
        found = smallest_choices(self, graph)
        if found is None:
            raise SpaceError(f"{graph!r} is not in the space {self.name!r} ({self.describe()})")
        repeats, width, options = found
        numbers = [(len(self.repeat_choices), repeats), (len(self.widths), width)]
        for slot, option in zip(self.slots, options, strict=True):
            counts = list(self._counts(slot).values())
            numbers += zip(counts, list(product(*map(range, counts)))[option], strict=True)
        return self.check([choice for count, choice in numbers if count > 1])

    def build(self, nodes: Sequence[PathNode], repeats: int, width: int) -> NeckGraph:
        """Return the graph of ``nodes``; ``repeats`` and ``width`` are choices."""
        return build_bidirectional(
            nodes,
            inputs=self.inputs,
            levels=self.levels,
            repeats=self.repeat_choices[repeats],
            width=self.widths[width],
            name=self.name,
        )

    @property
    def repeats(self) -> int | None:
        """The number of repeats, or None where that is searched."""
        return self.repeat_choices[0] if len(self.repeat_choices) == 1 else None

    @property
    def slots(self) -> tuple[Source, ...]:
        """Role and level of the nodes of a repeat, in order."""
        return slots(self.levels)

    def options(self, slot: Source) -> list[PathNode]:
        """What the node of ``slot`` can be, in the order of its choices."""
        return [self._node(slot, choices) for choices in product(*map(range, self._counts(slot).values()))]

    def describe(self) -> str:
        """The settings that decide which graphs are in the space, as text."""
        values: dict[str, Any] = {
            "inputs": self.inputs,
            "levels": self.levels,
            "ops": self.ops,
            "convs": self.convs,
            "extras": self.extras,
            "repeats": self.repeat_choices,
            "widths": self.widths,
        }
        return ", ".join(f"{name} {value}" for name, value in values.items())

    def _node(self, slot: Source, choices: Sequence[int]) -> PathNode:
        inputs, extra, op, conv = choices
        sources = [*_subsets(self._plain(*slot))[inputs], *self._extra(*slot)[extra]]
        return PathNode(*slot, tuple(sources), self.fusions[op], CONVS[self.convs[conv]])

    def _counts(self, slot: Source) -> dict[str, int]:
        """Numbers of choices of a node; those of one choice are no decisions."""
        return {
            "inputs": len(_subsets(self._plain(*slot))),
            "extra": len(self._extra(*slot)),
            "op": len(self.ops),
            "conv": len(self.convs),
        }

    def _plain(self, role: str, level: int) -> list[Source]:
        """The sources of a node in BiFPN."""
        low, high = self.levels
        if role == "down" or level == low:
            return [("input", level), ("down", level + 1)]
        between: list[Source] = [("down", level)] if level < high else []
        return [("input", level), *between, ("out", level - 1)]

    def _extra(self, role: str, level: int) -> list[tuple[Source, ...]]:
        """No further source, or one; never one that is among the plain sources."""
        low, high = self.levels
        descends = role == "down" or level == low
        possible: dict[str, tuple[Source, bool]] = {
            "far": (("down", level + 2), level + 2 <= high) if descends else (("out", level - 2), level - 2 >= low),
            # What the top-down path reads from the coarsest level is its input.
            "coarser": (("input", level + 1), level + 1 < high if descends else level < high),
            "finer": (("input", level - 1), level > low),
        }
        return [(), *((source,) for source, there in (possible[name] for name in self.extras) if there)]

    def _decide(self) -> list[Decision]:
        numbers = [("repeats", "repeats", len(self.repeat_choices)), ("width", "width", len(self.widths))]
        for role, level in self.slots:
            node = f"p{level}_td" if role == "down" else f"p{level}"
            numbers += [(f"{node}.{kind}", kind, count) for kind, count in self._counts((role, level)).items()]
        return [Decision(name, count, kind) for name, kind, count in numbers if count > 1]

    def _check(self) -> None:
        if self.levels[1] <= self.levels[0]:
            raise SpaceError(f"levels={self.levels!r}: a first and a coarser last level are wanted")
        fusions = [name for name, op in FUSIONS.items() if op not in (Input, Concat, Gate, PixelWeighted)]
        for what, known in (("ops", fusions), ("convs", list(CONVS)), ("extras", list(EXTRAS))):
            for name in getattr(self, what):
                if name not in known:
                    raise SpaceError(f"unknown name {name!r} in {what}{did_you_mean(name, known)}")
        for what in ("ops", "convs", "extras", "repeat_choices", "widths"):
            given = getattr(self, what)
            if len(set(given)) < len(given) or not (given or what == "extras"):
                raise SpaceError(f"{what}={given!r}: at least one is wanted, each once")
        few = [number for number in self.repeat_choices if number < 1]
        if few:
            raise SpaceError(f"repeat_choices={self.repeat_choices!r}: {few[0]} is not at least 1")


def _subsets(sources: Sequence[Source]) -> list[tuple[Source, ...]]:
    """Non-empty subsets, larger ones first."""
    return [chosen for size in range(len(sources), 0, -1) for chosen in combinations(sources, size)]
