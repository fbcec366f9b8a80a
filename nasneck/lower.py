"""Lowering: every node of a graph becomes statements of torch.fx code and modules that hold its weights."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import fx, nn

from nasneck import functional
from nasneck.cells import NormKind, make_conv, make_norm
from nasneck.emit import Emitter, Scope, Value
from nasneck.errors import CompileError
from nasneck.graph import (
    Act,
    AdaptivePool,
    Attention,
    Carafe,
    Concat,
    Conv,
    Edge,
    FastNormalized,
    Gate,
    GlobalPool,
    Input,
    Max,
    Mean,
    NeckGraph,
    Node,
    NonLocal,
    Norm,
    Op,
    PixelWeighted,
    Pool,
    Project,
    Resample,
    Softmax,
    SqueezeExcite,
    Sum,
)
from nasneck.graph.fusion import gate_index
from nasneck.graph.width import Width, resolve_width
from nasneck.plan import distances_down, live_nodes, octaves_between

_ACTIVATIONS: dict[str, Callable[..., torch.Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "hard_sigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
}


# A module at a node's name would hide these.
_RESERVED = frozenset(dir(fx.GraphModule)) | {"F"} | {"training", "self"}


class Lowering(Emitter):
    """Turns the nodes of ``graph`` that are asked for into ``code``, with their modules in ``weights``."""

    def __init__(
        self,
        graph: NeckGraph,
        in_channels: Mapping[int, int],
        channels: int,
        *,
        norm: NormKind,
        norm_momentum: float | None,
        optimize: bool,
    ) -> None:
        super().__init__(optimize=optimize)
        self.graph = graph
        self._in_channels = in_channels
        self._channels = channels
        self._norm: NormKind = norm
        self._momentum = norm_momentum
        self._values: dict[str, Value] = {}
        self._named: set[fx.Node] = set()
        self._down: dict[str, set[int]] = {}
        self._sizes: dict[tuple[str, str], str] = {}

    def lower(self, names: Iterable[str]) -> list[Value]:
        """Emit everything that the nodes ``names`` need, and return their values."""
        names = list(names)
        nodes, self._sizes = live_nodes(self.graph, names)
        self._down = distances_down(self.graph, nodes)
        for level, name in self.graph.input_names.items():
            _check_name(name)
            self._values[name] = Value(self.code.placeholder(name), self._in_channels[level])
            self._named.add(self._values[name].node)
        for node in nodes:
            if not isinstance(node.op, Input):
                _check_name(node.name)
                try:
                    self._values[node.name] = self._node(node)
                except CompileError as error:
                    at = "off the pyramid" if node.level is None else f"level {node.level}"
                    raise CompileError(f"{self.graph.name}: node {node.name!r} ({at}): {error}") from None
        return [self._values[name] for name in names]

    # -- nodes and edges -----------------------------------------------------------------------------

    def _node(self, node: Node) -> Value:
        owner = self.graph[node.shares or node.name]
        scope = Scope(owner.name)
        edge_scopes = [Scope(scope.name(f"from_{edge.source}")) for edge in owner.inputs]
        maps = [self._edge(edge, node, at) for edge, at in zip(node.inputs, edge_scopes, strict=True)]
        value = self._fuse(node, maps, scope)
        for op in node.layers:
            value = self._apply(op, value, node, scope)
        if value.node not in self._named:
            value.node._rename(node.name)  # so that the generated code speaks of nodes by their names
        self._named.add(value.node)
        return value

    def _edge(self, edge: Edge, node: Node, scope: Scope) -> Value:
        value = self._values[edge.source]
        at = self.graph[edge.source].level
        for position, op in enumerate(edge.ops or ()):
            if isinstance(op, Carafe):
                value = self._carafe(op, value, at, node, scope)
                at = self.graph[op.to].level
            elif isinstance(op, Resample):
                steps = self._down.get(edge.source, set()) if position == 0 else set()
                value = Value(self._resample(op, value.node, at, node, steps), value.width)
                at = node.level if op.to is None else self.graph[op.to].level
            else:
                value = self._apply(op, value, node, scope)
                if isinstance(op, Conv | Pool) and at is not None:
                    at += op.stride.bit_length() - 1
        return value

    def _resample(self, op: Resample, x: fx.Node, at: int | None, node: Node, steps: set[int]) -> fx.Node:
        if op.to is None:
            return self.call(functional.halve, x, octaves_between(at, node.level))
        like = self._values[self._sizes[node.name, op.to]].node
        if op.mode == "bilinear":
            return self.call(functional.resize, x, like, "bilinear", op.align_corners)
        if op.mode == "nearest":
            return self.call(functional.resize, x, like, "nearest")
        if op.mode in ("max", "avg"):
            return self.call(functional.fit, x, like, op.mode)
        octaves = octaves_between(at, self.graph[op.to].level)
        if octaves < 0:
            return self.call(functional.upsample, x, like)
        if octaves == 0:
            return self.call(functional.resize, x, like, "nearest")
        if not self.optimize or len(steps) < 2:
            return self.call(functional.shrink, x, like, octaves)
        # Pooling in a chain is exact and shared with the map's other ways down.
        pooled, reached = x, 0
        for step in sorted(step for step in steps if step <= octaves):
            pooled, reached = self.call(functional.halve, pooled, step - reached), step
        return self.call(functional.pick_pooled, pooled, x, like)

    # -- fusion --------------------------------------------------------------------------------------

    def _fuse(self, node: Node, maps: list[Value], scope: Scope) -> Value:
        op, nodes = node.op, [value.node for value in maps]
        if isinstance(op, Concat):
            width = sum(value.width for value in maps)
            return Value(nodes[0] if len(nodes) == 1 else self.call(torch.cat, tuple(nodes), 1), width)
        if isinstance(op, Gate):
            _check_widths(node, maps, also={1})
            function = functional.gate_complement if op.complement else functional.gate
            return Value(self.call(function, *nodes), maps[0].width)
        _check_widths(node, maps)
        width = maps[0].width
        if isinstance(op, Sum):
            return Value(reduce(lambda a, b: self.call(operator.add, a, b), nodes), width)
        if isinstance(op, Mean | Max):
            return Value(self.call(functional.mean_of if isinstance(op, Mean) else functional.max_of, *nodes), width)
        if isinstance(op, Attention):
            return Value(self._attend(op, node, nodes), width)
        if isinstance(op, PixelWeighted):
            return self._weigh_pixels(op, node, maps, scope)
        weight = self.parameter(scope.name("fusion.weight"), len(maps))
        if isinstance(op, FastNormalized):
            return Value(self.call(functional.fast_normalized, weight, op.eps, *nodes), width)
        assert isinstance(op, Softmax)
        return Value(self.call(functional.softmax_weighted, weight, *nodes), width)

    def _attend(self, op: Attention, node: Node, maps: list[fx.Node]) -> fx.Node:
        first, second = (self.graph[edge.source].level for edge in node.inputs)
        gating = gate_index(op, (first, second))
        seen = maps[gating]
        if op.pool == "avg":
            context = self.call(functional.global_mean, seen)
        else:
            edge = node.inputs[gating]
            if self.optimize and self._loses_no_cell(edge, node):
                seen = self._values[edge.source].node  # its maximum is the same, and maps share it
            context = self.call(functional.global_max, seen)
        return self.call(functional.attend, maps[gating], maps[1 - gating], context)

    def _loses_no_cell(self, edge: Edge, node: Node) -> bool:
        """Whether all that happens on ``edge`` is nearest upsampling, or max pooling down."""
        if not edge.ops:
            return True
        auto = len(edge.ops) == 1 and isinstance(edge.ops[0], Resample) and edge.ops[0].mode == "auto"
        # Between maps of one level nearest may leave cells out, if a stride has made their sizes differ.
        return auto and self.graph[edge.source].level != node.level

    def _weigh_pixels(self, op: PixelWeighted, node: Node, maps: list[Value], scope: Scope) -> Value:
        parts = maps
        if op.squeeze is not None:
            parts = []
            for i, value in enumerate(maps):
                part = Scope(scope.name(f"fusion.squeeze{i}"))
                value = self._conv(Conv(1, bias=False, width=op.squeeze), value, node, part)
                value = self._apply(Norm(), value, node, part)
                parts.append(self._apply(Act("leaky_relu", 0.1), value, node, part))
        joined = Value(self.call(torch.cat, tuple(part.node for part in parts), 1), sum(part.width for part in parts))
        if op.hidden is not None:
            joined = self._conv(Conv(1, width=op.hidden), joined, node, Scope(scope.name("fusion.hidden")))
            joined = self._apply(Act("relu"), joined, node, scope)
        logits = self._conv(Conv(op.kernel, width=len(maps)), joined, node, Scope(scope.name("fusion.logits")))
        function = functional.pixel_softmax if op.normalize == "softmax" else functional.pixel_sigmoid
        return Value(self.call(function, logits.node, *(value.node for value in maps)), maps[0].width)

    # -- ops -----------------------------------------------------------------------------------------

    def _apply(self, op: Op, value: Value, node: Node, scope: Scope) -> Value:
        if isinstance(op, Conv):
            return self._conv(op, value, node, scope)
        if isinstance(op, Norm):
            return self._norm_layer(op, value, scope)
        if isinstance(op, Project):
            return self._project(op, value, node, scope)
        if isinstance(op, SqueezeExcite):
            return self._squeeze_excite(op, value, node, scope)
        if isinstance(op, NonLocal):
            return self._non_local(op, value, scope)
        return Value(self._weightless(op, value.node), value.width)

    def _weightless(self, op: Op, x: fx.Node) -> fx.Node:
        if isinstance(op, Act):
            if op.kind == "leaky_relu":
                return self.call(F.leaky_relu, x, op.slope)
            return self.call(_ACTIVATIONS[op.kind], x)
        if isinstance(op, GlobalPool):
            return self.call(functional.global_max if op.mode == "max" else functional.global_mean, x)
        if isinstance(op, AdaptivePool):
            return self.call(functional.adaptive_pool, x, op.ratio, op.mode)
        assert isinstance(op, Pool)
        if op.padding == "same":
            return self.call(functional.pool_same, x, op.mode, op.kernel, op.stride)
        if op.mode == "max":
            return self.call(F.max_pool2d, x, op.kernel, op.stride, op.padding, ceil_mode=op.ceil)
        return self.call(F.avg_pool2d, x, op.kernel, op.stride, op.padding, op.ceil, False)

    def _conv(self, op: Conv, value: Value, node: Node, scope: Scope) -> Value:
        width = self._width(op.width if op.width is not None else node.width, value)
        padding = op.dilation * (op.kernel // 2) if op.padding == "same" else 0
        if op.padding == "same_tf":
            reach = op.dilation * (op.kernel - 1) + 1
            value = Value(self.call(functional.pad_same, value.node, reach, op.stride), value.width)
        window = {"kernel": op.kernel, "stride": op.stride, "padding": padding, "dilation": op.dilation}
        name = scope.name("conv")
        if op.separable:
            value = self.module(
                f"{name}.depthwise",
                make_conv,
                value,
                value.width,
                groups=value.width,
                bias=False,
                init=op.init,
                **window,
            )
            return self.module(f"{name}.pointwise", make_conv, value, width, kernel=1, bias=op.bias, init=op.init)
        per_channel = {"depthwise": value.width, "output": width}
        groups = op.groups if isinstance(op.groups, int) else per_channel[op.groups]
        return self.module(name, make_conv, value, width, groups=groups, bias=op.bias, init=op.init, **window)

    def _project(self, op: Project, value: Value, node: Node, scope: Scope) -> Value:
        width = self._width(op.width if op.width is not None else node.width, value)
        if op.when == "never" or (op.when == "if_different" and width == value.width):
            return value
        value = self.module(scope.name("conv"), make_conv, value, width, kernel=1, bias=op.bias, init=op.init)
        if op.norm is not None:
            value = self._norm_layer(op.norm, value, scope)
        return value if op.act is None else self._apply(op.act, value, node, scope)

    def _norm_layer(self, op: Norm, value: Value, scope: Scope) -> Value:
        def make(_: int, width: int, *, slot: Norm) -> nn.Module:
            return make_norm(slot, width, kind=self._norm, momentum=self._momentum)

        return self.module(scope.name("norm"), make, value, value.width, slot=op)

    def _squeeze_excite(self, op: SqueezeExcite, value: Value, node: Node, scope: Scope) -> Value:
        name = scope.name("se")
        context = Value(self.call(functional.global_mean, value.node), value.width)
        hidden = self._width(op.hidden, value)
        context = self.module(f"{name}.reduce", make_conv, context, hidden, kernel=1, init="fan_in")
        context = self._apply(Act("relu"), context, node, scope)
        context = self.module(f"{name}.expand", make_conv, context, value.width, kernel=1, init="fan_in")
        return Value(self.call(functional.gate, value.node, context.node), value.width)

    def _non_local(self, op: NonLocal, value: Value, scope: Scope) -> Value:
        name = scope.name("non_local")
        hidden = self._width(op.hidden, value)
        theta, phi, g = (
            self.module(f"{name}.{part}", make_conv, value, hidden, kernel=1, init="fan_in").node
            for part in ("theta", "phi", "g")
        )
        found = Value(self.call(functional.attend_cells, theta, phi, g), hidden)
        found = self.module(f"{name}.out", make_conv, found, value.width, kernel=1, init="zero")
        return Value(self.call(operator.add, value.node, found.node), value.width)

    def _carafe(self, op: Carafe, value: Value, at: int | None, node: Node, scope: Scope) -> Value:
        name = scope.name("carafe")
        scale = 2 ** octaves_between(self.graph[op.to].level, at)
        inner = self.module(
            f"{name}.compress", make_conv, value, self._width(op.compressed, value), kernel=1, init="glorot"
        )
        weights = op.kernel**2 * scale**2
        padding = op.encoder // 2
        logits = self.module(
            f"{name}.encode", make_conv, inner, weights, kernel=op.encoder, padding=padding, init="small"
        )
        like = self._values[self._sizes[node.name, op.to]].node
        call = self.call(functional.reassemble, value.node, logits.node, like, op.kernel, scale)
        return Value(call, value.width)

    def _width(self, width: Width, value: Value) -> int:
        return resolve_width(width, channels=self._channels, given=value.width, features=self._in_channels)


def _check_widths(node: Node, maps: Sequence[Value], *, also: frozenset[int] | set[int] = frozenset()) -> None:
    widths = [value.width for value in maps]
    if any(width != widths[0] and width not in also for width in widths[1:]):
        listed = ", ".join(f"{e.source}: {w}" for e, w in zip(node.inputs, widths, strict=True))
        raise CompileError(f"its inputs have unequal widths ({listed} channels); project them to one width")


def _check_name(name: str) -> None:
    if name in _RESERVED or name.startswith(("_", "nasneck_")):
        raise CompileError(f"node {name!r}: torch modules use this name themselves; choose another")
