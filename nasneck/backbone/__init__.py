"""Backbones: an image to its C-levels, finest first.

torchvision's ResNets by their names, a ResNet-10, both at any width, and every timm model that gives a
pyramid, as ``timm:NAME``. Nothing after the last level that is asked for is computed.
"""

from nasneck.backbone.build import build_backbone
from nasneck.backbone.module import Backbone
from nasneck.backbone.resnet import RESNETS

__all__ = ["RESNETS", "Backbone", "build_backbone"]
