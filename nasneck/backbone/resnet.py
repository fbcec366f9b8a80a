"""torchvision's ResNets, a ResNet-10, and both at any width."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torchvision
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops.misc import FrozenBatchNorm2d

from nasneck.backbone.module import Backbone, check_levels
from nasneck.backbone.weights import fit
from nasneck.errors import ConfigError

RESNETS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int]]] = {
    "resnet10": (BasicBlock, (1, 1, 1, 1)),
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}
_WEIGHTS = {name: f"{name.replace('resnet', 'ResNet')}_Weights" for name in RESNETS}
_STAGES = {2: "layer1", 3: "layer2", 4: "layer3", 5: "layer4"}


class _WideResNet(ResNet):
    """torchvision's ResNet with ``width`` channels in its stem in place of 64, parameter names unchanged."""

    def __init__(self, block: Any, layers: list[int], *, width: int, norm_layer: Any) -> None:
        self.width = width  # before the constructor of ResNet, which calls _make_layer
        super().__init__(block, layers, num_classes=1, norm_layer=norm_layer)

    def _make_layer(self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> nn.Sequential:
        if planes == 64 and self.width != 64:  # the first stage: narrow the stem that it reads
            self.inplanes = self.width
            self.conv1 = nn.Conv2d(3, self.width, kernel_size=7, stride=2, padding=3, bias=False)
            self.bn1 = self._norm_layer(self.width)
        return super()._make_layer(block, planes * self.width // 64, blocks, stride, dilate)


def resnet_backbone(name: str, wanted: tuple[int, ...], *, norm: str, width: int, pretrained: bool) -> Backbone:
    block, layers = RESNETS[name]
    check_levels(name, wanted, _STAGES)
    if width < 8 or width % 8:
        raise ConfigError(f"width {width} of backbone {name!r} must be a positive multiple of 8")
    resnet = _WideResNet(block, list(layers), width=width, norm_layer=_norm_layer(norm))
    if pretrained:
        if name == "resnet10" or width != 64:
            raise ConfigError(f"there are no published weights for {name!r} of width {width}; give a weights file")
        source = torchvision.models.get_weight(f"{_WEIGHTS[name]}.DEFAULT")
        state = source.get_state_dict(progress=False, check_hash=True)
        fit(resnet, {k: v for k, v in state.items() if not k.startswith("fc.")}, where=str(source))
    body = IntermediateLayerGetter(resnet, {_STAGES[level]: f"c{level}" for level in wanted})
    widths = {level: width * block.expansion * 2 ** (level - 2) for level in wanted}
    return Backbone(body, widths)


def _norm_layer(norm: str) -> Callable[[int], nn.Module]:
    if norm == "batch":
        return nn.BatchNorm2d
    if norm == "frozen":
        return FrozenBatchNorm2d
    return _group_norm


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(32, channels), channels)
