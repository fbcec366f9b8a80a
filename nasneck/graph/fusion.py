"""Fusion: how a node joins its inputs, all of one size by then, into one map.

The inputs are x_1 .. x_n in the order of the node's edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nasneck.errors import GraphError
from nasneck.graph.fields import check_fields
from nasneck.graph.width import Width, check_width


@dataclass(frozen=True, slots=True)
class Input:
    """No fusion: the map is a backbone feature."""


@dataclass(frozen=True, slots=True)
class Sum:
    """x_1 + ... + x_n; with one input, that input."""


@dataclass(frozen=True, slots=True)
class Mean:
    """(x_1 + ... + x_n) / n."""


@dataclass(frozen=True, slots=True)
class Max:
    """Elementwise maximum."""


@dataclass(frozen=True, slots=True)
class Concat:
    """Channels side by side, in the order of the inputs; their widths add."""


@dataclass(frozen=True, slots=True)
class Attention:
    """Global-pooling attention of NAS-FPN: ``h + sigmoid(pool(h)) * l`` for two inputs.

    Args:
        gate: Which input is h: ``coarser`` is the one whose source lies on the coarser level, as in Google's
            code (tensorflow/tpu, nasfpn.py); ``finer`` is what mmcv's GlobalPoolingCell amounts to in the
            published network. Where the levels tie, the first input gates.
        pool: Global ``max`` (Google) or ``avg`` (mmcv) over space.
    """

    gate: Literal["coarser", "finer"] = "coarser"
    pool: Literal["max", "avg"] = "max"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class FastNormalized:
    """BiFPN's fast normalised fusion: sum of ``relu(w_i) / (eps + sum_j relu(w_j)) * x_i``, w from 1."""

    eps: float = 1e-4

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class Softmax:
    """Sum of ``softmax(w)_i * x_i`` with one scalar w_i per input, starting at 1."""


@dataclass(frozen=True, slots=True)
class PixelWeighted:
    """Sum of ``a_i * x_i`` where the maps a_i (one channel each) are computed from the inputs.

    Args:
        normalize: ``softmax`` over the inputs (ASFF), or ``sigmoid`` of each (AugFPN's adaptive spatial
            fusion).
        squeeze: Width of a 1x1 convolution, norm and leaky ReLU of each input before they are concatenated
            (ASFF: 16); None concatenates the inputs as they are (AugFPN).
        hidden: Width of a further 1x1 convolution and ReLU of the concatenation; None for none.
        kernel: Side of the last convolution, which gives one channel per input.
    """

    normalize: Literal["softmax", "sigmoid"] = "softmax"
    squeeze: int | None = 16
    hidden: Width | None = None
    kernel: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        for what, number in (("squeeze", self.squeeze), ("kernel", self.kernel)):
            if number is not None and (number < 1 or (what == "kernel" and number % 2 == 0)):
                raise GraphError(f"pixel weighted: {what} {number} is not a positive number, odd for a kernel")
        if self.hidden is not None:
            check_width(self.hidden)


@dataclass(frozen=True, slots=True)
class Gate:
    """``x_1 * sigmoid(x_2)``, or with ``complement`` ``x_1 * (1 - sigmoid(x_2))``; x_2 may broadcast."""

    complement: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


Fusion = Input | Sum | Mean | Max | Concat | Attention | FastNormalized | Softmax | PixelWeighted | Gate

FUSIONS: dict[str, type[Fusion]] = {
    "input": Input,
    "sum": Sum,
    "mean": Mean,
    "max": Max,
    "concat": Concat,
    "attention": Attention,
    "fast_normalized": FastNormalized,
    "softmax": Softmax,
    "pixel_weighted": PixelWeighted,
    "gate": Gate,
}

# Fusions of exactly two inputs; the others take any positive number.
BINARY = (Attention, Gate)


def has_weights(fusion: Fusion) -> bool:
    """Whether ``fusion`` holds parameters of its own."""
    return isinstance(fusion, FastNormalized | Softmax | PixelWeighted)


def gate_index(op: Attention, levels: tuple[int | None, int | None]) -> int:
    """Which of the two inputs of ``op`` gates, given the levels of their sources.

    A map off the pyramid counts as coarser than any level; the first gates where the levels tie.
    """
    first, second = (float("inf") if level is None else level for level in levels)
    if first == second:
        return 0
    return int((second > first) == (op.gate == "coarser"))
