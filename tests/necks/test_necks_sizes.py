"""Parameters and multiply-adds of the fixed necks against those measured on torchvision, mmdet and effdet."""

from __future__ import annotations

import pytest
import torch

from nasneck import necks
from nasneck.compile import compile_neck
from nasneck.cost import count_macs, count_parameters

R50_4, R50_3 = (256, 512, 1024, 2048), (512, 1024, 2048)
FOUR, FIVE_POOLED = ((2, 5), (2, 5)), ((2, 5), (2, 6))
TF = {"padding": "same", "bias": True}

# graph, backbone widths, neck width, parameters, GMACs at 512 px (to four places)
MEASURED = {
    "torchvision FPN P2-P5": (necks.fpn(*FOUR), R50_4, 256, 3_344_384, 14.8478),
    "torchvision FPN pooled": (necks.fpn(*FIVE_POOLED, extra="pool"), R50_4, 256, 3_344_384, 14.8478),
    "torchvision FPN P6P7 of P5": (necks.fpn(), R50_3, 256, 3_868_672, 4.1576),
    "torchvision FPN P6P7 of C5": (necks.fpn(extra="input"), R50_3, 256, 7_997_440, 4.4218),
    "mmdet FPN on_lateral": (necks.fpn(extra="lateral", extra_relu=False), R50_3, 256, 3_868_672, 4.1576),
    "mmdet PAFPN": (necks.panet(*FIVE_POOLED, extra="pool", feed="sum"), R50_4, 256, 6_884_864, 21.1896),
    "mmdet PAFPN on_input": (necks.panet(extra="input", feed="sum"), R50_3, 256, 10_357_760, 5.9318),
    "mmdet PAFPN on_lateral": (necks.panet(extra="lateral", feed="sum"), R50_3, 256, 6_228_992, 5.6676),
    "mmdet PAFPN on_output": (necks.panet(feed="sum"), R50_3, 256, 6_228_992, 5.6676),
    "PANet as in the paper": (necks.panet(), R50_3, 256, 6_228_992, 5.6676),
    "mmdet NAS-FPN x7": (necks.nas_fpn(dialect="mmdet"), R50_3, 256, 29_990_144, 31.9428),
    "mmdet NAS-FPN x1": (necks.nas_fpn(dialect="mmdet", repeats=1), R50_3, 256, 5_185_280, 5.3865),
    "effdet D0": (necks.bifpn(), (40, 112, 320), 64, 194_361, 0.1362),
    "effdet tf D0": (necks.bifpn(**TF), (40, 112, 320), 64, 196_281, 0.1362),
    "effdet 64x3": (necks.bifpn(), R50_3, 64, 673_081, 0.4644),
    "effdet 64x3 sum": (necks.bifpn(fusion="sum"), R50_3, 64, 673_024, 0.4644),
    "effdet 64x3 softmax": (necks.bifpn(fusion="softmax"), R50_3, 64, 673_081, 0.4644),
    "effdet 64x3 tf": (necks.bifpn(**TF), R50_3, 64, 675_001, 0.4644),
    "effdet 256x3": (necks.bifpn(), R50_3, 256, 3_871_801, 2.8603),
    "effdet 256x3 not separable": (necks.bifpn(separable=False), R50_3, 256, 16_399_417, 13.5088),
}


@pytest.mark.parametrize("name", MEASURED)
def test_parameters_and_macs(name):
    graph, widths, channels, parameters, gmacs = MEASURED[name]
    with torch.device("meta"):
        neck = compile_neck(graph, widths, channels)
    assert count_parameters(neck) == parameters
    assert round(count_macs(neck, (512, 512)) / 1e9, 4) == gmacs


@pytest.mark.parametrize(
    ("repeats", "channels", "options", "parameters"),
    [
        (7, 256, {}, 29_858_048),
        (7, 256, {"bias": False}, 29_845_504),
        (7, 256, {"dialect": "mmdet"}, 29_990_144),
        # laterals 3584 C + 6 C, and 7 cells of 9 C^2 + C + 2 C a repeat
        (3, 256, {}, 13_321_472),
        (7, 384, {}, 66_463_104),
    ],
)
def test_nas_fpn_parameters(repeats, channels, options, parameters):
    with torch.device("meta"):
        neck = compile_neck(necks.nas_fpn(repeats=repeats, **options), R50_3, channels)
    assert count_parameters(neck) == parameters


@pytest.mark.parametrize(
    ("repeats", "size", "gmacs"), [(3, 512, 14.2), (3, 640, 22.2), (5, 640, 36.1), (7, 640, 49.9), (7, 1024, 127.7)]
)
def test_nas_fpn_macs(repeats, size, gmacs):
    with torch.device("meta"):
        neck = compile_neck(necks.nas_fpn(repeats=repeats), R50_3, 256)
    assert count_macs(neck, (size, size)) / 1e9 == pytest.approx(gmacs, abs=0.06)


# EfficientDet's own scaling (TensorFlow weights): widths, channels, repeats, fusion, last level, parameters
EFFICIENTDET = {
    "d0": ((40, 112, 320), 64, 3, "fast_normalized", 7, 196_281),
    "d1": ((40, 112, 320), 88, 4, "fast_normalized", 7, 390_972),
    "d2": ((48, 120, 352), 112, 5, "fast_normalized", 7, 708_159),
    "d3": ((48, 136, 384), 160, 6, "fast_normalized", 7, 1_559_474),
    "d4": ((56, 160, 448), 224, 7, "fast_normalized", 7, 3_349_829),
    "d5": ((64, 176, 512), 288, 7, "fast_normalized", 7, 5_405_893),
    "d6": ((72, 200, 576), 384, 8, "sum", 7, 10_583_808),
    "d7x": ((80, 224, 640), 384, 8, "sum", 8, 13_112_064),
}


@pytest.mark.parametrize("name", EFFICIENTDET)
def test_efficientdet_scaling(name):
    widths, channels, repeats, fusion, last, parameters = EFFICIENTDET[name]
    graph = necks.bifpn((3, 5), (3, last), repeats=repeats, fusion=fusion, **TF)
    with torch.device("meta"):
        assert count_parameters(compile_neck(graph, widths, channels)) == parameters


# C2..C5 of a 500x333 image and what the necks make of them, as measured on the peers
ODD = [(125, 84), (63, 42), (32, 21), (16, 11), (8, 6), (4, 3)]


@pytest.mark.parametrize(
    "graph",
    [
        necks.fpn(*FIVE_POOLED, extra="pool"),
        necks.fpn(),
        necks.fpn(extra="input"),
        necks.panet(),
        necks.bifpn(),
        necks.nas_fpn(repeats=1),
    ],
    ids=lambda graph: f"{graph.name} {graph.output_levels}",
)
def test_output_sizes_at_500x333(graph):
    widths = {level: 8 * level for level in graph.input_levels}
    with torch.device("meta"):
        neck = compile_neck(graph, widths, 16)
        outs = neck([torch.empty(2, width, *ODD[level - 2]) for level, width in widths.items()])
    assert [tuple(out.shape) for out in outs] == [(2, 16, *ODD[level - 2]) for level in graph.output_levels]
