"""Emitting torch.fx code: calls, each made once per set of arguments, and modules, each made once per path."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from nasneck.errors import CompileError
from nasneck.graph.ops import Init
from nasneck.trace import NeckTracer


@dataclass(frozen=True, slots=True)
class Value:
    """A map in the generated code and its width in channels."""

    node: fx.Node
    width: int


class Scope:
    """Names for the modules of a node or an edge; a second one of a kind gets the suffix ``_2``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._taken: set[str] = set()

    def name(self, wanted: str) -> str:
        free, count = wanted, 1
        while free in self._taken:
            count += 1
            free = f"{wanted}_{count}"
        self._taken.add(free)
        return f"{self.path}.{free}"


class Emitter:
    """Code in the making and the modules that it calls.

    Args:
        optimize: Whether equal calls are made once.

    Attributes:
        code: The torch.fx graph so far.
        weights: Modules and parameters by path.
        inits: How the weights of convolutions are drawn, by path.
    """

    def __init__(self, *, optimize: bool) -> None:
        self.code = fx.Graph(tracer_cls=NeckTracer)
        self.weights: dict[str, nn.Module | nn.Parameter] = {}
        self.inits: dict[str, Init] = {}
        self.optimize = optimize
        self._memo: dict[Hashable, fx.Node] = {}
        self._makes: dict[str, tuple[int, int, Any]] = {}

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Emit a call of a function without weights, once per set of arguments."""
        key = (function, args, tuple(kwargs.items()))
        if not self.optimize or key not in self._memo:
            self._memo[key] = self.code.call_function(function, args, kwargs)
        return self._memo[key]

    def module(self, path: str, make: Callable[..., nn.Module], value: Value, width: int, **options: Any) -> Value:
        """Emit a call of the module at ``path``, which is made unless a node that shares it has done so.

        Raises:
            CompileError: a shared module that was made for other widths.
        """
        made = (value.width, width, tuple(sorted(options.items(), key=lambda item: item[0])))
        if path not in self.weights:
            self.weights[path] = make(value.width, width, **options)
            if "init" in options:
                self.inits[path] = options["init"]
            self._makes[path] = made
        elif self._makes[path] != made:
            raise CompileError(
                f"it shares the weights {path!r}, which map {self._makes[path][0]} channels to "
                f"{self._makes[path][1]}, but needs {value.width} to {width}"
            )
        return Value(self.code.call_module(path, (value.node,)), width)

    def parameter(self, path: str, size: int) -> fx.Node:
        """Emit the parameter at ``path``: ``size`` ones, unless a node that shares it has made it."""
        if path not in self.weights:
            self.weights[path] = nn.Parameter(torch.ones(size))
        return self.code.get_attr(path)
