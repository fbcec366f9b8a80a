"""Equal keys exactly for equal architectures, against a second way of telling.

The other way writes a graph out as terms: every output as a nested tuple of all that it is computed from, with
a number at each place that holds weights. Two graphs are one architecture if some renumbering of those places
makes their terms, and the partition of the places by shared weights, equal. All renumberings are tried.
"""

from __future__ import annotations

import random
from itertools import permutations

from nasneck.graph import Act, Attention, Conv, Edge, NeckGraph, Node, Norm, Op, Resample, Sum, input_node

FEATURES = (input_node(3), input_node(4))
CONV, RELU = Conv(3), Act("relu")


class Written:
    """A graph as terms with numbered places."""

    def __init__(self, graph: NeckGraph) -> None:
        self.graph = graph
        self.owners: list[tuple] = []  # of the weights at each place
        self.places: dict[tuple, int] = {}
        self.memo: dict[str, object] = {}
        terms = [(f"P{level}", self.term(name)) for level, name in graph.outputs.items()]
        self.terms = (*terms, *((f"aux{i}", self.term(name)) for i, name in enumerate(graph.aux)))

    def place(self, name: str, owner: tuple) -> tuple[str, int]:
        if (name, owner) not in self.places:
            self.places[name, owner] = len(self.owners)
            self.owners.append(owner)
        return ("place", self.places[name, owner])

    def ops(self, ops: tuple[Op, ...], node: Node) -> tuple:
        found = []
        for op in ops:
            if isinstance(op, Resample):
                found.append(("resample", op.mode, node.level if op.to is None else self.graph[op.to].level))
            elif isinstance(op, Conv):
                found.append((str(op), node.width if op.width is None else op.width))
            else:
                found.append(str(op))
        return tuple(found)

    def term(self, name: str) -> object:
        if name not in self.memo:
            self.memo[name] = self.compute(self.graph[name])
        return self.memo[name]

    def compute(self, node: Node) -> object:
        if not node.inputs:
            return ("feature", node.level)
        owner = node.shares or node.name
        inputs: list[object] = []
        for position, edge in enumerate(node.inputs):
            inner = self.term(edge.source)
            ops = self.ops(edge.ops or (), node)
            if any(isinstance(op, Conv | Norm) for op in edge.ops or ()):
                inner = ("edge", ops, self.place(f"{node.name}/{position}", (owner, position)), inner)
            elif ops:
                inner = ("on the way", ops, inner)
            bare = isinstance(inner, tuple) and inner[0] == "Sum" and inner[2] == ()
            if isinstance(node.op, Sum) and bare and not edge.ops:
                inputs += inner[4]
            else:
                inputs.append(inner)
        if isinstance(node.op, Attention):
            levels = [self.graph[edge.source].level for edge in node.inputs]
            if levels[0] < levels[1]:
                inputs.reverse()
        weighted = any(isinstance(op, Conv | Norm) for op in node.layers)
        where = self.place(node.name, (owner,)) if weighted else None
        kind = type(node.op).__name__ if not isinstance(node.op, Attention) else str(node.op)
        return (kind, node.level, self.ops(node.layers, node), where, tuple(inputs))

    def canonical(self) -> str:
        """The smallest text over all renumberings of the places."""
        return min(self.text(order) for order in permutations(range(len(self.owners))))

    def text(self, order: tuple[int, ...]) -> str:
        def renumbered(term: object) -> object:
            if not isinstance(term, tuple):
                return term
            if term and term[0] == "place":
                return ("place", order[term[1]])
            inner = tuple(renumbered(part) for part in term)
            if inner and inner[0] == "Sum":
                inner = (*inner[:4], tuple(sorted(inner[4], key=repr)))
            return inner

        owners = [None] * len(order)
        for old, new in enumerate(order):
            owners[new] = self.owners[old]
        groups = [owners.index(owner) for owner in owners]
        return repr((renumbered(self.terms), groups))


def random_graph(rng: random.Random) -> NeckGraph:
    """A small graph of few kinds of parts, so that many are equal."""
    nodes: list[Node] = [*FEATURES]
    for i in range(rng.randint(1, 4)):
        level = rng.choice((3, 3, 4))
        op = rng.choice(("sum", "sum", "sum", "max", "attention"))
        count = 2 if op == "attention" else rng.choice((1, 2, 2))
        inputs = []
        for _ in range(count):
            source = rng.choice(nodes[-4:])
            ops = [CONV] if rng.random() < 0.15 else []
            if source.level != level:
                ops.append(Resample("auto", to=f"c{level}"))
            inputs.append(Edge(source.name, ops))
        layers = rng.choice(((), (), (RELU,), (CONV,)))
        node = Node(f"n{i}", level, op, inputs, layers, rng.choice(("channels", "channels", "channels", 4)))
        if node.has_weights and rng.random() < 0.3:
            mates = [
                n
                for n in nodes
                if n.has_weights
                and n.shares is None
                and (n.op, n.layers, n.width) == (node.op, node.layers, node.width)
                and [[o for o in e.ops if o == CONV] for e in n.inputs]
                == [[o for o in e.ops if o == CONV] for e in node.inputs]
            ]
            if mates:
                node = Node(node.name, level, op, inputs, layers, node.width, rng.choice(mates).name)
        nodes.append(node)
    last = nodes[-1]
    aux = [rng.choice(nodes[2:]).name] if rng.random() < 0.2 else []
    outputs = {last.level: last.name}
    if rng.random() < 0.3:
        other = rng.choice(nodes[2:])
        outputs.setdefault(other.level, other.name)
    return NeckGraph(nodes, outputs=outputs, aux=aux)


def test_keys_are_equal_exactly_for_equal_architectures():
    rng = random.Random(0)
    keys: dict[str, str] = {}
    architectures: dict[str, str] = {}
    total = tied = 0
    while total < 4000:
        graph = random_graph(rng)
        written = Written(graph)
        if len(written.owners) > 5:
            continue
        total += 1
        key, architecture = graph.key(), written.canonical()
        tied += key in keys
        assert keys.setdefault(key, architecture) == architecture, f"one key, two architectures: {graph.to_json()}"
        assert architectures.setdefault(architecture, key) == key, f"two keys, one architecture: {graph.to_json()}"
    assert tied > 400 and len(keys) > 1000  # both sides of the claim were tried


def test_the_other_way_of_telling_can_tell():
    def text(*nodes: Node) -> str:
        return Written(NeckGraph([*FEATURES, *nodes], outputs={3: "o"})).canonical()

    a, b = Node("a", 3, "sum", ["c3"], [CONV]), Node("b", 3, "sum", ["c3"], [CONV])
    assert text(a, b, Node("o", 3, "sum", ["a", "b"])) != text(a, Node("o", 3, "sum", ["a", "a"]))
    assert text(a, b, Node("o", 3, "max", ["a", "b"])) == text(a, b, Node("o", 3, "max", ["b", "a"]))
