"""What a cached training saves, counted in operations: the same on every machine.

Half of the operations of a step are the backward pass through the neck; a frozen backbone has neither pass.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nasneck import necks
from nasneck.proxy import BackboneConfig, DetectorConfig, NeckConfig, ProxyConfig
from nasneck.proxy.candidate import build_candidate
from nasneck.proxy.weights import make_backbone

CPU = torch.device("cpu")


def step_flops(backbone: str, width: int, channels: int, head: str, *, cached: bool) -> int:
    """Operations of forward and backward pass for one image of 128 px and five classes."""
    config = ProxyConfig(backbone=BackboneConfig(backbone, width), detector=DetectorConfig(kind=head))  # type: ignore[arg-type]
    neck = NeckConfig(channels=channels)
    whole = make_backbone(config.backbone, levels=neck.inputs, seed=0)
    candidate = build_candidate(
        necks.nas_fpn(repeats=1),
        config=config,
        neck=neck,
        in_channels=whole.channels,
        num_classes=5,
        seed=0,
        device=CPU,
        amp=False,
        backbone=None if cached else whole,
    )
    images = torch.zeros(2, 3, 128, 128, dtype=torch.uint8)
    with torch.no_grad():
        features = list(whole.eval()(images.float()).values())
    whole.train()
    with FlopCounterMode(display=False) as counter:
        outputs = candidate.outputs(features if cached else candidate.features(images))
        torch.stack([value.sum() for value in outputs.values()]).sum().backward()
    return counter.get_total_flops() // 2


# ResNet-10 of width 32 with a neck of 48 channels, ResNet-18 with one of 64: the ratio falls with the head's share.
@pytest.mark.parametrize(
    ("backbone", "width", "channels", "head", "ratio"),
    [
        ("resnet10", 32, 48, "fcos_light", 3.9),
        ("resnet18", 64, 64, "fcos_light", 13.0),
        ("resnet10", 32, 48, "retinanet", 2.0),
        ("resnet18", 64, 64, "retinanet", 5.3),
        ("resnet10", 32, 48, "fcos_bare", 7.3),
    ],
)
def test_operations_of_a_step(backbone: str, width: int, channels: int, head: str, ratio: float) -> None:
    scratch = step_flops(backbone, width, channels, head, cached=False)
    cached = step_flops(backbone, width, channels, head, cached=True)
    assert scratch / cached == pytest.approx(ratio, rel=0.1)
