"""The shared weights of a supernet: one set of modules that candidates of the NAS-FPN space are put together from.

A candidate of one repeat has weights in three places: the head, the laterals (a 1x1 convolution and a norm for each
level of the backbone; the levels above are pooled) and, in each cell, the convolution and the norm after the fusion.
Resampling, sums and attention have none. Head and laterals are the same for all; which cells share is the question:

    cell            cells with the same place in the order of building
    node            output cells of one level, whatever their place; intermediate cells by their place
    cell_level      the same place and the same level
    cell_level_op   and the same fusion
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from nasneck import NeckGraph, compile_neck
from nasneck.proxy import ProxyTask
from nasneck.proxy.candidate import Candidate, build_candidate

Key = tuple[int | str, ...]
SHARINGS: dict[str, Callable[[int, str, int, str], Key]] = {
    "cell": lambda place, name, level, op: (place,),
    "node": lambda place, name, level, op: (name,),
    "cell_level": lambda place, name, level, op: (place, level),
    "cell_level_op": lambda place, name, level, op: (place, level, op),
}
"""From place, node's name, level and fusion of a cell to what tells its weights from others."""


def cells(graph: NeckGraph) -> list[tuple[int, str, int, str]]:
    """Place, node's name, level and fusion of each cell, in the order of building.

    The fusion is the cell's own: where it sums loose maps besides, that is of the node before.
    """
    ops = {node.name: type(node.op).__name__ for node in graph.nodes}
    nodes = [node for node in graph.nodes if node.layers]
    return [(i, n.name, n.level, ops.get(f"{n.name}_merge", ops[n.name])) for i, n in enumerate(nodes)]


def own_candidate(task: ProxyTask, graph: NeckGraph, seed: int) -> Candidate:
    """A candidate with weights of its own, drawn as the proxy task draws them."""
    return build_candidate(
        graph,
        config=task.config,
        neck=task.neck,
        in_channels=task.in_channels,
        num_classes=len(task.data.classes),
        seed=seed,
        device=task.device,
        amp=task.amp,
    )


class SharedWeights:
    """Modules by key.

    Args:
        task: The setting.
        first: Candidate whose head and laterals these are from now on. A cell that is asked for the first time starts
            as a copy of the one of ``first`` with that place (sharing ``node``: with that name).
        sharing: One of :data:`SHARINGS`.
    """

    def __init__(self, task: ProxyTask, first: Candidate, sharing: str) -> None:
        self.sharing = sharing
        self._task = task
        self._first = first
        self._key = SHARINGS[sharing]
        body = first.neck.body
        own = cells(first.neck.graph)
        by = 1 if sharing == "node" else 0
        self._patterns = {cell[by]: copy.deepcopy(body.get_submodule(cell[1])) for cell in own}
        self._by = by
        names = {name for _, name, _, _ in own}
        self._laterals = {name: child for name, child in body.named_children() if name not in names}
        self._cells: dict[Key, nn.Module] = {}

    @property
    def modules(self) -> list[nn.Module]:
        """All that was asked for so far, each once: head, laterals, cells."""
        return [self._first.detector.head, *self._laterals.values(), *self._cells.values()]

    def of(self, graph: NeckGraph) -> dict[str, nn.Module]:
        """The cells of a graph by node."""
        found = {}
        for cell in cells(graph):
            key = self._key(*cell)
            if key not in self._cells:
                self._cells[key] = copy.deepcopy(self._patterns[cell[self._by]])
            found[cell[1]] = self._cells[key]
        return found

    def path(self, graph: NeckGraph) -> Candidate:
        """The candidate made of the shared modules themselves: what trains it trains them."""
        neck = self._task.neck
        with torch.device("meta"):  # its own weights are not drawn, since they are replaced
            module = compile_neck(
                graph,
                self._task.in_channels,
                neck.channels,
                norm=neck.norm,
                norm_momentum=neck.norm_momentum or None,
            )
        for name, shared in {**self._laterals, **self.of(graph)}.items():
            setattr(module.body, name, shared)
        return replace(self._first, neck=module)

    def copy_of(self, graph: NeckGraph, seed: int, *, with_cells: bool = True) -> Candidate:
        """A candidate of its own with the values of the shared weights.

        Args:
            graph: The candidate.
            seed: Of the cells, where they are not taken.
            with_cells: False takes head and laterals alone.
        """
        found = own_candidate(self._task, graph, seed)
        found.detector.head.load_state_dict(self._first.detector.head.state_dict())
        for name, shared in {**self._laterals, **(self.of(graph) if with_cells else {})}.items():
            found.neck.body.get_submodule(name).load_state_dict(shared.state_dict())
        return found
