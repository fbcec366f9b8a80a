"""A certificate of a labelled DAG that is equal for two of them exactly when they are isomorphic.

Colour refinement, then individualisation of one vertex of the first tied colour and refinement again, over
all its members; the smallest text over the leaves is the certificate (McKay and Piperno, "Practical graph
isomorphism II", 2014). A member is skipped where a leaf below it shows that it can change places with an
earlier one. Necks almost never tie: only nodes of equal make with equal inputs and equivalent readers do.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vertex:
    """A node of a normal form.

    Args:
        label: What it is.
        arcs: Number of each source with what happens on the way.
        ordered: Whether the order of ``arcs`` counts.
        marks: Outputs that it is.
        group: Vertices with one group (not None) share weights.
    """

    label: str
    arcs: tuple[tuple[int, str], ...]
    ordered: bool
    marks: tuple[str, ...]
    group: Hashable = None


def certificate(vertices: Sequence[Vertex]) -> str:
    """Return the canonical text of ``vertices``."""
    readers: list[list[tuple[int, str]]] = [[] for _ in vertices]
    mates: dict[Hashable, list[int]] = defaultdict(list)
    for i, vertex in enumerate(vertices):
        for position, (source, arc) in enumerate(vertex.arcs):
            readers[source].append((i, f"{position}:{arc}" if vertex.ordered else arc))
        if vertex.group is not None:
            mates[vertex.group].append(i)
    start = [_hash([v.label, v.ordered, list(v.marks), v.group is not None]) for v in vertices]

    def refine(colours: list[str]) -> list[str]:
        count = len(set(colours))
        while True:
            finer = []
            for i, vertex in enumerate(vertices):
                inputs = [[arc, colours[source]] for source, arc in vertex.arcs]
                outputs = sorted([arc, colours[reader]] for reader, arc in readers[i])
                group = sorted(colours[j] for j in mates[vertex.group]) if vertex.group is not None else []
                finer.append(_hash([colours[i], inputs if vertex.ordered else sorted(inputs), outputs, group]))
            colours = finer
            if len(set(colours)) == count:
                return colours
            count = len(set(colours))

    def branches(colours: list[str]) -> Iterator[list[str]]:
        """``colours`` with each vertex of the first tied colour made different from the others, if any tie."""
        ties = sorted(colour for colour, times in Counter(colours).items() if times > 1)
        tied = [i for i, colour in enumerate(colours) if colour == ties[0]] if ties else []
        for i in _distinguishable(tied, vertices, readers):
            yield refine([_hash([c, "chosen"]) if j == i else c for j, c in enumerate(colours)])

    def first_leaf(colours: list[str]) -> tuple[str, ...]:
        while (finer := next(branches(colours), None)) is not None:
            colours = finer
        return (*sorted(colours), _text(vertices, colours))

    def smallest(colours: list[str]) -> str:
        # Equal leaves map one branch onto another, so both have the same smallest text.
        different = {first_leaf(finer): finer for finer in branches(colours)}
        if not different:
            return _text(vertices, colours)
        return min(smallest(finer) for finer in different.values())

    return smallest(refine(start))


def _distinguishable(
    tied: list[int], vertices: Sequence[Vertex], readers: Sequence[list[tuple[int, str]]]
) -> list[int]:
    """One of each set of twins: vertices with the very same inputs and readers can change places."""
    found: dict[Hashable, int] = {}
    for i in tied:
        arcs = vertices[i].arcs if vertices[i].ordered else tuple(sorted(vertices[i].arcs))
        found.setdefault((arcs, tuple(sorted(readers[i])), vertices[i].group), i)
    return list(found.values())


def _text(vertices: Sequence[Vertex], colours: Sequence[str]) -> str:
    """The graph written out in the order of ``colours``, all of them different."""
    order = sorted(range(len(vertices)), key=colours.__getitem__)
    place = {i: position for position, i in enumerate(order)}
    first_of_group: dict[Hashable, int] = {}
    lines = []
    for i in order:
        vertex = vertices[i]
        arcs = [[place[source], arc] for source, arc in vertex.arcs]
        group = None if vertex.group is None else first_of_group.setdefault(vertex.group, place[i])
        lines.append([vertex.label, arcs if vertex.ordered else sorted(arcs), list(vertex.marks), group])
    return json.dumps(lines)


def _hash(value: object) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=12).hexdigest()
