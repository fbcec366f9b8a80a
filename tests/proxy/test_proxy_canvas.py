"""Direct use of a detector's parts on fixed canvases gives what the detector itself gives."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet

from nasneck.backbone import Backbone, build_backbone
from nasneck.compile import compile_neck
from nasneck.data.split import DetectionData
from nasneck.detector import build_detector
from nasneck.necks import fpn
from nasneck.proxy.canvas import CanvasDetector
from nasneck.proxy.features import compute_features, normalised
from nasneck.proxy.views import Canvases, letterboxed

CPU = torch.device("cpu")
KINDS = ["retinanet", "fcos_light"]
LEVELS = [(3, 5), (3, 7), (4, 6)]


def whole(kind: str, levels: tuple[int, int]) -> tuple[RetinaNet | FCOS, Backbone]:
    inputs = (levels[0], 5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build_backbone("resnet10", width=8, levels=inputs)
        neck = compile_neck(fpn(inputs=inputs, levels=levels), backbone.channels, 32)
        model = build_detector(
            kind, backbone, neck, num_classes=6, size_factor=0.5, image_size=(64, 64), score_threshold=0.001
        )
        for parameter in model.head.parameters():  # scores that differ, so that their order is tested
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.1)
    backbone.eval().requires_grad_(False)
    return model, backbone


def parts(model: RetinaNet | FCOS, levels: tuple[int, int]) -> CanvasDetector:
    grids = [(-(-64 // 2**i), -(-64 // 2**i)) for i in range(levels[0], levels[1] + 1)]
    return CanvasDetector(model, grids=grids, canvas=64, device=CPU)


@pytest.fixture(scope="module")
def canvases(shapes: DetectionData) -> Canvases:
    some = letterboxed(shapes.reward, canvas=64)
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return Canvases(some.images[:4], [*some.targets[:3], empty])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", LEVELS)
def test_cached_losses_equal_the_plain_detectors(kind: str, levels: tuple[int, int], canvases: Canvases) -> None:
    model, backbone = whole(kind, levels)
    pyramid = model.backbone
    store = compute_features(backbone, [canvases.images], total=len(canvases.images), device=CPU, dtype=torch.float32)
    direct = parts(model, levels)
    model.train()
    backbone.eval()
    # Batch norm trains in both passes on equal values, so running statistics do not matter.
    outputs = direct.outputs(pyramid.neck(store.take(torch.arange(4))))
    ours = direct.losses(outputs, canvases.targets, direct.matches(canvases.targets))
    plain = model(list(canvases.images.float() / 255), canvases.targets)
    assert set(ours) == set(plain)
    for name in plain:
        torch.testing.assert_close(ours[name], plain[name], rtol=1e-4, atol=1e-5)
    gradients = []
    for losses in (ours, plain):
        model.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 10
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=2e-3, atol=1e-4)


class Given(nn.Module):
    """A pyramid that gives the same maps whatever the images."""

    def __init__(self, maps: list[Tensor], channels: int) -> None:
        super().__init__()
        self.maps = maps
        self.out_channels = channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict((str(i), m) for i, m in enumerate(self.maps))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", LEVELS)
def test_given_the_same_maps_all_is_equal_to_the_bit(kind: str, levels: tuple[int, int], canvases: Canvases) -> None:
    model, backbone = whole(kind, levels)
    with torch.no_grad():
        maps = model.backbone.neck(list(backbone(normalised(canvases.images, backbone, CPU)).values()))
        direct = parts(model, levels)
        outputs = direct.outputs(maps)
        losses = direct.losses(outputs, canvases.targets, direct.matches(canvases.targets))
        detections = direct.detections(outputs)
        model.backbone = Given(maps, 32)
        images = list(canvases.images.float() / 255)
        plain_losses = model.train()(images, canvases.targets)
        plain_detections = model.eval()(images)
    assert all(torch.equal(losses[name], plain_losses[name]) for name in plain_losses)
    assert sum(len(d["boxes"]) for d in plain_detections) > 20
    for ours, plain in zip(detections, plain_detections, strict=True):
        assert all(torch.equal(ours[name], plain[name]) for name in plain)


@pytest.mark.parametrize("kind", KINDS)
def test_stored_matches_are_those_of_the_moment(kind: str, canvases: Canvases) -> None:
    model, _ = whole(kind, (3, 7))
    direct = parts(model, (3, 7))
    head = model.head
    together = direct.matches(canvases.targets)
    assert model.head is head
    one_by_one = [direct.matches([target])[0] for target in canvases.targets]
    assert all(torch.equal(a, b) for a, b in zip(together, one_by_one, strict=True))
    assert any((m >= 0).any() for m in together)
    assert (together[3] < 0).all()  # the image without boxes


def test_matching_that_fails_leaves_the_head_in_place(canvases: Canvases) -> None:
    model, _ = whole("fcos_light", (3, 7))
    head = model.head
    with pytest.raises(KeyError):
        parts(model, (3, 7)).matches([{"labels": torch.zeros(1)}])
    assert model.head is head


def test_head_outputs_are_float32_under_autocast(canvases: Canvases) -> None:
    model, backbone = whole("fcos_light", (3, 7))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        features: list[Tensor] = list(backbone(normalised(canvases.images, backbone, CPU)).values())
        outputs = parts(model, (3, 7)).outputs(model.backbone.neck(features))
    assert {value.dtype for value in outputs.values()} == {torch.float32}
