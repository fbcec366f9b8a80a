"""torchvision's one-stage detectors around any backbone and any compiled neck.

Heads, matching, losses and post-processing are torchvision's; ours are the anchors, which follow the levels
of the neck, and the module that joins backbone and neck.
"""

from nasneck.detector.anchors import LevelAnchors
from nasneck.detector.build import DETECTORS, Pyramid, build_detector

__all__ = ["DETECTORS", "LevelAnchors", "Pyramid", "build_detector"]
