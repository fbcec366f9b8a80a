"""Weights of other implementations: whole detectors, old names, lists of necks, and what does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from nasneck import load_peer_state, necks, peer_state
from nasneck.compile import compile_neck
from nasneck.errors import CheckpointError
from nasneck.graph import NeckGraph
from nasneck.neck import Neck

WIDTHS, CHANNELS = (8, 12, 20), 16


def neck_of(graph: NeckGraph, widths=WIDTHS, **options) -> Neck:
    torch.manual_seed(0)
    return compile_neck(graph, widths, CHANNELS, **options)


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


FPNS = {
    "plain": (necks.fpn(levels=(3, 5)), None, None),
    "pool": (necks.fpn(levels=(3, 6), extra="pool"), LastLevelMaxPool, None),
    "P5": (necks.fpn(), lambda: LastLevelP6P7(CHANNELS, CHANNELS), None),
    "C5": (necks.fpn(extra="input"), lambda: LastLevelP6P7(32, CHANNELS), None),
    "norm": (necks.fpn(levels=(3, 5), norm=True), None, nn.BatchNorm2d),
}


@pytest.mark.parametrize("form", FPNS)
def test_torchvision_there_and_back(form):
    graph, extra, norm = FPNS[form]
    widths = (*WIDTHS[:2], 32)
    torch.manual_seed(1)
    theirs = FeaturePyramidNetwork(list(widths), CHANNELS, extra() if extra else None, norm_layer=norm).eval()
    neck = neck_of(graph, widths).eval()
    load_peer_state(neck, theirs.state_dict(), "torchvision")
    assert same(peer_state(neck, "torchvision"), theirs.state_dict())
    maps = [torch.randn(1, c, 16 >> i, 24 >> i) for i, c in enumerate(widths)]
    wanted = theirs(dict(zip("abc", maps, strict=True)))
    assert all(torch.equal(a, b) for a, b in zip(neck(maps), wanted.values(), strict=True))


@pytest.mark.parametrize("old", [False, True], ids=["as it is", "published with older names"])
def test_the_fpn_of_a_whole_torchvision_detector(old):
    torch.manual_seed(1)
    detector = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    state = detector.state_dict()
    if old:
        state = {re.sub(r"(_blocks\.\d)\.0\.", r"\1.", key): value for key, value in state.items()}
    neck = compile_neck(necks.fpn((2, 5), (2, 6), extra="pool"), (256, 512, 1024, 2048))
    load_peer_state(neck, state, "torchvision")
    assert same(peer_state(neck, "torchvision"), detector.backbone.fpn.state_dict())


def test_retinanet_v2_has_its_p6_from_c5():
    detector = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None)
    neck = compile_neck(necks.fpn(extra="input"), (512, 1024, 2048))
    load_peer_state(neck, detector.state_dict(), "torchvision", prefix="backbone.fpn.")
    assert same(peer_state(neck, "torchvision"), detector.backbone.fpn.state_dict())
    wrong = compile_neck(necks.fpn(), (512, 1024, 2048))
    with pytest.raises(CheckpointError, match=r"fpn: node 'p6' \(level 6\) needs backbone.fpn.extra_blocks.p6"):
        load_peer_state(wrong, detector.state_dict(), "torchvision")


def test_a_list_of_necks_in_mmdet():
    first, second = neck_of(necks.fpn(extra="pool")), neck_of(necks.bfp(), (CHANNELS,) * 5)
    nn.init.normal_(second.body.get_submodule("balanced.non_local.out").weight)
    state = {f"neck.0.{key}": value for key, value in peer_state(first, "mmdet").items()}
    state |= {f"neck.1.{key}": value for key, value in peer_state(second, "mmdet").items()}
    both = neck_of(necks.libra(), norm="group")
    load_peer_state(both, {"backbone.conv1.weight": torch.zeros(1), **state}, "mmdet")
    maps = [torch.randn(2, c, 32 >> i, 32 >> i) for i, c in enumerate(WIDTHS)]
    for got, want in zip(both(maps), second(first(maps)), strict=True):
        torch.testing.assert_close(got, want)


def test_group_norm_is_called_gn_in_mmdet():
    keys = peer_state(neck_of(necks.fpn(levels=(3, 5), norm=True), norm="group"), "mmdet")
    assert "lateral_convs.0.gn.weight" in keys and "fpn_convs.2.gn.bias" in keys


def test_counts_of_batches_may_be_missing():
    neck = neck_of(necks.bifpn(repeats=1))
    state = {k: v + 1 for k, v in peer_state(neck, "effdet").items() if not k.endswith("num_batches_tracked")}
    load_peer_state(neck, state, "effdet")
    assert all(torch.equal(peer_state(neck, "effdet")[key], value) for key, value in state.items())


def of(graph: NeckGraph, source: str, **options) -> dict[str, Tensor]:
    """The weights of another form, in the names of ``source``, not those that the neck has."""
    return {key: value + 1 for key, value in peer_state(neck_of(graph, **options), source).items()}


PLAIN, TF = necks.bifpn(repeats=1), necks.bifpn(repeats=1, bias=True, padding="same")
SHARED, UNSHARED = necks.mlfpn(tums=2), necks.mlfpn(tums=2, shared=False)
MISTAKES = {
    "a source that is none": (PLAIN, {}, "detectron2", "unknown source 'detectron2'.*known: effdet, mmdet"),
    "a neck that it has not": (necks.asff(), {}, "mmdet", "mmdet has no neck 'asff'"),
    "a form that it has not": (
        necks.fpn(levels=(3, 8)),
        {},
        "torchvision",
        "torchvision has no place for 'p8.from_p7.conv.weight' of 'fpn'",
    ),
    "PANet fed from its outputs into mmdet's": (necks.panet(), {}, "mmdet", "panet: .* build it with feed='sum'"),
    "Google's attention into mmdet's": (
        necks.nas_fpn((3, 7), (3, 7), repeats=1),
        {},
        "mmdet",
        "nas_fpn: mmdet's attention is another one; build it with dialect='mmdet'",
    ),
    "torchvision's without its ReLU": (
        necks.fpn(extra_relu=False),
        {},
        "torchvision",
        "fpn: torchvision has a ReLU before P7; build it with extra_relu=True",
    ),
    "torchvision's P6 of a lateral": (
        necks.fpn(extra="lateral"),
        {},
        "torchvision",
        "fpn: torchvision makes P6 of P5 or C5; build it with extra='output' or 'input'",
    ),
    "two such necks": (
        PLAIN,
        {f"{who}.{key}": v for who in ("teacher.fpn", "student.fpn") for key, v in of(PLAIN, "effdet").items()},
        "effdet",
        "has several such necks; say prefix= 'teacher.fpn.' or 'student.fpn.'",
    ),
    "nothing of it": (
        PLAIN,
        {"a.weight": torch.ones(1)},
        "effdet",
        "the checkpoint has none of effdet's weights of 'bifpn'",
    ),
    "TensorFlow's into effdet's own": (
        PLAIN,
        of(TF, "effdet"),
        "effdet",
        r"bifpn: the checkpoint has .*conv_pw.bias \(14 such\), which this form .* build it with the options of",
    ),
    "effdet's own into TensorFlow's": (
        TF,
        of(PLAIN, "effdet"),
        "effdet",
        r"bifpn: node 'r0_p6_td' \(level 6\) needs .*conv_pw.bias, which the checkpoint has not",
    ),
    "more repeats": (PLAIN, of(necks.bifpn(repeats=2), "effdet"), "effdet", "the checkpoint has cell.1.fnode.0"),
    "fewer repeats": (
        necks.bifpn(repeats=2),
        of(PLAIN, "effdet"),
        "effdet",
        r"node 'r1_p6_td' \(level 6\) needs cell.1.fnode.0",
    ),
    "another fusion": (
        necks.bifpn(repeats=1, fusion="sum"),
        of(PLAIN, "effdet"),
        "effdet",
        "the checkpoint has cell.0.fnode.0.combine.edge_weights",
    ),
    "other widths": (
        necks.fpn(levels=(3, 5)),
        of(necks.fpn(levels=(3, 5)), "mmdet", widths=(8, 16, 20)),
        "mmdet",
        r"fpn: node 'td4' \(level 4\) needs lateral_convs.1.conv.weight of shape \(16, 12, 1, 1\), not .*16, 16, 1",
    ),
    "extra levels": (
        necks.fpn(levels=(3, 5)),
        of(necks.fpn(), "torchvision"),
        "torchvision",
        r"the checkpoint has extra_blocks.p6.weight \(4 such\)",
    ),
    "weights of their own into shared ones": (
        SHARED,
        of(UNSHARED, "original"),
        "original",
        r"mlfpn: node 'leach0' \(level 3\) has one set of weights for leach.0.conv.weight, leach.1.*, which differ",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_does_not_fit(name):
    graph, state, source, message = MISTAKES[name]
    neck = neck_of(graph, (8,) * len(graph.input_levels) if len(graph.input_levels) != 3 else WIDTHS)
    before = {key: value.clone() for key, value in neck.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_peer_state(neck, state, source)
    assert same(before, neck.state_dict()), "the neck has changed"


def test_a_whole_m2det_has_its_neck_without_a_prefix():
    neck = neck_of(SHARED)
    state = of(SHARED, "original")
    load_peer_state(neck, {**state, "base.0.weight": torch.ones(1), "loc.0.weight": torch.ones(1)}, "original")
    assert same(peer_state(neck, "original"), state)
