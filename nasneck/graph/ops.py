"""What happens to one feature map: on an edge before the fusion, or in a node's layers after it.

Every op is a small frozen value. Ops that change the size of a map may stand only on edges; ``Resample``
goes to the size that a *named node* has at run time, so that a graph fits images of any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nasneck.errors import GraphError
from nasneck.graph.fields import check_fields
from nasneck.graph.width import Width, check_width

Init = Literal["fan_in", "glorot", "zero"]


@dataclass(frozen=True, slots=True)
class Norm:
    """A normalisation slot.

    Args:
        kind: ``batch``, ``group`` or ``frozen``; None takes what the caller of ``compile_neck`` chose.
        eps: Added to the variance.
        momentum: Share of the new batch in the running statistics (PyTorch's sense; TF's is 1 minus this).
    """

    kind: Literal["batch", "group", "frozen"] | None = None
    eps: float = 1e-5
    momentum: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class Act:
    """An activation; ``slope`` is the negative slope of ``leaky_relu`` and unused elsewhere."""

    kind: Literal["relu", "relu6", "silu", "leaky_relu", "hard_swish", "hard_sigmoid", "sigmoid"] = "relu"
    slope: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution.

    Args:
        kernel: Odd side of the kernel.
        stride: 1, or a power of two that moves the map that many octaves coarser (edges only); the result
            has ``ceil(n / stride)`` cells where padding is ``same``.
        dilation: Spacing of the kernel's taps.
        groups: Number of groups, or ``depthwise`` for one group per channel.
        separable: Depthwise ``kernel`` x ``kernel`` without bias, then 1x1 (with ``bias`` as asked).
        bias: Whether the (pointwise) convolution has a bias.
        width: Output width; None takes the node's.
        padding: ``same`` keeps the size at stride 1; ``valid`` shrinks it and may stand only on edges.
        init: ``fan_in`` is the Kaiming uniform with a = 1 that Caffe2 calls Xavier (weights of torchvision's
            and mmdet's FPNs); ``glorot`` is Xavier uniform per group (EfficientDet); ``zero`` as it says.
            Biases start at zero.
    """

    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int | Literal["depthwise"] = 1
    separable: bool = False
    bias: bool = True
    width: Width | None = None
    padding: Literal["same", "valid"] = "same"
    init: Init = "fan_in"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise GraphError(f"conv: kernel {self.kernel} is not an odd positive number")
        _check_stride("conv", self.stride)
        if self.dilation < 1 or (isinstance(self.groups, int) and self.groups < 1):
            raise GraphError("conv: dilation and groups must be at least 1")
        if self.separable and self.groups != 1:
            raise GraphError("conv: separable has its own groups; leave groups at 1")
        if self.width is not None:
            check_width(self.width)


@dataclass(frozen=True, slots=True)
class Project:
    """A 1x1 convolution, and its norm if it has one, as one unit that may fall away.

    ``when`` is ``always``, ``never`` or ``if_different`` (only where the width changes, as BiFPN does).
    """

    width: Width | None = None
    bias: bool = True
    norm: Norm | None = None
    when: Literal["always", "if_different", "never"] = "always"
    init: Init = "fan_in"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.width is not None:
            check_width(self.width)


@dataclass(frozen=True, slots=True)
class Resample:
    """Change of size, to that of the node named ``to``.

    Args:
        mode: ``auto`` is nearest up; down it is a max pool with kernel = stride = 2**octaves and partial
            windows at the border, or adaptive max pooling where that pool misses the target size.
            ``nearest`` and ``bilinear`` interpolate both ways and leave a map of the right size alone.
        to: Name of the node whose size is taken. None goes down to the node's own level by halving, rounded
            up, which is how a level without backbone features gets its size.
        align_corners: As in ``torch.nn.functional.interpolate``; bilinear only.
    """

    mode: Literal["auto", "nearest", "bilinear"] = "auto"
    to: str | None = None
    align_corners: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.align_corners and self.mode != "bilinear":
            raise GraphError(f"resample: align_corners has no meaning in mode {self.mode!r}")
        if self.to is None and self.mode != "auto":
            raise GraphError(f"resample: mode {self.mode!r} needs the name of a node to take the size from")


@dataclass(frozen=True, slots=True)
class Pool:
    """Pooling with a window; a stride that is a power of two moves the map that many octaves coarser.

    Args:
        mode: ``max`` or ``avg``.
        kernel: Side of the window, in cells.
        stride: Step, in cells.
        padding: Cells on each side, or ``same`` for TensorFlow's padding (the odd cell goes to the right and
            bottom; never counted by ``max``).
        ceil: Whether partial windows at the border count.
    """

    mode: Literal["max", "avg"] = "max"
    kernel: int = 3
    stride: int = 2
    padding: int | Literal["same"] = 1
    ceil: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        _check_stride("pool", self.stride)
        if self.kernel < 1:
            raise GraphError(f"pool: kernel {self.kernel} is not positive")
        if isinstance(self.padding, int) and not 0 <= self.padding <= self.kernel // 2:
            raise GraphError(f"pool: padding {self.padding} is not in 0..kernel/2 = {self.kernel // 2}")


@dataclass(frozen=True, slots=True)
class AdaptivePool:
    """Average or max pooling to ``ratio`` of the height and width, at least one cell (AugFPN)."""

    ratio: float
    mode: Literal["max", "avg"] = "avg"

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.ratio <= 1:
            raise GraphError(f"adaptive pool: ratio {self.ratio} is not in (0, 1]")


@dataclass(frozen=True, slots=True)
class GlobalPool:
    """Pooled context: the whole map becomes one cell, which later broadcasts."""

    mode: Literal["max", "avg"] = "avg"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class SqueezeExcite:
    """Channel gate ``x * sigmoid(conv(relu(conv(mean(x)))))`` with 1x1 convolutions (Hu et al., 2018).

    ``hidden`` is the width between the two, relative to the map that comes in.
    """

    hidden: Width = "input/16"

    def __post_init__(self) -> None:
        check_fields(self)
        check_width(self.hidden)


Op = Norm | Act | Conv | Project | Resample | Pool | AdaptivePool | GlobalPool | SqueezeExcite

OPS: dict[str, type[Op]] = {
    "norm": Norm,
    "act": Act,
    "conv": Conv,
    "project": Project,
    "resample": Resample,
    "pool": Pool,
    "adaptive_pool": AdaptivePool,
    "global_pool": GlobalPool,
    "squeeze_excite": SqueezeExcite,
}


def has_weights(op: Op) -> bool:
    """Whether ``op`` holds parameters of its own."""
    return isinstance(op, Norm | Conv | SqueezeExcite) or (isinstance(op, Project) and op.when != "never")


def _check_stride(what: str, stride: int) -> None:
    if stride < 1 or stride & (stride - 1):
        raise GraphError(f"{what}: stride {stride} is not a power of two")
