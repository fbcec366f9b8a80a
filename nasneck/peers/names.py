"""How names of modules are told: ours beside theirs, for one neck of one implementation."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from nasneck.graph import Input, NeckGraph, Node
from nasneck.neck import Neck

# Our module, where ``*`` stands for any name without a dot, and the names that it has there: several where the
# other implementation lists a shared module several times.
Pair = tuple[str, tuple[str, ...]]
Pairs = Iterator[Pair]


class Names:
    """Pairs of names for ``neck``.

    Attributes:
        graph: Its graph.
        covered: Levels of its outputs that have a backbone feature, finest first.
        extra: The other levels of its outputs.
    """

    def __init__(self, neck: Neck) -> None:
        self.neck = neck
        self.graph: NeckGraph = neck.graph
        self.covered = [level for level in self.graph.output_levels if level in self.graph.input_levels]
        self.extra = [level for level in self.graph.output_levels if level not in self.graph.input_levels]
        self._modules = dict(neck.body.named_modules())

    def has(self, path: str) -> bool:
        """Whether the neck has a module at ``path``."""
        return path in self._modules

    def edge(self, node: str, position: int) -> str:
        """Path of the modules on input ``position`` of ``node``."""
        sources = [edge.source for edge in self.graph[node].inputs]
        times = sources[: position + 1].count(sources[position])
        return f"{node}.from_{sources[position]}" + (f"_{times}" if times > 1 else "")

    def unit(self, ours: str, *theirs: str, number: int = 1, conv: str = "conv", norm: str | None = None) -> Pairs:
        """A convolution and its norm, the ``number``-th at the path ``ours``.

        Args:
            ours: Path of the node or edge.
            theirs: Paths of the unit there.
            number: Which of several.
            conv: What the convolution is called there; empty where the unit is the convolution.
            norm: What the norm is called there; ``bn`` or ``gn`` by its kind unless told.
        """
        suffix = f"_{number}" if number > 1 else ""
        called = f".{conv}" if conv else ""
        yield f"{ours}.conv{suffix}", tuple(f"{their}{called}" for their in theirs)
        path = f"{ours}.norm{suffix}"
        kind = "gn" if isinstance(self._modules.get(path), nn.GroupNorm) else "bn"
        yield path, tuple(f"{their}.{norm or kind}" for their in theirs)

    def built(self) -> list[Node]:
        """The nodes that are not features, in the order in which they were built."""
        return [node for node in self.graph.nodes if not isinstance(node.op, Input)]
