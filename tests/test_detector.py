from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork

from nasneck.backbone import build_backbone
from nasneck.compile import compile_neck
from nasneck.detector import LevelAnchors, build_detector
from nasneck.errors import ConfigError
from nasneck.necks import fpn

KINDS = ["retinanet", "fcos", "fcos_light"]
LEVELS = [((3, 5), (3, 5)), ((3, 5), (3, 6)), ((3, 5), (3, 7)), ((2, 4), (2, 5)), ((4, 5), (4, 6))]


class PlainFpn(nn.Module):
    """A neck of other make: torchvision's FPN behind the interface of a compiled neck."""

    size_divisor = 32

    def __init__(self, channels: dict[int, int], width: int) -> None:
        super().__init__()
        self.fpn = FeaturePyramidNetwork(list(channels.values()), width)
        self.in_channels = dict(channels)
        self.out_channels = dict.fromkeys(channels, width)

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        return list(self.fpn(OrderedDict((str(i), m) for i, m in enumerate(features))).values())


def detector(kind: str, inputs: tuple[int, int] = (3, 5), levels: tuple[int, int] = (3, 7), **options):  # type: ignore[no-untyped-def]
    backbone = build_backbone("resnet10", width=8, levels=inputs)
    neck = compile_neck(fpn(inputs=inputs, levels=levels), backbone.channels, 24)
    return build_detector(kind, backbone, neck, num_classes=3, image_size=(96, 128), **options)


def images() -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    targets = [
        {"boxes": torch.tensor([[4.0, 5, 60, 70], [30, 30, 45, 50]]), "labels": torch.tensor([0, 2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    return [torch.rand(3, 96, 128), torch.rand(3, 90, 77)], targets


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("inputs", "levels"), LEVELS)
def test_losses_and_detections_at_any_levels(kind: str, inputs: tuple[int, int], levels: tuple[int, int]) -> None:
    model = detector(kind, inputs, levels, score_threshold=0.001, detections=7)
    assert isinstance(model, RetinaNet if kind == "retinanet" else FCOS)
    batch, targets = images()
    losses = model(batch, targets)
    assert set(losses) >= {"classification", "bbox_regression"}
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total) and total > 0
    total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values()), gradients
    found = model.eval()(batch)
    assert len(found) == 2
    for image, d in zip(batch, found, strict=True):
        n = len(d["boxes"])
        assert 0 < n <= 7
        assert d["scores"].shape == d["labels"].shape == (n,)
        assert d["labels"].min() >= 0 and d["labels"].max() <= 2
        height, width = image.shape[-2:]
        assert (d["boxes"] >= 0).all() and (d["boxes"] <= torch.tensor([width, height, width, height])).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_neck_of_another_make_works(kind: str) -> None:
    backbone = build_backbone("resnet10", width=8)
    model = build_detector(kind, backbone, PlainFpn(backbone.channels, 16), num_classes=1, image_size=(64, 64))
    losses = model([torch.rand(3, 64, 64)], [{"boxes": torch.tensor([[4.0, 5, 50, 50]]), "labels": torch.tensor([0])}])
    assert all(torch.isfinite(v) for v in losses.values())
    assert model.transform.size_divisible == 32


def test_convolutions_of_the_heads() -> None:
    def convs(kind: str) -> int:
        return sum(isinstance(m, nn.Conv2d) for m in detector(kind).head.modules())

    assert convs("retinanet") == 4 + 1 + 4 + 1
    assert convs("fcos") == 4 + 1 + 4 + 2
    assert convs("fcos_light") == 1 + 1 + 1 + 2


def test_the_fcos_head_equals_torchvisions_where_that_takes_the_width() -> None:
    backbone = build_backbone("resnet10", width=8)
    neck = compile_neck(fpn(), backbone.channels, 256)
    ours = build_detector("fcos", backbone, neck, num_classes=3).head.double()  # sums in another order
    theirs = FCOSHead(256, 1, 3).double()
    theirs.load_state_dict(ours.state_dict())
    maps = [torch.randn(2, 256, s, s).double().to(memory_format=torch.channels_last) for s in (8, 4, 2, 1)]
    expected = theirs(maps)
    for name, value in ours(maps).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("channels", "groups"), [(8, 1), (48, 6), (64, 8), (100, 10), (256, 32)])
