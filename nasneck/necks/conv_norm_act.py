"""Convolution, norm and activation as one run of ops, as most necks use them."""

from __future__ import annotations

from dataclasses import dataclass

from nasneck.graph import Act, Conv, Norm, Op
from nasneck.graph.ops import Init
from nasneck.graph.width import Width


@dataclass(frozen=True, slots=True)
class ConvNormAct:
    """A recipe for convolutions followed by a norm and an activation.

    Args:
        norm: The norm; without one the convolutions have a bias.
        act: The activation, if any.
        init: How weights are drawn.
    """

    norm: Norm | None = Norm()  # noqa: RUF009 (frozen)
    act: Act | None = Act("relu")  # noqa: RUF009 (frozen)
    init: Init = "fan_in"

    def __call__(
        self, kernel: int, width: Width | None = None, *, stride: int = 1, valid: bool = False, act: bool = True
    ) -> tuple[Op, ...]:
        """A convolution of side ``kernel`` with what follows; ``act=False`` leaves the activation out."""
        conv = Conv(
            kernel,
            stride=stride,
            bias=self.norm is None,
            width=width,
            padding="valid" if valid else "same",
            init=self.init,
        )
        return conv, *self._after(act)

    def separable(self, kernel: int, width: Width | None = None, *, stride: int = 1) -> tuple[Op, ...]:
        """A depthwise convolution, then a 1x1 convolution, each with what follows."""
        bias = self.norm is None
        depthwise = Conv(kernel, stride=stride, groups="depthwise", bias=bias, width="input", init=self.init)
        return depthwise, *self._after(True), Conv(1, bias=bias, width=width, init=self.init), *self._after(True)

    def _after(self, act: bool) -> tuple[Op, ...]:
        found = (self.norm, self.act if act else None)
        return tuple(op for op in found if op is not None)
