"""Building blocks that several necks share, with the state dict keys of mmcv."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class ConvModule(nn.Module):
    """Convolution, then norm, then activation: keys ``conv.*`` and ``bn.*`` (``gn.*`` for a GroupNorm).

    Unless given, the padding keeps the size at stride 1, and there is a bias exactly where no norm follows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        *,
        bias: bool | None = None,
        norm: Callable[[int], nn.Module] | None = None,
        act: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if padding is None:
            padding = dilation * (kernel_size - 1) // 2
        if bias is None:
            bias = norm is None
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.norm_name = ""
        if norm is not None:
            layer = norm(out_channels)
            self.norm_name = "gn" if isinstance(layer, nn.GroupNorm) else "bn"
            self.add_module(self.norm_name, layer)
        self.activate = act() if act is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm_name:
            x = self.get_submodule(self.norm_name)(x)
        return self.activate(x)
