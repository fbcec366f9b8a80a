"""Colours and symbols of drawings, one per fusion and per direction, told apart by shape as well."""

from __future__ import annotations

from dataclasses import dataclass

from nasneck.draw.words import Direction, is_input, is_pass_through, layer_words
from nasneck.graph import (
    Attention,
    Concat,
    FastNormalized,
    Fusion,
    Gate,
    Input,
    Max,
    Mean,
    Node,
    PixelWeighted,
    Softmax,
    Sum,
)
from nasneck.graph.fusion import has_weights as fusion_has_weights
from nasneck.graph.ops import Conv, has_weights

INK, MUTED = "#111827", "#6b7280"
ROW_FILL, BAND_LINE = "#f6f7f9", "#9ca3af"
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
INSET = 3.0  # of the inner frame of a block, in pixels
FADED = 0.35  # opacity of what no output reads
GATE_COLOUR = "#7c3aed"

_FUSIONS: dict[type[Fusion], tuple[str, str, str]] = {
    Input: ("#374151", "", "backbone feature"),
    Sum: ("#0f766e", "+", "sum"),
    Mean: ("#0369a1", "avg", "mean"),
    Max: ("#9f1239", "max", "maximum"),
    Concat: ("#be185d", "C", "concatenation"),
    Attention: (GATE_COLOUR, "GP", "global-pooling attention"),
    FastNormalized: ("#4d7c0f", "w+", "fast normalized sum, learned weights"),
    Softmax: ("#3f6212", "sm+", "softmax-weighted sum"),
    PixelWeighted: ("#a16207", "px+", "sum weighted per pixel"),
    Gate: ("#6d28d9", "×", "gate: one input times sigmoid of the other"),
}
PASS_COLOUR = "#64748b"

EDGE_COLOURS: dict[Direction, str] = {
    "same": "#6b7280",
    "up": "#1d4ed8",
    "down": "#c2410c",
    "off": "#7c3aed",
}
EDGE_DASHES: dict[Direction, str] = {"same": "", "up": "", "down": "6 3", "off": "2 3"}
EDGE_WORDS: dict[Direction, str] = {
    "same": "same level",
    "up": "to a finer level",
    "down": "to a coarser level",
    "off": "to or from a map off the pyramid",
}


@dataclass(frozen=True, slots=True)
class Look:
    """How a node is drawn: ``heavy`` ones hold layers or weights of their own."""

    colour: str
    symbol: str
    words: str
    heavy: bool


def look_of(node: Node) -> Look:
    """The look of ``node``."""
    heavy = fusion_has_weights(node.op) or any(has_weights(layer) for layer in node.layers)
    if is_input(node):
        return Look(_FUSIONS[Input][0], f"C{node.level}", _FUSIONS[Input][2], True)
    if is_pass_through(node):
        words = "one input, layers only" if node.layers else "one input, nothing to fuse"
        return Look(PASS_COLOUR, _main_layer(node), words, heavy)
    return Look(*_FUSIONS[type(node.op)], heavy)


def _main_layer(node: Node) -> str:
    kernels = [layer.kernel for layer in node.layers if isinstance(layer, Conv)]
    if kernels:
        return f"{max(kernels)}×{max(kernels)}"
    return layer_words(node.layers[:1]) or "="


def mixed(colour: str, share: float) -> str:
    """``share`` of ``colour`` on white, as a hex colour."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - share * (255 - part)):02x}" for part in parts)
