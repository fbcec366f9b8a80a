"""Repeats: nodes named ``r<i>_...`` belong to repeat i; repeats that are wired alike need one drawing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nasneck.graph import Edge, NeckGraph, Node, Op, Project
from nasneck.graph.ops import size_source, with_size_source

_PREFIX = re.compile(r"r(\d+)_(.+)")
STEM = -1


@dataclass(frozen=True, slots=True)
class Stages:
    """Where every node stands in the sequence stem, repeats, tail.

    Args:
        of: Node name -> ``STEM``, the number of its repeat from 0, or ``count`` for what follows the repeats.
        count: Number of repeats; 0 where names tell of none, and then every node is in the stem.
    """

    of: Mapping[str, int]
    count: int

    def label(self, name: str) -> str:
        """``name`` without the prefix of its repeat."""
        return short_name(name) if self.count else name


@dataclass(frozen=True, slots=True)
class Collapsed:
    """A graph with one repeat in place of ``count`` that are wired alike."""

    graph: NeckGraph
    count: int
    shared: bool
    projections_dropped: bool

    @property
    def note(self) -> str:
        """What the reader has to know about the repeats that are left out."""
        rest = "repeat 2 reads" if self.count == 2 else f"repeats 2 to {self.count} read"
        weights = "weights shared" if self.shared else "each with its own weights"
        without = ", without the 1x1 projections" if self.projections_dropped else ""
        return f"x {self.count}: all repeats are wired alike, {weights}; {rest} the outputs of the one before{without}"


def short_name(name: str) -> str:
    """``name`` without a prefix ``r<i>_``."""
    match = _PREFIX.fullmatch(name)
    return match.group(2) if match else name


def find_stages(graph: NeckGraph) -> Stages:
    """Read the repeats off the names of ``graph``; none where an edge would run backwards between them."""
    numbers = {n.name: int(m.group(1)) for n in graph.nodes if n.inputs and (m := _PREFIX.fullmatch(n.name))}
    rank = {number: i for i, number in enumerate(sorted(set(numbers.values())))}
    none = Stages({node.name: STEM for node in graph.nodes}, 0)
    stages: dict[str, int] = {}
    for node in graph.nodes:
        latest = max((stages[edge.source] for edge in node.inputs), default=STEM)
        if node.name in numbers:
            stages[node.name] = rank[numbers[node.name]]
            if latest > stages[node.name]:
                return none
        else:
            stages[node.name] = len(rank) if latest > STEM else STEM
    return Stages(stages, len(rank)) if rank else none


def collapse(graph: NeckGraph) -> Collapsed | None:
    """Return ``graph`` with its first repeat alone, or None if there is one repeat or they differ.

    Repeats are alike when their nodes have the same names, levels, fusions and layers, and read each other
    in the same way; a later repeat reads the one before where the first reads the stem. Projections from the
    stem, which bring a backbone feature to the neck's width, may be missing in later repeats.
    """
    stages = find_stages(graph)
    if stages.count < 2:
        return None
    comparison = _Comparison(graph, stages)
    if not all(comparison.is_alike(repeat) for repeat in range(1, stages.count)):
        return None
    reduced = _keep_first(graph, stages)
    if reduced is None:
        return None
    return Collapsed(reduced, stages.count, comparison.shared, comparison.projections_dropped)


class _Comparison:
    """Later repeats against the first; remembers which stem node stands for which node of the one before."""

    def __init__(self, graph: NeckGraph, stages: Stages) -> None:
        self.graph = graph
        self.stages = stages
        self.feed: dict[str, str] = {}
        self._sharing: set[bool] = set()
        self.projections_dropped = False
        self._repeats = [
            {short_name(n.name): n for n in graph.nodes if stages.of[n.name] == i} for i in range(stages.count)
        ]

    @property
    def shared(self) -> bool:
        """Whether later repeats use the weights of the first."""
        return True in self._sharing

    def is_alike(self, repeat: int) -> bool:
        """Whether repeat number ``repeat`` is wired as the first is."""
        first, later = self._repeats[0], self._repeats[repeat]
        return first.keys() == later.keys() and all(self._same_node(first[name], later[name], repeat) for name in first)

    def _same_node(self, first: Node, later: Node, repeat: int) -> bool:
        make = (first.level, first.op, first.layers, first.width, len(first.inputs))
        if make != (later.level, later.op, later.layers, later.width, len(later.inputs)):
            return False
        if later.has_weights and not self._same_sharing(first, later, repeat):
            return False
        return all(self._same_edge(a, b, repeat) for a, b in zip(first.inputs, later.inputs, strict=True))

    def _same_sharing(self, first: Node, later: Node, repeat: int) -> bool:
        """Whether ``later`` has weights where ``first`` has; all later repeats share the first's, or none."""
        shared = later.shares is not None and later.shares == (first.shares or first.name)
        self._sharing.add(shared)
        within = first.shares is None or self._stands_for(first.shares, later.shares or "", repeat)
        own = (first.shares is None) == (later.shares is None) and within
        return len(self._sharing) == 1 and (shared or own)

    def _same_edge(self, first: Edge, later: Edge, repeat: int) -> bool:
        if not self._stands_for(first.source, later.source, repeat):
            return False
        ops, other = first.ops or (), later.ops or ()
        if self.stages.of[first.source] == STEM and len(ops) != len(other):
            self.projections_dropped = True
            ops = tuple(op for op in ops if not isinstance(op, Project))
        return len(ops) == len(other) and all(self._same_op(a, b) for a, b in zip(ops, other, strict=True))

    def _same_op(self, first: Op, later: Op) -> bool:
        one, other = size_source(first), size_source(later)
        if one is not None and other is not None:
            # Any node of a level may tell its size.
            return self.graph[one].level == self.graph[other].level and first == with_size_source(later, one)
        return first == later

    def _stands_for(self, first: str, later: str, repeat: int) -> bool:
        """Whether ``later`` is to repeat ``repeat`` what ``first`` is to the first."""
        stage = self.stages.of.get(later)
        if self.stages.of[first] == 0:
            return stage == repeat and short_name(first) == short_name(later)
        if stage == STEM:
            return first == later
        if stage != repeat - 1 or self.graph[first].level != self.graph[later].level:
            return False
        return self.feed.setdefault(first, short_name(later)) == short_name(later)


def _keep_first(graph: NeckGraph, stages: Stages) -> NeckGraph | None:
    """Stem, first repeat and tail, the last now reading the first repeat; None if it reads others too."""
    first = {short_name(n.name): n.name for n in graph.nodes if stages.of[n.name] == 0}
    tail = [n for n in graph.nodes if stages.of[n.name] == stages.count]
    read = [*graph.outputs.values(), *graph.aux, *(edge.source for node in tail for edge in node.inputs)]
    if any(0 <= stages.of[name] < stages.count - 1 for name in read):
        return None

    def kept(name: str) -> str:
        return first[short_name(name)] if 0 <= stages.of[name] < stages.count else name

    def kept_op(op: Op) -> Op:
        to = size_source(op)
        return op if to is None else with_size_source(op, kept(to))

    nodes = [n for n in graph.nodes if stages.of[n.name] in (STEM, 0)]
    for node in tail:
        edges = [Edge(kept(edge.source), [kept_op(op) for op in edge.ops or ()]) for edge in node.inputs]
        shares = None if node.shares is None else kept(node.shares)
        nodes.append(Node(node.name, node.level, node.op, edges, node.layers, node.width, shares))
    outputs = {level: kept(name) for level, name in graph.outputs.items()}
    return NeckGraph(nodes, outputs=outputs, aux=[kept(name) for name in graph.aux], name=graph.name)
