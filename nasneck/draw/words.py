"""Short words for fusions, layers and what happens on edges, the same in drawings and in text."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Literal

from nasneck.graph import (
    Act,
    AdaptivePool,
    Attention,
    Carafe,
    Conv,
    Fusion,
    GlobalPool,
    Input,
    NeckGraph,
    Node,
    NonLocal,
    Norm,
    Op,
    PixelWeighted,
    Pool,
    Project,
    Resample,
    SqueezeExcite,
)
from nasneck.graph import Gate as GateFusion
from nasneck.graph.fusion import FUSIONS, gate_index
from nasneck.graph.liveness import read_nodes
from nasneck.graph.ops import size_source
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
        plain: ``text`` without widths.
        joins: Whether it is a norm or an activation, which go with a convolution beside them.
    """

    text: str
    mark: Mark | None = None
    plain: str = ""
    joins: bool = False


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


def layer_words(layers: Iterable[Op], width: Width | None = "channels") -> str:
    """The layers after a fusion, in order, such as ``relu, conv3x3, norm``; ``width`` as for :func:`op_words`."""
    return ", ".join(op_words(layer, width) for layer in layers)


def op_words(op: Op, width: Width | None = "channels") -> str:
    """One op, such as ``sepconv3x3``; a resample needs levels and is left to :func:`edge_steps`.

    Args:
        op: The op.
        width: Of its node: another one is told, as in ``conv1x1[c4*0.5]``. None tells none.
    """
    match op:
        case Norm():
            return f"{op.kind}norm" if op.kind else "norm"
        case Act():
            return op.kind
        case Conv():
            return _conv_words(op) + _width_words(op.width, width)
        case Project():
            plain = op.norm is None and op.act is None and op.when == "always"
            return ("conv1x1" if plain else "project") + _width_words(op.width, width)
        case Pool():
            return f"{op.mode}pool{op.kernel}x{op.kernel}{_stride_words(op.stride)}"
        case AdaptivePool():
            return f"{op.mode}pool*{op.ratio:g}"
        case GlobalPool():
            return f"global{op.mode}"
        case Resample():
            return "resample" if op.mode == "auto" else op.mode
        case Carafe():
            return "carafe"
        case NonLocal():
            return "nonlocal"
        case SqueezeExcite():
            return "se"


def project_notes(graph: NeckGraph) -> list[str]:
    """What ``project`` stands for in the words of ``graph``, one line for each kind that occurs."""
    notes: dict[str, None] = {}
    for op in (op for node in graph.nodes for edge in node.inputs for op in edge.ops or ()):
        if isinstance(op, Project) and op.when != "never" and op_words(op).startswith("project"):
            unit = " + ".join(["conv1x1", *(op_words(part) for part in (op.norm, op.act) if part is not None)])
            notes[f"{unit}, only where the width changes" if op.when == "if_different" else unit] = None
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
        if isinstance(op, Carafe):
            text = f"carafe_up{2 ** ((at or 0) - (graph[op.to].level or 0))}"
            steps.append(Step(text, "other", text))
            at = graph[op.to].level
            continue
        steps.append(Step(op_words(op, node.width), _mark(op), op_words(op, None), isinstance(op, Norm | Act)))
        if isinstance(op, AdaptivePool | GlobalPool):
            at = None
        elif isinstance(op, Conv) and op.padding == "valid":
            at = node.level
        elif isinstance(op, Conv | Pool) and at is not None:
            at += op.stride.bit_length() - 1
    return steps


def edge_units(node: Node, position: int, graph: NeckGraph) -> list[Step]:
    """What gets a glyph on a drawn edge: a convolution with the norms and activations beside it is one."""
    units: list[Step] = []
    waiting: list[str] = []  # norms and activations in front of a convolution
    open_ = False  # whether what comes next may join the last unit
    for step in edge_steps(node, position, graph):
        if step.joins and open_:
            last = units[-1]
            units[-1] = Step(f"{last.text}, {step.text}", last.mark, f"{last.plain}, {step.plain}")
        elif step.joins:
            waiting.append(step.text)
        elif step.mark is not None:
            before, open_ = waiting, step.mark in ("conv1x1", "conv")
            if before and not open_:
                units.append(_alone(before))
                before = []
            units.append(Step(", ".join([*before, step.text]), step.mark, ", ".join([*before, step.plain])))
            waiting = []
        else:
            open_ = False
    return [*units, _alone(waiting)] if waiting else units


def _alone(texts: Iterable[str]) -> Step:
    text = ", ".join(texts)
    return Step(text, "other", text)


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
        return f"up{factor}" if op.mode in ("auto", "nearest") else f"{op.mode}_up{factor}"
    return f"down{factor}" if op.mode == "auto" else f"{op.mode}_down{factor}"


def _conv_words(op: Conv) -> str:
    # one group per channel: of those that come in, or of those that go out
    kind = {"depthwise": "dwconv", "output": "grpconv"}.get(str(op.groups), "sepconv" if op.separable else "conv")
    groups = f"g{op.groups}" if isinstance(op.groups, int) and op.groups > 1 else ""
    dilation = f"d{op.dilation}" if op.dilation > 1 else ""
    valid = "_valid" if op.padding == "valid" and op.kernel > 1 else ""
    return f"{kind}{op.kernel}x{op.kernel}{dilation}{groups}{_stride_words(op.stride)}{valid}"


def _stride_words(stride: int) -> str:
    return f"/{stride}" if stride > 1 else ""


def _width_words(width: Width | None, of_node: Width | None) -> str:
    return "" if width is None or of_node is None or width == of_node else f"[{width}]"


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


def sized_nodes(graph: NeckGraph) -> set[str]:
    """Names of the nodes that no output is computed from, but whose size is taken."""
    live = live_nodes(graph)
    ops = (op for node in graph.nodes if node.name in live for edge in node.inputs for op in edge.ops or ())
    return read_nodes(graph, {to for op in ops if (to := size_source(op)) is not None}) - live


def unread_words(name: str, live: Set[str], sized: Set[str]) -> str:
    """What to say of node ``name`` if no output is computed from it; empty for others."""
    return "" if name in live else "only its size is read" if name in sized else "no output reads it"


def summary(graph: NeckGraph) -> str:
    """Levels, size and key of ``graph`` in one line."""
    return f"{levels_words(graph)}, {len(graph)} nodes, key {graph.key()}"


def levels_words(graph: NeckGraph) -> str:
    """Levels that ``graph`` reads and gives, such as ``C3-5 -> P3-7``."""
    return f"C{_range(graph.input_levels)} -> P{_range(graph.output_levels)}"


def _range(levels: tuple[int, ...]) -> str:
    if len(levels) > 1 and levels == tuple(range(levels[0], levels[-1] + 1)):
        return f"{levels[0]}-{levels[-1]}"
    return ",".join(map(str, levels))
