"""How torch.fx reads generated neck code back when a neck is unpickled."""

from __future__ import annotations

import inspect

from torch import fx, nn

from nasneck import convs, functional, fused
from nasneck.bind import Weights


class NeckTracer(fx.Tracer):
    """Leaves the functions of ``nasneck.functional``, ``fused`` and ``convs`` alone, some of which choose by size.

    Unpickling a ``GraphModule`` traces its code with the tracer class that its graph names.
    """

    def __init__(self) -> None:
        modules = (functional, fused, convs)
        functions = [value for module in modules for _, value in inspect.getmembers(module, inspect.isfunction)]
        super().__init__(autowrap_functions=tuple(functions))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether it is called as it is."""
        return isinstance(m, Weights) or super().is_leaf_module(m, module_qualified_name)
