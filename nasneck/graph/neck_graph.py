"""NeckGraph: the immutable description of a neck. No torch.

c3 ──> p3 ──────────> p3_out        nodes      backbone features, then merge cells
        ▲                           edges      ordered; each may resample, project, convolve
c4 ──> p4 ──────────> p4_out        outputs    one node per level that the neck gives
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from functools import cached_property
from types import MappingProxyType
from typing import Any

import networkx as nx

from nasneck.errors import GraphError
from nasneck.graph.fusion import Input
from nasneck.graph.levels import check_edge_levels, check_sizes
from nasneck.graph.node import Edge, Node
from nasneck.graph.normal_form import digest
from nasneck.graph.ops import Resample, size_source, with_size_source
from nasneck.graph.width import feature_level


class NeckGraph:
    """A directed acyclic graph of merge cells, valid since it exists.

    Args:
        nodes: Backbone features (op ``input``) and merge cells, in any order.
        outputs: Name of the output node of every level that the neck gives.
        aux: Names of further outputs that only training uses.
        name: What people call it; no part of its identity.

    Attributes:
        nodes: All nodes in an order in which they can be computed.
        outputs: Level -> node name, finest level first.
        aux: Names of the auxiliary outputs.

    Raises:
        GraphError: a cycle, a dangling or repeated name, an edge between levels that do not meet.

    Example:
        >>> from nasneck.graph.node import input_node
        >>> p3 = Node("p3", 3, op="sum", inputs=("c3",), layers=({"op": "conv", "kernel": 1},))
        >>> NeckGraph([input_node(3), p3], outputs={3: "p3"})
        NeckGraph('neck': C3 -> P3, 2 nodes)
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        *,
        outputs: Mapping[int, str],
        aux: Iterable[str] = (),
        name: str = "neck",
    ) -> None:
        given = tuple(nodes)
        table = _by_name(given)
        ordered = _resolve_edges(_computable_order(given, table))
        table = _by_name(ordered)
        fields = self.__dict__  # __setattr__ refuses; nothing is set after this
        fields["name"] = name
        fields["nodes"] = ordered
        fields["outputs"] = MappingProxyType(_check_outputs(outputs, table))
        fields["aux"] = _check_aux(aux, table)
        levels = {node.level for node in ordered if isinstance(node.op, Input)}
        for node in ordered:
            for edge in node.inputs:
                check_edge_levels(edge, node, table)
            check_sizes(node, table)
            _check_sharing(node, table)
            _check_feature_widths(node, levels)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a NeckGraph is immutable; cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a NeckGraph is immutable; cannot delete {name!r}")

    name: str
    nodes: tuple[Node, ...]
    outputs: Mapping[int, str]
    aux: tuple[str, ...]

    # -- reading -------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Node:
        try:
            return self._table[name]
        except KeyError:
            raise GraphError(f"no node is named {name!r} (known: {', '.join(self._table)})") from None

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def _table(self) -> dict[str, Node]:
        return _by_name(self.nodes)

    @cached_property
    def input_levels(self) -> tuple[int, ...]:
        """Levels of the backbone features, finest first."""
        return tuple(sorted(node.level for node in self.nodes if isinstance(node.op, Input)))  # type: ignore[type-var]

    @cached_property
    def input_names(self) -> dict[int, str]:
        """Level -> name of the backbone feature, finest first."""
        found = {node.level: node.name for node in self.nodes if isinstance(node.op, Input)}
        return {level: found[level] for level in self.input_levels}

    @property
    def output_levels(self) -> tuple[int, ...]:
        """Levels that the neck gives, finest first."""
        return tuple(self.outputs)

    @property
    def size_divisor(self) -> int:
        """Number that image sides must be divisible by: 1, as every op resamples to what there is.

        Some necks need images of a least size all the same (``nasneck.sizes.vanishing``).
        """
        return 1

    @cached_property
    def dag(self) -> nx.MultiDiGraph:
        """The frozen networkx graph; edges run from source to reader, keyed by the input's position.

        Node attributes: ``level``, ``op``, ``layers``, ``width``, ``shares``. Edge attributes: ``position``,
        ``ops``. A multigraph, since a node may read another twice.
        """
        return nx.freeze(self.to_networkx())

    def key(self) -> str:
        """Identity of the architecture: a digest of its normal form (see ``normal_form``)."""
        return self._key

    @cached_property
    def _key(self) -> str:
        return digest(self)

    # -- taking it elsewhere -------------------------------------------------------------------------

    def to_networkx(self) -> nx.MultiDiGraph:
        """A copy as ``nx.MultiDiGraph`` that may be edited and read back by :meth:`from_networkx`."""
        dag = nx.MultiDiGraph(name=self.name, outputs=dict(self.outputs), aux=self.aux)
        for n in self.nodes:
            dag.add_node(n.name, level=n.level, op=n.op, layers=n.layers, width=n.width, shares=n.shares)
        for n in self.nodes:
            for position, edge in enumerate(n.inputs):
                dag.add_edge(edge.source, n.name, key=position, position=position, ops=edge.ops)
        return dag

    @classmethod
    def from_networkx(
        cls,
        dag: nx.DiGraph | nx.MultiDiGraph,
        *,
        outputs: Mapping[int, str] | None = None,
        aux: Iterable[str] | None = None,
        name: str | None = None,
    ) -> NeckGraph:
        """Read a networkx graph with the attributes that :attr:`dag` lists.

        Only a node's ``level`` is required: ``op`` defaults to ``input`` for nodes without inputs and to
        ``sum`` for others. Edges into a node with several inputs need ``position`` (0, 1, ...), because
        networkx does not keep the order of a node's inputs.

        Raises:
            GraphError: what is missing, and where.
        """
        if not isinstance(dag, nx.DiGraph):
            raise GraphError(f"a neck is a networkx DiGraph or MultiDiGraph, not {type(dag).__name__}")
        nodes = [_node_from_networkx(dag, node) for node in dag.nodes]
        found = dag.graph.get("outputs") if outputs is None else outputs
        if not found:
            raise GraphError("no outputs: give outputs={level: node name}, or set dag.graph['outputs']")
        return cls(
            nodes,
            outputs=found,
            aux=dag.graph.get("aux", ()) if aux is None else aux,
            name=name or dag.graph.get("name") or "neck",
        )

    def to_json(self, *, indent: int | None = 1) -> str:
        """The graph as JSON text with a schema version."""
        from nasneck.graph import schema  # the schema builds graphs, so it imports this file

        return schema.dumps(self, indent=indent)

    @staticmethod
    def from_json(text: str, *, where: str = "graph") -> NeckGraph:
        """Inverse of :meth:`to_json`.

        Raises:
            GraphError: with ``where`` (a file name, say) for text that is not such a graph.
        """
        from nasneck.graph import schema

        return schema.loads(text, where=where)

    # -- comparing -----------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        """Same nodes with the same names in the same order; :meth:`key` compares architectures."""
        if not isinstance(other, NeckGraph):
            return NotImplemented
        return (self.nodes, self.outputs, self.aux) == (other.nodes, other.outputs, other.aux)

    def __hash__(self) -> int:
        return hash((self.nodes, tuple(self.outputs.items()), self.aux))

    def __repr__(self) -> str:
        inputs = ",".join(f"C{level}" for level in self.input_levels)
        outputs = ",".join(f"P{level}" for level in self.outputs)
        return f"NeckGraph({self.name!r}: {inputs} -> {outputs}, {len(self.nodes)} nodes)"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.nodes, dict(self.outputs), self.aux, self.name)


