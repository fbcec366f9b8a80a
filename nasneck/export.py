"""A neck as one Python file that needs torch alone.

The file has the same submodules under the same names, so it loads the neck's state_dict, and the same
statements in the same order, so it gives the same bits.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from types import FunctionType

import torch
from torch import nn

from nasneck import functional
from nasneck.cells import FrozenBatchNorm2d, init_conv
from nasneck.containers import pack
from nasneck.errors import CompileError
from nasneck.lower import Lowering
from nasneck.neck import Neck

_PREFIX = f"{functional.__name__.replace('.', '_')}_"  # how torch.fx spells our functions
_HELPERS: dict[str, FunctionType] = {
    name: function
    for name, function in vars(functional).items()
    if isinstance(function, FunctionType) and function.__module__ == functional.__name__
}


def neck_source(neck: Neck, *, comment: str = "") -> str:
    """Return the source of a module ``Neck`` equal to ``neck``.

    Args:
        neck: What to export. Its weights are not part of the text; take its ``state_dict``.
        comment: Further lines for the docstring, for example where the neck comes from.

    Raises:
        CompileError: a neck with a module that nasneck did not put there, or in its inference form.
    """
    if neck.for_inference:
        raise CompileError("the inference form of a neck cannot be written; export the neck that it was made of")
    if neck.aux_outputs:
        raise CompileError("a neck with auxiliary outputs is for training; export one compiled without aux")
    forward, helpers = _forward_source(neck)
    sections = [
        _docstring(neck, comment),
        _IMPORTS,
        *(_function_source(helpers[name]) for name in sorted(helpers)),
        _rename(inspect.getsource(init_conv), {"init_conv"}),
        _rename(inspect.getsource(pack), {"pack"}),
    ]
    if any(isinstance(module, FrozenBatchNorm2d) for module in neck.modules()):
        sections.append(inspect.getsource(FrozenBatchNorm2d))
    sections += [_body_class(neck, forward), _neck_class(neck)]
    return "\n\n\n".join(section.strip("\n") for section in sections) + "\n"


def _docstring(neck: Neck, comment: str) -> str:
    widths = ", ".join(f"C{level} {width}" for level, width in neck.in_channels.items())
    outputs = ", ".join(f"P{level} {width}" for level, width in neck.out_channels.items())
    more = f"\n{_plain(comment)}\n" if comment else ""
    return f'''"""Neck {_plain(neck.graph.name)!r}, written by nasneck. Needs torch alone.

Inputs: {widths} channels, finest first, as a list, tuple or ordered mapping.
Outputs: {outputs} channels, in a container of the same kind.
Graph key: {neck.graph.key()}
{more}
    neck = Neck()
    neck.load_state_dict(torch.load("weights.pt", weights_only=True))
"""'''


def _plain(text: str) -> str:
    """``text`` without what could end or bend the docstring it goes into."""
    return " ".join(text.split()).replace("\\", "/").replace('"', "'")


_IMPORTS = """from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn"""


def _forward_source(neck: Neck) -> tuple[str, dict[str, FunctionType]]:
    """The text of ``forward`` and the functions it calls, directly or not."""
    source = neck.body.graph.python_code(root_module="self").src.strip("\n")
    names = set(re.findall(rf"\b{_PREFIX}(\w+)\(", source))
    needed: dict[str, FunctionType] = {}
    while names:
        name = names.pop()
        needed[name] = _HELPERS[name]
        inner = re.findall(r"(?<![\w.])(\w+)\(", inspect.getsource(_HELPERS[name]))
        names |= {found for found in inner if found in _HELPERS} - set(needed)
    return source.replace(_PREFIX, "_").replace("torch.nn.functional.", "F."), needed


def _function_source(function: FunctionType) -> str:
    return _rename(inspect.getsource(function), _HELPERS)


def _rename(source: str, names: Iterable[str]) -> str:
    """Give the functions ``names`` an underscore, since the generated code has variables of these names."""
    for name in names:
        source = re.sub(rf"(?<![\w.`])({name})\(", r"_\1(", source)
    return source


def _body_class(neck: Neck, forward: str) -> str:
    inits = _inits(neck)
    lines = ["class _Body(nn.Module):", "    def __init__(self) -> None:", "        super().__init__()"]
    made: set[str] = set()
    for path, made_by in sorted(_parts(neck).items()):
        parents = path.split(".")[:-1]
        for depth in range(1, len(parents) + 1):
            parent = ".".join(parents[:depth])
            if parent not in made:
                lines.append(f"        self.{parent} = nn.Module()")
                made.add(parent)
        value = f'_init_conv({made_by}, "{inits[path]}")' if path in inits else made_by
        lines.append(f"        self.{path} = {value}")
    return "\n".join([*lines, "", *(f"    {line}".rstrip() for line in forward.splitlines())])


def _parts(neck: Neck) -> dict[str, str]:
    """Path -> constructor of every module and bare parameter."""
    parts: dict[str, str] = {}
    for path, module in neck.body.named_modules():
        if type(module) is nn.Module or module is neck.body:
            for name, parameter in module.named_parameters(recurse=False):
                parts[f"{path}.{name}"] = f"nn.Parameter(torch.ones({parameter.numel()}))"
        else:
            parts[path] = _constructor(module, path)
    return parts


def _constructor(module: nn.Module, path: str) -> str:
    sources: dict[type, Callable[..., str]] = {
        nn.Conv2d: _conv_source,
        nn.BatchNorm2d: lambda m: f"nn.BatchNorm2d({m.num_features}, eps={m.eps}, momentum={m.momentum})",
        nn.GroupNorm: lambda m: f"nn.GroupNorm({m.num_groups}, {m.num_channels}, eps={m.eps})",
        FrozenBatchNorm2d: lambda m: f"FrozenBatchNorm2d({m.num_features}, eps={m.eps})",
    }
    if type(module) not in sources:
        raise CompileError(f"cannot export {path!r}: a compiled neck has no {type(module).__name__}")
    return sources[type(module)](module)


def _conv_source(conv: nn.Conv2d) -> str:
    text = f"nn.Conv2d({conv.in_channels}, {conv.out_channels}, {conv.kernel_size[0]}"
    options = {"stride": conv.stride[0], "padding": conv.padding[0], "dilation": conv.dilation[0]}
    defaults = {"stride": 1, "padding": 0, "dilation": 1}
    for name, value in options.items():
        text += f", {name}={value}" if value != defaults[name] else ""
    text += f", groups={conv.groups}" if conv.groups != 1 else ""
    return text + (")" if conv.bias is not None else ", bias=False)")


def _inits(neck: Neck) -> dict[str, str]:
    """How the weights of each convolution are drawn: the graph is lowered once more, without memory."""
    with torch.device("meta"):
        lowering = Lowering(
            neck.graph, neck.in_channels, neck.channels, norm="batch", norm_momentum=None, optimize=True
        )
        lowering.lower(neck.graph.outputs.values())
    return dict(lowering.inits)


def _neck_class(neck: Neck) -> str:
    return f'''class Neck(nn.Module):
    """The neck, with the widths by level and the number that image sides must be divisible by."""

    in_channels = {neck.in_channels}
    out_channels = {neck.out_channels}
    out_names = {neck.out_names}
    size_divisor = {neck.size_divisor}

    def __init__(self) -> None:
        super().__init__()
        self.body = _Body()

    def forward(self, features: Sequence[Tensor] | Mapping[Any, Tensor]) -> Any:
        maps = features.values() if isinstance(features, Mapping) else features
        return _pack(features, self.body(*maps), tuple(self.in_channels), self.out_names)'''
