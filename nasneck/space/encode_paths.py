"""From a graph back to two paths: the smallest choices that build a graph of equal key.

The nodes of all repeats are gone through in the order in which they are built. As long as a node has no option
yet, each one is followed whose node, with all above it, occurs in the graph; from then on it is fixed. A node
that no output reads occurs nowhere and may stay open. What is read in one repeat is read in the next as well,
since the last one's outputs all are; so nodes are open in the first repeats only, and how often in all is known
for each level by counting. A way ends as soon as something in the graph reads a map that will not come any more.

Of the ways that lead to the key wanted the smallest is taken. What is open in all repeats has no effect and
takes its first option.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasneck.graph import NeckGraph
from nasneck.graph.fusion import Input
from nasneck.graph.liveness import read_nodes
from nasneck.graph.node import Node
from nasneck.graph.terms import Term, Terms
from nasneck.necks.paths import Source, path_inputs, path_nodes

if TYPE_CHECKING:
    from nasneck.space.bidirectional import BidirectionalSpace

Found = tuple[int, int, tuple[int, ...]]  # choices of repeats and width, option of every node
_Templates = list[list[tuple[int, list[Node]]]]  # per slot: options, each with its nodes


def smallest_choices(space: BidirectionalSpace, graph: NeckGraph) -> Found | None:
    """Return the smallest choices that decode to the key of ``graph``, or None."""
    for width in range(len(space.widths)):
        search = _Search(space, graph, width)
        for repeats in range(len(space.repeat_choices)):
            ways = search.ways(repeats)
            if ways:  # the width is written on every node, so that no other one has any
                return repeats, width, min(ways)
    return None


class _Wanted:
    """The graph as terms: how often each cell occurs, where it lies, and which inputs and cells it reads."""

    def __init__(self, terms: Terms, graph: NeckGraph) -> None:
        read = read_nodes(graph, graph.outputs.values())
        known: dict[str, Term] = {}
        reads: dict[str, frozenset[int]] = {}
        self.counts: Counter[int] = Counter()
        self.levels: Counter[int] = Counter()
        self.reads: dict[int, frozenset[int]] = {}
        for node in graph.nodes:
            known[node.name] = term = terms.of(node, known)
            sources = frozenset().union(*(reads[edge.source] for edge in node.inputs))
            cell = bool(node.layers)
            # What is no cell (a bare fusion, a pooled level) stands for what it reads.
            reads[node.name] = frozenset({term.number}) if cell or isinstance(node.op, Input) else sources
            if cell and node.name in read:
                self.counts[term.number] += 1
                self.levels[-1 if node.level is None else node.level] += 1
                self.reads[term.number] = sources
        self.outputs = {level: known[name].number for level, name in graph.outputs.items()}


@dataclass(frozen=True, slots=True)
class _State:
    """How far the search is.

    Args:
        options: Per slot, None while it is open.
        maps: Terms of the maps that the next node may read, None for those that no output reads.
        left: Cells of the graph that are still to come.
        spare: Per level, how many nodes more stay open, counted in every repeat.
    """

    options: tuple[int | None, ...]
    maps: Mapping[Source, Term | None]
    left: Counter[int]
    spare: Mapping[int, int]


class _Search:
    """The search for one width."""

    def __init__(self, space: BidirectionalSpace, graph: NeckGraph, width: int) -> None:
        self.space, self.graph, self.width = space, graph, width
        self.slots = space.slots
        terms = self.terms = Terms()
        self.wanted = _Wanted(terms, graph)
        prelude, self.size_of = path_inputs(space.inputs, space.levels, width=space.widths[width])
        self.start: dict[str, Term] = {}
        for node in prelude:
            self.start[node.name] = terms.of(node, self.start)
        later = {level: f"input{level}" for level in self.size_of}
        self.templates = self._make_templates(self.size_of), self._make_templates(later)

    def ways(self, repeats: int) -> set[tuple[int, ...]]:
        """Options that give the key wanted with this choice of repeats."""
        rounds = self.space.repeat_choices[repeats]
        spare = Counter(level for _, level in self.slots * rounds)
        spare.subtract(self.wanted.levels)
        if (
            self.graph.output_levels != tuple(self.size_of)
            or set(spare) != set(self.size_of)
            or min(spare.values()) < 0
        ):
            return set()
        first = {level: self.start[name] for level, name in self.size_of.items()}
        state = _State((None,) * len(self.slots), self._inputs(first), self.wanted.counts, spare)
        return {way for way in self._finished(state, 0, rounds) if self._key(way, repeats) == self.graph.key()}

    def _finished(self, state: _State, step: int, rounds: int) -> Iterator[tuple[int, ...]]:
        """Options of all complete ways from ``state``, where ``step`` nodes of all repeats are done."""
        round_, place = divmod(step, len(self.slots))
        if round_ == rounds:
            yield tuple(option or 0 for option in state.options)
            return
        if place == 0 and step:
            outputs = {level: state.maps["out", level] for level in self.size_of}
            state = _State(state.options, self._inputs(outputs), state.left, state.spare)
        if self._possible(state, step, rounds):
            for following in self._steps(state, round_, place, last=round_ == rounds - 1):
                yield from self._finished(following, step + 1, rounds)

    def _steps(self, state: _State, round_: int, place: int, *, last: bool) -> Iterator[_State]:
        """The states with one node more."""
        slot, chosen = self.slots[place], state.options[place]
        role, level = slot
        known = self._names(state, round_)
        for option, nodes in self.templates[min(round_, 1)][place]:
            if chosen not in (None, option):
                continue
            term = self._term(nodes, known)
            if term is None or not state.left[term.number]:
                continue
            if last and role == "out" and term.number != self.wanted.outputs[level]:
                continue
            options = (*state.options[:place], option, *state.options[place + 1 :])
            left = state.left - Counter([term.number])
            yield _State(options, {**state.maps, slot: term}, left, state.spare)
        if chosen is None and state.spare[level] and not (last and role == "out"):
            spare = {**state.spare, level: state.spare[level] - 1}
            yield _State(state.options, {**state.maps, slot: None}, state.left, spare)

    def _possible(self, state: _State, step: int, rounds: int) -> bool:
        """Whether all that is left can still come: its sources, and as many open nodes as there have to be."""
        there = {term.number for term in state.maps.values() if term is not None}
        if any(s not in there and s not in state.left for t in state.left for s in self.wanted.reads[t]):
            return False
        room = Counter[int]()
        for place, (role, level) in enumerate(self.slots):
            if state.options[place] is None:
                times = rounds - (step - place + len(self.slots) - 1) // len(self.slots)
                room[level] += times - (role == "out")  # the last outputs are read
        return all(count <= room[level] for level, count in state.spare.items())

    def _make_templates(self, current: Mapping[int, str]) -> _Templates:
        """Nodes of every option, with maps named by role; of equal ones the first."""
        names: dict[Source, str] = {(role, level): f"{role}{level}" for role, level in self.slots}
        names |= {("input", level): name for level, name in current.items()}
        names["down", self.space.levels[1]] = current[self.space.levels[1]]
        made: _Templates = []
        for slot in self.slots:
            distinct: dict[tuple[Node, ...], int] = {}
            for number, node in enumerate(self.space.options(slot)):
                nodes = path_nodes("own", node, names, self.size_of, width=self.space.widths[self.width])
                distinct.setdefault(tuple(nodes), number)
            made.append([(number, list(nodes)) for nodes, number in distinct.items()])
        return made

    def _inputs(self, current: Mapping[int, Term | None]) -> dict[Source, Term | None]:
        maps: dict[Source, Term | None] = {("input", level): term for level, term in current.items()}
        return {**maps, ("down", self.space.levels[1]): current[self.space.levels[1]]}

    def _names(self, state: _State, round_: int) -> dict[str, Term]:
        """Terms by the names that the templates use; open maps have none."""
        found = {f"{role}{level}": term for (role, level), term in state.maps.items() if term is not None}
        return {**self.start, **found}

    def _term(self, nodes: list[Node], known: dict[str, Term]) -> Term | None:
        """The term of the last of ``nodes``, or None if one reads what is open."""
        for node in nodes:
            if any(edge.source not in known for edge in node.inputs):
                return None
            known = {**known, node.name: self.terms.of(node, known)}
        return known[nodes[-1].name]

    def _key(self, way: tuple[int, ...], repeats: int) -> str:
        nodes = [self.space.options(slot)[option] for slot, option in zip(self.slots, way, strict=True)]
        return self.space.build(nodes, repeats, self.width).key()