def _rebuild(nodes: tuple[Node, ...], outputs: dict[int, str], aux: tuple[str, ...], name: str) -> NeckGraph:
    return NeckGraph(nodes, outputs=outputs, aux=aux, name=name)


def _by_name(nodes: Iterable[Node]) -> dict[str, Node]:
    table: dict[str, Node] = {}
    for node in nodes:
        if not isinstance(node, Node):
            raise GraphError(f"{node!r} is not a Node")
        if node.name in table:
            raise GraphError(f"two nodes are named {node.name!r}; names must be unique")
        table[node.name] = node
    if not table:
        raise GraphError("a neck needs at least one backbone feature and one output")
    levels = [node.level for node in table.values() if isinstance(node.op, Input)]
    if not levels:
        raise GraphError("no backbone feature: at least one node must have op 'input'")
    if len(set(levels)) < len(levels):
        raise GraphError(f"two backbone features lie on one level (levels {sorted(levels)})")  # type: ignore[type-var]
    return table


def _computable_order(nodes: tuple[Node, ...], table: Mapping[str, Node]) -> tuple[Node, ...]:
    """Sources before readers; among nodes that are free, the order given."""
    reads = nx.DiGraph()
    reads.add_nodes_from(table)
    for node in nodes:
        for edge in node.inputs:
            needed = [edge.source]
            needed += [to for op in edge.ops or () if (to := size_source(op)) is not None]
            for source in needed:
                if source not in table:
                    raise GraphError(
                        f"node {node.name!r} reads {source!r}, which does not exist (known: {', '.join(table)})"
                    )
                reads.add_edge(source, node.name)
        if node.shares is not None:
            if node.shares not in table:
                raise GraphError(f"node {node.name!r} shares the weights of {node.shares!r}, which does not exist")
            reads.add_edge(node.shares, node.name)
    place = {node.name: i for i, node in enumerate(nodes)}
    try:
        order = list(nx.lexicographical_topological_sort(reads, key=place.__getitem__))
    except nx.NetworkXUnfeasible:
        loop = [edge[0] for edge in nx.find_cycle(reads)]
        raise GraphError(f"the graph has a cycle: {' -> '.join([*loop, loop[0]])}") from None
    return tuple(table[name] for name in order)


