"""How torch.fx reads generated neck code back when a neck is unpickled."""

from __future__ import annotations

import inspect

from torch import fx

from nasneck import functional, fused


class NeckTracer(fx.Tracer):
    """Leaves the functions of ``nasneck.functional`` and ``fused`` alone: some choose by size, not to be traced.

    Unpickling a ``GraphModule`` traces its code with the tracer class that its graph names.
    """

    def __init__(self) -> None:
        modules = (functional, fused)
        functions = [value for module in modules for _, value in inspect.getmembers(module, inspect.isfunction)]
        super().__init__(autowrap_functions=tuple(functions))
