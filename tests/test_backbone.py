import math
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from nasneck.backbone import Backbone, build_backbone
from nasneck.errors import ConfigError


def run(backbone: Backbone, height: int = 64, width: int = 96) -> dict[str, tuple[int, ...]]:
    with torch.no_grad():
        return {name: tuple(m.shape) for name, m in backbone.eval()(torch.rand(1, 3, height, width)).items()}


@pytest.mark.parametrize(
    ("name", "width", "levels", "channels"),
    [
        ("resnet10", 32, (3, 5), {3: 64, 4: 128, 5: 256}),
        ("resnet10", 64, (2, 5), {2: 64, 3: 128, 4: 256, 5: 512}),
        ("resnet18", 16, (3, 4), {3: 32, 4: 64}),
        ("resnet50", 16, (4, 5), {4: 256, 5: 512}),
    ],
)
def test_resnets_give_their_levels(name: str, width: int, levels: tuple[int, int], channels: dict[int, int]) -> None:
    backbone = build_backbone(name, levels=levels, width=width)
    assert backbone.channels == channels
    assert backbone.levels == tuple(channels)
    expected = {f"c{i}": (1, c, math.ceil(64 / 2**i), math.ceil(96 / 2**i)) for i, c in channels.items()}
    assert run(backbone) == expected
    assert list(run(backbone)) == list(expected)  # finest first


def test_sides_that_no_stride_divides_are_rounded_up() -> None:
    shapes = run(build_backbone("resnet10", width=8), 75, 101)
    assert shapes == {f"c{i}": (1, c, -(-75 // 2**i), -(-101 // 2**i)) for i, c in ((3, 16), (4, 32), (5, 64))}


def test_resnet10_is_torchvisions_resnet_with_one_block_per_stage() -> None:
    backbone = build_backbone("resnet10", levels=(2, 5))
    reference = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
    state = {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    assert {k.removeprefix("body.") for k in backbone.state_dict()} == set(state)
    backbone.body.load_state_dict(state)
    image = torch.rand(1, 3, 64, 64)
    reference.eval(), backbone.eval()
    with torch.no_grad():
        x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(image))))
        x = reference.layer4(reference.layer3(reference.layer2(reference.layer1(x))))
        assert torch.equal(backbone(image)["c5"], x)


def test_nothing_is_computed_after_the_last_level() -> None:
    backbone = build_backbone("resnet18", levels=(2, 3), width=8)
    assert not any("layer3" in name or "fc" in name for name, _ in backbone.named_parameters())


@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm), ("frozen", FrozenBatchNorm2d)]
)
def test_norm_is_a_choice(norm: str, kind: type[nn.Module]) -> None:
    backbone = build_backbone("resnet10", width=8, norm=norm)
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm | FrozenBatchNorm2d)]
    assert len(norms) == 12
    assert all(isinstance(m, kind) for m in norms)


def test_weights_follow_torchs_generator() -> None:
    states = []
    for seed in (1, 1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            states.append(build_backbone("resnet10", width=8).state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not torch.equal(states[0]["body.conv1.weight"], states[2]["body.conv1.weight"])


def test_weights_come_from_files_of_whole_classifiers_and_of_backbones(tmp_path: Path) -> None:
    classifier = torchvision.models.resnet18(num_classes=5)
    torch.save({"state_dict": classifier.state_dict()}, tmp_path / "whole.pt")
    backbone = build_backbone("resnet18", levels=(2, 3), weights=tmp_path / "whole.pt")
    assert torch.equal(backbone.state_dict()["body.layer2.0.conv1.weight"], classifier.layer2[0].conv1.weight)
    torch.save(backbone.state_dict(), tmp_path / "own.pt")
    again = build_backbone("resnet18", levels=(2, 3), weights=tmp_path / "own.pt")
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in backbone.state_dict().items())


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.pt: there is no such file"):
        build_backbone("resnet10", weights=tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("no tensors")
    with pytest.raises(ConfigError, match=r"text\.pt: not a file of tensors"):
        build_backbone("resnet10", weights=tmp_path / "text.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ConfigError, match=r"list\.pt: no state dict in it"):
        build_backbone("resnet10", weights=tmp_path / "list.pt")
    torch.save(build_backbone("resnet10", width=16).state_dict(), tmp_path / "w16.pt")
    with pytest.raises(ConfigError, match=r"'body.conv1.weight' has shape \(16, 3, 7, 7\), this backbone wants \(8,"):
        build_backbone("resnet10", width=8, weights=tmp_path / "w16.pt")
    torch.save({"conv1.weight": torch.zeros(8, 3, 7, 7)}, tmp_path / "part.pt")
    with pytest.raises(ConfigError, match=r"part\.pt lack 'bn1.weight' and \d+ more"):
        build_backbone("resnet10", width=8, weights=tmp_path / "part.pt")


class _Stranger:
    pass


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"state": _Stranger()}, tmp_path / "pickle.pt")
    with pytest.raises(ConfigError, match="not a file of tensors"):
        build_backbone("resnet10", weights=tmp_path / "pickle.pt")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "resnet19"}, "unknown backbone 'resnet19'; did you mean 'resnet1"),
        ({"name": "resnet18", "levels": (1, 6)}, "backbone 'resnet18' has no level 1, 6; it has 2, 3, 4, 5"),
        ({"name": "resnet18", "levels": (5, 3)}, "the first must not be above the last"),
        ({"name": "resnet18", "norm": "layer"}, "norm 'layer' is not one of batch, group, frozen"),
        ({"name": "resnet18", "width": 12}, "width 12 of backbone 'resnet18' must be a positive multiple of 8"),
        ({"name": "resnet10", "pretrained": True}, "there are no published weights for 'resnet10' of width 64"),
        ({"name": "resnet18", "pretrained": True, "weights": "x.pt"}, "give either pretrained or a weights file"),
    ],
)
def test_wrong_settings_are_one_clear_line(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_backbone(**settings)
    assert "\n" not in str(caught.value)


def test_timm_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"'timm:resnet18' needs timm, .* pip install timm"):
        build_backbone("timm:resnet18")


