"""What happens to one feature map: on an edge before the fusion, or in a node's layers after it.

Every op is a small frozen value. Ops that change the size of a map may stand only on edges; ``Resample``
goes to the size that a *named node* has at run time, so that a graph does not depend on the size of the images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from nasneck.errors import GraphError
from nasneck.graph.fields import check_fields
from nasneck.graph.width import Width, check_width

Init = Literal["fan_in", "fan_out", "glorot", "torch", "small", "zero"]


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
        if not self.eps > 0:
            raise GraphError(f"norm: eps {self.eps} is not positive")
        if not 0 <= self.momentum <= 1:
            raise GraphError(f"norm: momentum {self.momentum} is not in 0..1")


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
        groups: Number of groups, or ``depthwise`` for one group per channel that comes in, or ``output`` for one
            per channel that goes out.
        separable: Depthwise ``kernel`` x ``kernel`` without bias, then 1x1 (with ``bias`` as asked).
        bias: Whether the (pointwise) convolution has a bias.
        width: Output width; None takes the node's.
        padding: ``same`` keeps the size at stride 1; ``same_tf`` does so as TensorFlow does it (with a stride
            the odd cell goes to the right and bottom); ``valid`` shrinks it and may stand only on edges.
        init: ``fan_in`` is the Kaiming uniform with a = 1 that Caffe2 calls Xavier (torchvision's FPN, mmdet's
            NAS-FPN); ``fan_out`` Kaiming normal (M2Det); ``glorot`` is Xavier uniform per group (EfficientDet,
            mmdet's FPN); ``torch`` what ``nn.Conv2d`` does (YOLOX); ``small`` normal with a standard deviation
            of 0.001 (CARAFE's kernels); ``zero`` as it says. Biases start at zero.
    """

    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int | Literal["depthwise", "output"] = 1
    separable: bool = False
    bias: bool = True
    width: Width | None = None
    padding: Literal["same", "same_tf", "valid"] = "same"
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
    """A 1x1 convolution, with its norm and activation if it has them, as one unit that may fall away.

    ``when`` is ``always``, ``never`` or ``if_different`` (only where the width changes, as BiFPN does).
    """

    width: Width | None = None
    bias: bool = True
    norm: Norm | None = None
    act: Act | None = None
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
            ``nearest`` and ``bilinear`` interpolate both ways, ``max`` and ``avg`` are adaptive pools; these
            four leave a map of the right size alone.
        to: Name of the node whose size is taken. None goes down to the node's own level by halving, rounded
            up, which is how a level without backbone features gets its size.
        align_corners: As in ``torch.nn.functional.interpolate``; bilinear only.
    """

    mode: Literal["auto", "nearest", "bilinear", "max", "avg"] = "auto"
    to: str | None = None
    align_corners: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.align_corners and self.mode != "bilinear":
            raise GraphError(f"resample: align_corners has no meaning in mode {self.mode!r}")
        if self.to is None and self.mode != "auto":
            raise GraphError(f"resample: mode {self.mode!r} needs the name of a node to take the size from")


@dataclass(frozen=True, slots=True)
class Carafe:
    """Content-aware reassembly: upsampling by weighted sums whose weights a small convolution reads off the map.

    Wang et al., "CARAFE", ICCV 2019: a 1x1 convolution to ``compressed`` channels, one of side ``encoder`` to the
    weights of ``kernel`` x ``kernel`` cells for every cell of the result, softmax over these, weighted sum. The
    result, 2**octaves as large, is cut at the right and bottom to the size wanted.

    Args:
        to: Name of the node whose size is taken; it lies on a finer level.
        kernel: Side of the window that is reassembled.
        encoder: Side of the convolution that gives the weights.
        compressed: Width between the two convolutions.
    """

    to: str
    kernel: int = 5
    encoder: int = 3
    compressed: Width = 64

    def __post_init__(self) -> None:
        check_fields(self)
        check_width(self.compressed)
        for what, side in (("kernel", self.kernel), ("encoder", self.encoder)):
            if side < 1 or side % 2 == 0:
                raise GraphError(f"carafe: {what} {side} is not an odd positive number")


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


@dataclass(frozen=True, slots=True)
class NonLocal:
    """Self-attention over the cells of a map, added to it (Wang et al., "Non-local Neural Networks", CVPR 2018).

    ``x + out(softmax(theta(x)^T phi(x)) g(x))`` with 1x1 convolutions; the embedded Gaussian form without scale.
    ``hidden`` is the width of theta, phi and g. The last convolution starts at zero.
    """

    hidden: Width = "input"

    def __post_init__(self) -> None:
        check_fields(self)
        check_width(self.hidden)


Op = Norm | Act | Conv | Project | Resample | Carafe | Pool | AdaptivePool | GlobalPool | SqueezeExcite | NonLocal

OPS: dict[str, type[Op]] = {
    "norm": Norm,
    "act": Act,
    "conv": Conv,
    "project": Project,
    "resample": Resample,
    "carafe": Carafe,
    "pool": Pool,
    "adaptive_pool": AdaptivePool,
    "global_pool": GlobalPool,
    "squeeze_excite": SqueezeExcite,
    "non_local": NonLocal,
}


def has_weights(op: Op) -> bool:
    """Whether ``op`` holds parameters of its own."""
    if isinstance(op, Project):
        return op.when != "never"
    return isinstance(op, Norm | Conv | Carafe | SqueezeExcite | NonLocal)


def size_source(op: Op) -> str | None:
    """Name of the node whose size ``op`` brings a map to, if it names one."""
    return op.to if isinstance(op, Resample | Carafe) else None


def with_size_source(op: Op, to: str) -> Op:
    """``op`` with the size of ``to`` in place of that of the node it names; others as they are."""
    return replace(op, to=to) if isinstance(op, Resample | Carafe) and op.to is not None else op


def widths_of(op: Op) -> tuple[Width, ...]:
    """The widths that ``op`` states."""
    field = _WIDTH_FIELDS.get(type(op))
    width = None if field is None else getattr(op, field)
    return () if width is None else (width,)


_WIDTH_FIELDS = {Conv: "width", Project: "width", Carafe: "compressed", SqueezeExcite: "hidden", NonLocal: "hidden"}


def _check_stride(what: str, stride: int) -> None:
    if stride < 1 or stride & (stride - 1):
        raise GraphError(f"{what}: stride {stride} is not a power of two")
