"""How torch.fx reads generated neck code back when a neck is unpickled."""

from __future__ import annotations

import inspect

from torch import fx

from nasneck import functional


class NeckTracer(fx.Tracer):
    """Leaves the functions of ``nasneck.functional`` alone: some choose by size, which cannot be traced.

    Unpickling a ``GraphModule`` traces its code with the tracer class that its graph names.
    """

    def __init__(self) -> None:
        functions = [value for _, value in inspect.getmembers(functional, inspect.isfunction)]
        super().__init__(autowrap_functions=tuple(functions))