def _resolve_edges(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Give every edge that states no ops its default, so that nothing is implied from here on."""
    first_on_level: dict[int, str] = {}
    done: dict[str, Node] = {}
    for node in nodes:
        if isinstance(node.op, Input) and node.level is not None:
            first_on_level[node.level] = node.name  # preferred: a backbone feature always has its size
    for node in nodes:
        if any(edge.ops is None for edge in node.inputs):
            edges = tuple(
                edge if edge.ops is not None else Edge(edge.source, _default_ops(edge, node, done, first_on_level))
                for edge in node.inputs
            )
            node = Node(node.name, node.level, node.op, edges, node.layers, node.width, node.shares)
        done[node.name] = node
        if node.level is not None:
            first_on_level.setdefault(node.level, node.name)
    return tuple(done.values())


def _default_ops(
    edge: Edge, node: Node, done: Mapping[str, Node], first_on_level: Mapping[int, str]
) -> tuple[Resample, ...]:
    source = done[edge.source].level
    if source is None or node.level is None or source == node.level:
        return ()
    to = first_on_level.get(node.level)
    if to is None and source > node.level:
        raise GraphError(
            f"node {node.name!r}: nothing on level {node.level} tells the size that {edge.source!r} "
            f"(level {source}) should get; give the backbone feature of level {node.level}"
        )
    return (Resample("auto", to=to),)


def _check_outputs(outputs: Mapping[int, str], table: Mapping[str, Node]) -> dict[int, str]:
    if not isinstance(outputs, Mapping):
        raise GraphError(f"outputs={outputs!r}: a mapping {{level: node name}} is wanted")
    if not outputs:
        raise GraphError("no outputs: give outputs={level: node name}")
    for level, name in outputs.items():
        if name not in table:
            raise GraphError(f"output P{level} is {name!r}, which does not exist (known: {', '.join(table)})")
        if table[name].level != level:
            raise GraphError(f"output P{level} is node {name!r}, which lies on level {table[name].level}")
    return {level: outputs[level] for level in sorted(outputs)}


def _check_aux(aux: Iterable[str], table: Mapping[str, Node]) -> tuple[str, ...]:
    if isinstance(aux, str):
        raise GraphError(f"aux={aux!r}: a tuple of names is wanted, not one string")
    names = tuple(aux)
    for name in names:
        if not isinstance(name, str) or name not in table:
            raise GraphError(f"auxiliary output {name!r} does not exist (known: {', '.join(table)})")
    return names


def _check_sharing(node: Node, table: Mapping[str, Node]) -> None:
    if node.shares is None:
        return
    owner = table[node.shares]
    if owner.shares is not None:
        raise GraphError(f"node {node.name!r} shares with {owner.name!r}, which itself shares; name {owner.shares!r}")
    if not node.has_weights:
        raise GraphError(f"node {node.name!r} shares the weights of {owner.name!r} but has none")
    if _make(owner) != _make(node):
        raise GraphError(f"node {node.name!r} shares the weights of {owner.name!r}, but is made differently")


def _check_feature_widths(node: Node, levels: Set[int | None]) -> None:
    for width in node.widths:
        level = feature_level(width)
        if level is not None and level not in levels:
            raise GraphError(f"node {node.name!r}: width {width!r}, but the graph reads no feature C{level}")


def _make(node: Node) -> tuple[Any, ...]:
    """What must agree for two nodes to share weights; where an edge resamples to may differ."""
    edges = tuple(
        tuple(with_size_source(op, "anywhere") for op in e.ops or () if not isinstance(op, Resample))
        for e in node.inputs
    )
    return node.op, node.layers, node.width, edges


def _node_from_networkx(dag: nx.DiGraph, name: Any) -> Node:
    attrs = dag.nodes[name]
    if "level" not in attrs:
        raise GraphError(f"node {name!r} has no 'level' attribute (None for a map off the pyramid)")
    edges = list(dag.in_edges(name, data=True))
    positions = [data.get("position") for _, _, data in edges]
    if len(edges) > 1:
        if sorted(p for p in positions if isinstance(p, int)) != list(range(len(edges))):
            raise GraphError(
                f"node {name!r}: its {len(edges)} incoming edges need 'position' 0..{len(edges) - 1}, "
                f"each once, not {positions}"
            )
        edges.sort(key=lambda edge: edge[2]["position"])
    op = attrs.get("op", "sum" if edges else "input")
    inputs = tuple(Edge(source, data.get("ops")) for source, _, data in edges)
    layers, width = attrs.get("layers", ()), attrs.get("width", "channels")
    return Node(name, attrs["level"], op, inputs, layers, width, attrs.get("shares"))
