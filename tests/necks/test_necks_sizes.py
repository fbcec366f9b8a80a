"""Parameters, multiply-adds and sizes of the fixed necks, beyond what ``measured.json`` has."""

from __future__ import annotations

import pytest
import torch

from nasneck import necks
from nasneck.compile import compile_neck
from nasneck.cost import count_macs, count_parameters

R50_3 = (512, 1024, 2048)


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


# effdet's tf_efficientdet_*
EFFICIENTDET = {
    "d0": 196_281,
    "d1": 390_972,
    "d2": 708_159,
    "d3": 1_559_474,
    "d4": 3_349_829,
    "d5": 5_405_893,
    "d6": 10_583_808,
    "d7": 10_583_808,
    "d7x": 13_112_064,
}


@pytest.mark.parametrize("model", EFFICIENTDET)
def test_efficientdet_scaling(model):
    setting = necks.EFFICIENTDET[model]
    with torch.device("meta"):
        neck = compile_neck(necks.efficientdet(model=model), setting.in_channels, setting.channels)
    assert count_parameters(neck) == EFFICIENTDET[model]
    assert tuple(neck.out_channels) == tuple(range(3, 9 if model == "d7x" else 8))


def test_spinenet_and_mnasfpn_as_in_tensorflow():
    """Counted on tensorflow/models' code; SpineNet-49 without its stem's first convolution and norm."""
    with torch.device("meta"):
        assert count_parameters(compile_neck(necks.spinenet(), [64], 256)) == 21_821_952
        assert count_parameters(compile_neck(necks.spinenet(block_repeats=2), [64], 256)) == 36_253_440
        assert count_parameters(compile_neck(necks.mnasfpn(), [32, 96, 320], 48)) == 567_648


def test_shares_of_a_width_are_rounded_as_others_do():
    """int(channels * share), also where a decimal is no exact float."""
    with torch.device("meta"):
        csp = compile_neck(necks.cspnext_pafpn(blocks=1, expand=1 / 3), (96, 96, 96), 16)
        deep = compile_neck(necks.gfpn(depth=1, width=0.57), R50_3, 300)
    assert csp.body.get_submodule("td4_main.conv").out_channels == 32
    assert deep.body.get_submodule("l0_p3.conv").out_channels == int(300 * 0.57) == 170
