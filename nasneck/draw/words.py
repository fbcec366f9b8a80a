"""Short words for fusions, layers and what happens on edges, the same in drawings and in text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from nasneck.graph import (
    Act,
    AdaptivePool,
    Attention,
    Conv,
    Fusion,
    GlobalPool,
    Input,
    NeckGraph,
    Node,
    Norm,
    Op,
    PixelWeighted,
    Pool,
    Project,
    Resample,
)
from nasneck.graph import Gate as GateFusion
from nasneck.graph.fusion import FUSIONS, gate_index
from nasneck.graph.liveness import read_nodes
from nasneck.graph.width import Width

Direction = Literal["same", "up", "down", "off"]
Mark = Literal["conv1x1", "conv", "pool", "other"]
_FUSION_NAMES: dict[type, str] = {cls: name for name, cls in FUSIONS.items()}


@dataclass(frozen=True, slots=True)
class Step:
    """One op of an edge in words.

    Args:
        text: Short form; empty where nothing changes.
        mark: What glyph it gets on a drawn edge; None for a plain change of size, which the edge's colour
            tells.
    """

    text: str
    mark: Mark | None = None


def fusion_name(op: Fusion) -> str:
    """Name of the fusion as in JSON."""
    return _FUSION_NAMES[type(op)]


def fusion_words(op: Fusion) -> str:
    """Name of the fusion with the settings that tell it from its kin."""
    if isinstance(op, Attention):
        return f"attention ({op.gate} input gates, global {op.pool} pool)"
    if isinstance(op, PixelWeighted):
        return f"pixel_weighted ({op.normalize})"
    if isinstance(op, GateFusion) and op.complement:
        return "gate (complement)"
    return fusion_name(op)


def gate_position(node: Node, graph: NeckGraph) -> int | None:
    """Position of the input of ``node`` that gates another one."""
    if isinstance(node.op, Attention):
        first, second = (graph[edge.source].level for edge in node.inputs)
        return gate_index(node.op, (first, second))
    return 1 if isinstance(node.op, GateFusion) else None


def is_pass_through(node: Node) -> bool:
    """Whether ``node`` has one input and so nothing to fuse."""
    return len(node.inputs) == 1


def level_name(level: int | None) -> str:
    """``P4``, or ``off`` for a map off the pyramid."""
    return "off" if level is None else f"P{level}"


def layer_words(layers: Iterable[Op], width: Width = "channels") -> str:
    """The layers after a fusion, in order, such as ``relu, conv3x3, norm``."""
    return ", ".join(op_words(layer, width) for layer in layers)


def op_words(op: Op, width: Width = "channels") -> str:
    """One op, such as ``sepconv3x3``; a resample needs levels and is left to :func:`edge_steps`."""
    match op:
        case Norm():
            return f"{op.kind}norm" if op.kind else "norm"
        case Act():
            return op.kind
        case Conv():
            return _conv_words(op) + _width_words(op.width, width)
        case Project():
            plain = op.norm is None and op.when == "always"
            return ("conv1x1" if plain else "project") + _width_words(op.width, width)
        case Pool():
            return f"{op.mode}pool{op.kernel}x{op.kernel}{_stride_words(op.stride)}"
        case AdaptivePool():
            return f"{op.mode}pool*{op.ratio:g}"
        case GlobalPool():
            return f"global{op.mode}"
        case Resample():
            return "resample" if op.mode == "auto" else op.mode
        case _:
            return "se"


def project_notes(graph: NeckGraph) -> list[str]:
    """What ``project`` stands for in the words of ``graph``, one line for each kind that occurs."""
    notes: dict[str, None] = {}
    for op in (op for node in graph.nodes for edge in node.inputs for op in edge.ops or ()):
        if isinstance(op, Project) and op.when != "never" and op_words(op).startswith("project"):
            norm = "1x1 convolution and norm" if op.norm is not None else "1x1 convolution"
            notes[f"{norm}, only where the width changes" if op.when == "if_different" else norm] = None
    return [f"project: {note}" for note in notes]


def edge_steps(node: Node, position: int, graph: NeckGraph) -> list[Step]:
    """What happens on input ``position`` of ``node``, in order, without resamples that change nothing."""
    edge = node.inputs[position]
    at = graph[edge.source].level
    steps: list[Step] = []
    for op in edge.ops or ():
        if isinstance(op, Resample):
            to = node.level if op.to is None else graph[op.to].level
            if to != at or to is None:
                steps.append(Step(_resample_words(op, at, to)))
            at = to
            continue
        if isinstance(op, Project) and op.when == "never":
            continue
        steps.append(Step(op_words(op, node.width), _mark(op)))
        if isinstance(op, AdaptivePool | GlobalPool):
            at = None
        elif isinstance(op, Conv) and op.padding == "valid":
            at = node.level
        elif isinstance(op, Conv | Pool) and at is not None:
            at += op.stride.bit_length() - 1
    return steps


def direction(node: Node, position: int, graph: NeckGraph) -> Direction:
    """Whether input ``position`` of ``node`` comes from a coarser level (``up``), a finer one, or neither."""
    source = graph[node.inputs[position].source].level
    if source is None or node.level is None:
        return "off"
    if source == node.level:
        return "same"
    return "up" if source > node.level else "down"


def input_expression(node: Node, position: int, graph: NeckGraph) -> str:
    """Input ``position`` of ``node`` as nested calls, such as ``maxpool3x3/2(conv1x1(c5))``."""
    text = node.inputs[position].source
    for step in edge_steps(node, position, graph):
        text = f"{step.text}({text})"
    return text


def _resample_words(op: Resample, at: int | None, to: int | None) -> str:
    if at is None or to is None:
        return f"{op.mode}_resize" if op.mode != "auto" else "resize"
    octaves = at - to
    factor = 2 ** abs(octaves)
    if octaves > 0:
        return f"bilinear_up{factor}" if op.mode == "bilinear" else f"up{factor}"
    return f"down{factor}" if op.mode == "auto" else f"{op.mode}_down{factor}"


def _conv_words(op: Conv) -> str:
    kind = "sepconv" if op.separable else "dwconv" if op.groups == "depthwise" else "conv"
    groups = f"g{op.groups}" if isinstance(op.groups, int) and op.groups > 1 else ""
    dilation = f"d{op.dilation}" if op.dilation > 1 else ""
    valid = "v" if op.padding == "valid" and op.kernel > 1 else ""
    return f"{kind}{op.kernel}x{op.kernel}{dilation}{groups}{valid}{_stride_words(op.stride)}"


def _stride_words(stride: int) -> str:
    return f"/{stride}" if stride > 1 else ""


def _width_words(width: Width | None, of_node: Width) -> str:
    return "" if width is None or width == of_node else f"[{width}]"


def _mark(op: Op) -> Mark:
    if isinstance(op, Project) or (isinstance(op, Conv) and op.kernel == 1 and op.stride == 1):
        return "conv1x1"
    if isinstance(op, Conv):
        return "conv"
    return "pool" if isinstance(op, Pool | AdaptivePool | GlobalPool) else "other"


def is_input(node: Node) -> bool:
    """Whether ``node`` is a backbone feature."""
    return isinstance(node.op, Input)


def live_nodes(graph: NeckGraph) -> set[str]:
    """Names of the nodes that some output, auxiliary ones included, is computed from."""
    return read_nodes(graph, [*graph.outputs.values(), *graph.aux])


def summary(graph: NeckGraph) -> str:
    """Levels, size and key of ``graph`` in one line."""
    ends = f"C{_range(graph.input_levels)} -> P{_range(graph.output_levels)}"
    return f"{ends}, {len(graph)} nodes, key {graph.key()}"


def _range(levels: tuple[int, ...]) -> str:
    if len(levels) > 1 and levels == tuple(range(levels[0], levels[-1] + 1)):
        return f"{levels[0]}-{levels[-1]}"
    return ",".join(map(str, levels))
