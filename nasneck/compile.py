"""From a graph to a module: torch.fx code with one statement per op, and weights named after nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import fx

from nasneck.cells import NORM_KINDS, NormKind
from nasneck.errors import CompileError
from nasneck.graph import NeckGraph
from nasneck.lower import Lowering
from nasneck.neck import Neck
from nasneck.settings import did_you_mean


def compile_neck(
    graph: NeckGraph,
    in_channels: Mapping[int, int] | Sequence[int],
    channels: int = 256,
    *,
    norm: NormKind = "batch",
    norm_momentum: float | None = None,
    aux: bool = False,
    optimize: bool = True,
) -> Neck:
    """Make a module of ``graph``.

    Weights are drawn from torch's global generator.

    Args:
        graph: What to build.
        in_channels: Width of every backbone feature, by level or finest first.
        channels: Width of the neck.
        norm: What the norm slots of the graph become, unless a slot says it itself.
        norm_momentum: Share of a new batch in batch norm's running statistics, in place of the graph's. The
            published values (0.01 and less) suit long trainings; short ones need about 0.1.
        aux: Whether the auxiliary outputs are computed too; ``forward`` then returns (outputs, aux).
        optimize: Whether to make the savings that change no result: one resample per map and size, chained
            max pools, gates computed before resampling. False is for checking them.

    Returns:
        The neck. It takes the backbone features, finest first, as a list, tuple or ordered mapping.

    Raises:
        CompileError: widths that do not fit the graph.

    Example:
        >>> from nasneck import necks
        >>> neck = compile_neck(necks.fpn(), {3: 512, 4: 1024, 5: 2048}, channels=64)
        >>> neck.out_channels
        {3: 64, 4: 64, 5: 64, 6: 64, 7: 64}
    """
    widths = _check_in_channels(graph, in_channels)
    if type(channels) is not int or channels < 1:
        raise CompileError(f"channels={channels!r} is not a positive number")
    if norm not in NORM_KINDS:
        raise CompileError(f"unknown norm {norm!r}{did_you_mean(norm, NORM_KINDS)}")
    lowering = Lowering(graph, widths, channels, norm=norm, norm_momentum=norm_momentum, optimize=optimize)
    body, out_channels = _body(lowering, graph, aux=aux)
    return Neck(
        graph,
        body,
        in_channels=widths,
        out_channels=dict(zip(graph.output_levels, out_channels, strict=True)),
        channels=channels,
        norm=norm,
        aux=len(graph.aux) if aux else 0,
    )


def _body(lowering: Lowering, graph: NeckGraph, *, aux: bool) -> tuple[fx.GraphModule, list[int]]:
    outputs = list(graph.outputs.values())
    wanted = [*outputs, *(graph.aux if aux else ())]
    values = lowering.lower(wanted)
    code = lowering.code
    code.output(tuple(value.node for value in values))
    code.lint()
    return fx.GraphModule(lowering.weights, code, class_name="NeckBody"), [
        value.width for value in values[: len(outputs)]
    ]


def _check_in_channels(graph: NeckGraph, in_channels: Mapping[int, int] | Sequence[int]) -> dict[int, int]:
    levels = graph.input_levels
    wanted = ", ".join(f"C{level}" for level in levels)
    if not isinstance(in_channels, Mapping):
        if len(in_channels) != len(levels):
            raise CompileError(f"{graph.name}: in_channels has {len(in_channels)} widths; the graph reads {wanted}")
        in_channels = dict(zip(levels, in_channels, strict=True))
    if set(in_channels) != set(levels):
        given = ", ".join(f"C{level}" for level in sorted(in_channels))
        raise CompileError(f"{graph.name}: in_channels gives {given or 'nothing'}, but the graph reads {wanted}")
    for level, width in in_channels.items():
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise CompileError(f"{graph.name}: in_channels: C{level} has width {width!r}; a positive number is wanted")
    return {level: in_channels[level] for level in levels}
