"""Every neck in a detector, trained for a few steps on generated images: the loss falls and all weights move."""

from __future__ import annotations

import pytest
import torch

from nasneck.backbone import build_backbone
from nasneck.compile import compile_neck
from nasneck.data.augment import letterbox
from nasneck.data.split import DetectionData
from nasneck.detector import build_detector
from nasneck.necks import NECKS

# As published it needs images of 257 pixels, and its 8 modules would take their time.
SMALL = {"mlfpn": {"valid": False, "tums": 2, "sfam": True}}


@pytest.fixture(scope="module")
def batch(shapes: DetectionData):
    """Four images of 64 px with their boxes."""
    images, targets = zip(*(letterbox(*shapes.train[i], (64, 64))[:2] for i in range(4)), strict=True)
    return torch.stack([torch.as_tensor(x, dtype=torch.float32) for x in images]), list(targets)


@pytest.mark.parametrize("name", NECKS)
def test_a_few_steps_lower_the_loss(name: str, shapes: DetectionData, batch) -> None:
    images, targets = batch
    torch.manual_seed(0)
    graph = NECKS[name](**SMALL.get(name, {}))
    levels = graph.input_levels[0], graph.input_levels[-1]
    backbone = build_backbone("resnet10", levels=levels, width=8, norm="group")
    neck = compile_neck(graph, backbone.channels, 16, norm="group")
    classes = len(shapes.classes)
    model = build_detector("fcos_light", backbone, neck, num_classes=classes, image_size=(64, 64), size_factor=0.5)
    model.train()
    before = {key: value.clone() for key, value in neck.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(10):
        loss = sum(model(list(images), targets).values())
        assert isinstance(loss, torch.Tensor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.9 * losses[0], losses
    still = [key for key, value in neck.named_parameters() if torch.equal(value, before[key])]
    assert not still
