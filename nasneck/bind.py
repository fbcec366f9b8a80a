"""Convolutions of a neck's inference form as functions, of weights that are fetched at once.

Between the kernels of a neck Python's code is not in the caches, so that a module's call and each look-up of a
parameter take many times what they take in a loop: of one image of 256 px through 64 channels together 2 to 10 %.
"""

from __future__ import annotations

import operator
from typing import Any

from torch import Tensor, fx, nn

from nasneck import convs, fused


class Weights(nn.Module):
    """Parameters, which it returns when called. They are called after their paths, with slashes for dots."""

    def forward(self) -> tuple[Tensor, ...]:
        """All, in order of registration."""
        # Replicas of DataParallel keep them elsewhere.
        own: Any = self._parameters or self._former_parameters
        return tuple(own.values())


def bind(body: fx.GraphModule) -> None:
    """Let ``body`` call convolutions as functions and take their weights, and its own, from one ``Weights``."""
    own = dict(body.named_parameters(remove_duplicate=False))
    pool = _Pool(body, own)
    for node in list(body.graph.nodes):
        if node.op == "get_attr" and node.target in own:
            node.replace_all_uses_with(pool.take(str(node.target), before=node))
            body.graph.erase_node(node)
        elif node.op == "call_module" and node is not pool.node:
            conv = body.get_submodule(str(node.target))
            if type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
                weight = pool.take(f"{node.target}.weight", before=node)
                bias = None if conv.bias is None else pool.take(f"{node.target}.bias", before=node)
                of_feature = getattr(node.args[0], "target", None) is fused.enter
                node.target = convs.choose(conv, of_feature=of_feature)
                node.op = "call_function"
                node.args = (node.args[0], weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    for path in pool.taken:
        if "." not in path:  # nobody reads it there any more, and no unused module goes with it
            delattr(body, path)
    if not pool.taken:
        body.graph.erase_node(pool.node)


class _Pool:
    """The weights that have been taken so far, with the nodes that stand for them."""

    def __init__(self, body: fx.GraphModule, parameters: dict[str, nn.Parameter]) -> None:
        self._code = body.graph
        self._parameters = parameters
        self._weights = Weights()
        name = "weights"
        while hasattr(body, name):  # a node of the graph may be called so
            name += "_"
        body.add_module(name, self._weights)
        entry = next(node for node in self._code.nodes if node.op != "placeholder")
        with self._code.inserting_before(entry):
            self.node = self._code.call_module(name)
        self.taken: dict[str, fx.Node] = {}

    def take(self, path: str, *, before: fx.Node) -> fx.Node:
        """The node of the parameter at ``path``, made in front of its first reader."""
        if path not in self.taken:
            index = len(self.taken)
            self._weights.register_parameter(path.replace(".", "/"), self._parameters[path])
            with self._code.inserting_before(before):
                self.taken[path] = self._code.create_node(
                    "call_function", operator.getitem, (self.node, index), name=path.replace(".", "_")
                )
        return self.taken[path]