def test_groups_of_the_head_have_about_eight_channels(channels: int, groups: int) -> None:
    """With one channel a group, a 1x1 map would be normalised to a constant."""
    backbone = build_backbone("resnet10", width=8)
    head = build_detector("fcos_light", backbone, compile_neck(fpn(), backbone.channels, channels), num_classes=3).head
    norms = [module for module in head.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert [norm.num_groups for norm in norms] == [groups, groups]


class TestAnchors:
    def boxes(self, anchors: LevelAnchors, *sides: int) -> list[torch.Tensor]:
        return anchors.on_grids([(s, s) for s in sides], torch.device("cpu"))

    def test_by_hand(self) -> None:
        # Level 3, stride 8, one square anchor of half a stride: 4 px around (4, 4), (12, 4), (4, 12), (12, 12).
        (p3,) = self.boxes(LevelAnchors([3], scales=[0.5]), 2)
        expected = [[2, 2, 6, 6], [10, 2, 14, 6], [2, 10, 6, 14], [10, 10, 14, 14]]
        assert torch.equal(p3, torch.tensor(expected, dtype=torch.float32))

    def test_ratios_and_octaves_by_hand(self) -> None:
        # Level 5, stride 32, cell centre (16, 16). Area 128^2 at ratio 1/4: 256 wide, 64 high.
        (p5,) = self.boxes(LevelAnchors([5], scales=[4.0, 8.0], ratios=[0.25, 1.0]), 1)
        expected = [
            [-112, -16, 144, 48],  # 256 x 64
            [-240, -48, 272, 80],  # 512 x 128
            [-48, -48, 80, 80],  # 128 x 128
            [-112, -112, 144, 144],  # 256 x 256
        ]
        assert torch.equal(p5, torch.tensor(expected, dtype=torch.float32))

    def test_small_sizes_are_not_rounded_away(self) -> None:
        (p2,) = self.boxes(LevelAnchors([2], scales=[0.25]), 1)  # 1 px around (2, 2)
        assert p2.tolist() == [[1.5, 1.5, 2.5, 2.5]]

    def test_retinanet_has_nine_that_scale_with_the_level(self) -> None:
        anchors = detector("retinanet").anchor_generator
        assert anchors.num_anchors_per_location() == [9] * 5
        per_level = anchors.on_grids([(1, 1)] * 5, torch.device("cpu"))
        for level, boxes in zip(range(3, 8), per_level, strict=True):
            areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
            sizes = areas.sqrt().view(3, 3)
            expected = torch.tensor([4 * 2**level * 2 ** (k / 3) for k in range(3)])
            torch.testing.assert_close(sizes, expected.expand(3, 3))
            ratios = ((boxes[:, 3] - boxes[:, 1]) / (boxes[:, 2] - boxes[:, 0])).view(3, 3)
            torch.testing.assert_close(ratios, torch.tensor([[0.5], [1.0], [2.0]]).expand(3, 3))

    def test_the_order_is_that_of_the_head(self) -> None:
        anchors = LevelAnchors([3, 4], scales=[1.0])
        maps = [torch.zeros(2, 8, 3, 5), torch.zeros(2, 8, 2, 3)]
        per_image = anchors(ImageList(torch.zeros(2, 3, 24, 40), [(24, 40)] * 2), maps)
        assert len(per_image) == 2 and per_image[0].shape == (3 * 5 + 2 * 3, 4)
        centres = (per_image[1][:, :2] + per_image[1][:, 2:]) / 2
        rows = [(8 * x + 4, 8 * y + 4) for y in range(3) for x in range(5)]
        rows += [(16 * x + 8, 16 * y + 8) for y in range(2) for x in range(3)]
        assert torch.equal(centres, torch.tensor(rows, dtype=torch.float32))

    def test_a_change_of_size_is_noticed(self) -> None:
        anchors = LevelAnchors([3], scales=[1.0])
        assert [len(b) for b in self.boxes(anchors, 4)] == [16]
        assert [len(b) for b in self.boxes(anchors, 2)] == [4]

    def test_they_stay_float32_beside_bfloat16_maps(self) -> None:
        anchors = LevelAnchors([3], scales=[1.0])
        maps = [torch.zeros(1, 8, 40, 40, dtype=torch.bfloat16)]
        (boxes,) = anchors(ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)]), maps)
        assert boxes.dtype == torch.float32
        assert boxes[-1].tolist() == [312, 312, 320, 320]