class TestTimm:
    @pytest.fixture(autouse=True)
    def timm(self) -> None:
        pytest.importorskip("timm")

    def test_a_convolutional_model_by_levels(self) -> None:
        backbone = build_backbone("timm:test_resnet", levels=(3, 5))
        assert backbone.channels == {3: 48, 4: 192, 5: 96}
        assert not backbone.channels_last
        assert run(backbone) == {"c3": (1, 48, 8, 12), "c4": (1, 192, 4, 6), "c5": (1, 96, 2, 3)}

    def test_channels_last_maps_are_permuted(self) -> None:
        backbone = build_backbone("timm:test_mambaout", levels=(3, 5))
        assert backbone.channels_last
        image = torch.rand(1, 3, 64, 96)
        with torch.no_grad():
            raw = backbone.body.eval()(image)
            maps = list(backbone.eval()(image).values())
        assert raw[0].shape == (1, 8, 12, 32)
        assert maps[0].shape == (1, 32, 8, 12)
        assert torch.equal(maps[0][0, 5], raw[0][0, :, :, 5])

    @pytest.mark.slow
    def test_swin_takes_other_sizes_than_its_own(self) -> None:
        backbone = build_backbone("timm:swin_tiny_patch4_window7_224", levels=(3, 5))
        assert backbone.channels_last
        assert run(backbone, 96, 128)["c3"] == (1, 192, 12, 16)

    def test_the_dry_run_leaves_training_mode_and_statistics_alone(self) -> None:
        backbone = build_backbone("timm:test_resnet", levels=(4, 5))
        assert backbone.body.training
        counts = [v for k, v in backbone.state_dict().items() if k.endswith("num_batches_tracked")]
        assert counts and not any(counts)

    def test_frozen_norm_has_no_parameters(self) -> None:
        ours = build_backbone("timm:test_resnet", levels=(4, 5), norm="frozen")
        assert not any(isinstance(m, nn.BatchNorm2d) for m in ours.modules())

    @pytest.mark.parametrize(
        ("name", "settings", "message"),
        [
            ("test_vit", {}, "'timm:test_vit' has no level 3, 5; it has 4"),
            ("test_convnext", {"levels": (1, 3)}, "has no level 1; it has 2, 3, 4, 5"),
            ("resnet_of_mine", {}, "timm has no model 'resnet_of_mine'; near: "),
            ("test_resnet", {"norm": "group"}, "norm 'group' cannot be put into 'timm:test_resnet'"),
            ("test_resnet", {"width": 32}, "only ResNets take one, not 'timm:test_resnet'"),
        ],
    )
    def test_wrong_settings_are_one_clear_line(self, name: str, settings: dict, message: str) -> None:
        with pytest.raises(ConfigError, match=message) as caught:
            build_backbone(f"timm:{name}", **settings)
        assert "\n" not in str(caught.value)

    def test_maps_that_fit_no_layout_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import timm

        real = timm.create_model

        def odd(*args, **kwargs):  # type: ignore[no-untyped-def]
            model = real(*args, **kwargs)
            forward = model.forward
            model.forward = lambda x: [m.flatten(2) for m in forward(x)]
            return model

        monkeypatch.setattr(timm, "create_model", odd)
        with pytest.raises(ConfigError, match=r"the map of level 4 has shape \(1, 192, 128\)"):
            build_backbone("timm:test_resnet", levels=(4, 5))