class TestFcosLevels:
    """Which level a square box centred on a point of all levels is matched to."""

    def level_of(self, side: float, factor: float, canvas: int = 1024) -> set[int]:
        model = detector("fcos_light", size_factor=factor)
        levels = range(3, 8)
        grids = [(canvas // 2**i, canvas // 2**i) for i in levels]
        per_level = model.anchor_generator.on_grids(grids, torch.device("cpu"))
        kept = {}

        class Keep(nn.Module):
            def compute_loss(self, targets, outputs, anchors, matched):  # type: ignore[no-untyped-def]
                kept["matched"] = matched[0]

        model.head = Keep()
        centre = canvas / 2 + 4
        box = torch.tensor([[centre - side / 2, centre - side / 2, centre + side / 2, centre + side / 2]])
        target = {"boxes": box, "labels": torch.tensor([0])}
        counts = [len(b) for b in per_level]
        model.compute_loss([target], {}, [torch.cat(per_level)], counts)
        parts = kept["matched"].split(counts)
        return {level for level, part in zip(levels, parts, strict=True) if (part >= 0).any()}

    @pytest.mark.parametrize("factor", [1.0, 0.5])
    def test_ranges_scale_with_the_factor(self, factor: float) -> None:
        # As published, farthest sides of 0-64 px belong to P3, 64-128 to P4, ..., 512 and above to P7. A
        # point 1.5 strides off the centre sees a farther side, so small boxes can reach one level up.
        assert self.level_of(40 * factor, factor) == {3}
        assert 4 in self.level_of(200 * factor, factor)
        assert 5 in self.level_of(440 * factor, factor)
        assert 3 not in self.level_of(200 * factor, factor)

    def test_the_window_of_centre_sampling_does_not_scale(self) -> None:
        assert detector("fcos", size_factor=0.25).center_sampling_radius * 0.25 == 1.5
        assert detector("fcos").center_sampling_radius == 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_padded_to_the_necks_divisor(kind: str) -> None:
    backbone = build_backbone("resnet10", width=8)
    neck = compile_neck(fpn(), backbone.channels, 16)
    neck.size_divisor = 64
    model = build_detector(kind, backbone, neck, num_classes=1, image_size=(100, 100))
    padded, _ = model.transform([torch.rand(3, 100, 70)])
    assert padded.tensors.shape[-2:] == (128, 128)  # 96 wide, were it padded to 32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "retina"}, "unknown detector 'retina'; did you mean 'retinanet'"),
        ({"num_classes": 0}, "num_classes 0 must be at least 1"),
        ({"size_factor": 0.0}, "size_factor 0.0 must be above 0"),
    ],
)
def test_wrong_settings_are_one_clear_line(settings: dict, message: str) -> None:
    backbone = build_backbone("resnet10", width=8)
    neck = compile_neck(fpn(), backbone.channels, 16)
    with pytest.raises(ConfigError, match=message):
        build_detector(settings.pop("kind", "fcos"), backbone, neck, **{"num_classes": 2, **settings})


def test_unequal_widths_are_refused() -> None:
    neck = PlainFpn({3: 16, 4: 32}, 16)
    neck.out_channels = {3: 16, 4: 24}
    with pytest.raises(ConfigError, match=r"unequal widths \(P3: 16, P4: 24\); a shared head needs one"):
        build_detector("fcos", None, neck, num_classes=1)


def test_gaps_between_levels_are_refused_for_fcos() -> None:
    neck = PlainFpn({3: 16, 5: 64}, 16)
    with pytest.raises(ConfigError, match=r"'fcos' needs consecutive levels, the neck gives \(3, 5\)"):
        build_detector("fcos", None, neck, num_classes=1)
    assert build_detector("retinanet", None, neck, num_classes=1).anchor_generator.strides == [8, 32]


def test_a_neck_for_another_backbone_is_refused() -> None:
    neck = compile_neck(fpn(), {3: 8, 4: 16, 5: 32}, 16)
    with pytest.raises(ConfigError, match=r"the neck takes C3: 8, .*, but the backbone gives C3: 16"):
        build_detector("fcos", build_backbone("resnet10", width=8), neck, num_classes=1)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_norm_of_a_head_gives_what_torch_gives_in_the_layout_it_was_given(layout: torch.memory_format) -> None:
    light = detector("fcos_light").head.classification_head.conv[1]  # type: ignore[union-attr]
    plain = nn.GroupNorm(light.num_groups, light.num_channels)
    with torch.no_grad():
        light.weight.uniform_(0.5, 2)
        light.bias.normal_()
    plain.load_state_dict(light.state_dict())
    x = torch.randn(2, light.num_channels, 5, 3).contiguous(memory_format=layout)
    ours, theirs = x.clone().requires_grad_(), x.contiguous().requires_grad_()
    found, expected = light(ours), plain(theirs)
    assert found.is_contiguous(memory_format=layout) and torch.equal(found, expected)
    weights = torch.randn_like(expected)
    for out in (found, expected):
        (out * weights).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
