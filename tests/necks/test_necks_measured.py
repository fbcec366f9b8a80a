"""Parameters, multiply-adds and output shapes at full size against those measured on the public implementations.

``measured.json`` names the implementation of each row. Where that fails on an image size, ours works.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nasneck import necks
from nasneck.compile import compile_neck
from nasneck.cost import count_macs, count_parameters, feature_shapes
from nasneck.errors import CompileError
from nasneck.graph import NeckGraph

MEASURED = json.loads((Path(__file__).parent / "measured.json").read_text(encoding="utf-8"))["peers"]

R25, R26, R37 = (2, 5), (2, 6), (3, 7)
TF = {"bias": True, "padding": "same"}
GRAPHS: dict[str, tuple[NeckGraph, int]] = {
    "tv_fpn_r50_pool": (necks.fpn(R25, R26, extra="pool"), 256),
    "tv_fpn_r50_p6p7_p5": (necks.fpn(), 256),
    "tv_fpn_r50_p6p7_c5": (necks.fpn(extra="input"), 256),
    "tv_fpn_r50_4lvl": (necks.fpn(R25, R25), 256),
    "mmdet_fpn_r50_pool": (necks.fpn(R25, R26, extra="pool"), 256),
    "mmdet_fpn_r50_on_input": (necks.fpn(R25, R37, extra="input", extra_relu=False), 256),
    "mmdet_fpn_r50_on_lateral": (necks.fpn(R25, R37, extra="lateral", extra_relu=False), 256),
    "mmdet_fpn_r50_on_output": (necks.fpn(R25, R37, extra_relu=False), 256),
    "mmdet_fpn_r50_on_output_relu": (necks.fpn(R25, R37), 256),
    "mmdet_pafpn_r50": (necks.panet(R25, R26, extra="pool", feed="sum"), 256),
    "mmdet_pafpn_r50_on_input": (necks.panet(R25, R37, extra="input", feed="sum"), 256),
    "mmdet_pafpn_r50_on_lateral": (necks.panet(R25, R37, extra="lateral", feed="sum"), 256),
    "mmdet_pafpn_r50_on_output": (necks.panet(R25, R37, feed="sum"), 256),
    "mmdet_nasfpn_r50_x7": (necks.nas_fpn(R25, dialect="mmdet", rounding="floor"), 256),
    "mmdet_nasfpn_r50_x1": (necks.nas_fpn(R25, repeats=1, dialect="mmdet", rounding="floor"), 256),
    "mmdet_nasfcos_r50": (necks.nas_fcos(R25), 256),
    "mmdet_bfp_l2_nonlocal": (necks.bfp(R26), 256),
    "mmdet_bfp_l2_none": (necks.bfp(R26, refine="none"), 256),
    "mmdet_bfp_l2_conv": (necks.bfp(R26, refine="conv"), 256),
    "mmdet_hrfpn_w32": (necks.hrfpn(R25, R26, rounding="floor"), 256),
    "mmdet_hrfpn_r50": (necks.hrfpn(R25, R26, rounding="floor"), 256),
    "mmdet_fpg_r50": (necks.fpg(R25), 256),
    "mmdet_yoloxpafpn_s": (necks.yolox_pafpn(blocks=1), 128),
    "mmdet_yoloxpafpn_r50": (necks.yolox_pafpn(), 256),
    "mmdet_cspnextpafpn_l": (necks.cspnext_pafpn(), 256),
    "mmdet_cspnextpafpn_r50": (necks.cspnext_pafpn(), 256),
    "mmdet_fpncarafe_r50": (necks.carafe_fpn(R25, R26), 256),
    "mmdet_ssh": (necks.ssh(), 64),
    "mmdet_ssh_256": (necks.ssh(R37, R37), 256),
    "mmdet_channelmapper_r50": (necks.channel_mapper(R25, R26), 256),
    "effdet_bifpn_d0": (necks.efficientdet(weights="effdet"), 64),
    "effdet_bifpn_d0_tf": (necks.efficientdet(), 64),
    "effdet_bifpn_r50_64x3": (necks.bifpn(), 64),
    "effdet_bifpn_r50_256x3": (necks.bifpn(), 256),
    "effdet_bifpn_sum_r50_64x3": (necks.bifpn(fusion="sum"), 64),
    "effdet_bifpn_attn_r50_64x3": (necks.bifpn(fusion="softmax"), 64),
    "effdet_bifpn_r50_64x3_tf": (necks.bifpn(**TF), 64),
    "effdet_bifpn_r50_256x3_nosep": (necks.bifpn(separable=False), 256),
    "effdet_pan_fa_r50_64x3": (necks.weighted_pan(), 64),
    "effdet_qufpn_fa_r50_64x3": (necks.qufpn(), 64),
    "effdet_bifpn_r50_64x3_at500x333": (necks.bifpn(), 64),
    "m2det_mlfpn_vgg": (necks.mlfpn((3, 4)), 256),
    "m2det_mlfpn_res": (necks.mlfpn((3, 4)), 256),
    "m2det_mlfpn_res_sfam": (necks.mlfpn((3, 4), sfam=True), 256),
    "augfpn_r50": (necks.augfpn(R25, R26, extra="pool"), 256),
    "augfpn_retinanet_r50": (necks.augfpn(R25, R37), 256),
    "asff_yolov3": (necks.asff(widen=True), 256),
    "giraffe_d7": (necks.gfpn(R37), 256),
}
# Of the size that effdet was built for, there are no multiply-adds at 512 px.
OTHER_SIZE = {"effdet_bifpn_r50_64x3_at500x333": (500, 333)}
# 3x2 cells are left for a 3x3 convolution without padding.
VANISHES = [(name, "384x256") for name in MEASURED if name.startswith("m2det")]


def test_every_measured_form_is_there() -> None:
    assert set(GRAPHS) == set(MEASURED)


@pytest.mark.parametrize("name", GRAPHS)
def test_like_the_implementation(name: str) -> None:
    graph, channels = GRAPHS[name]
    measured = MEASURED[name]
    with torch.device("meta"):
        neck = compile_neck(graph, measured["widths"], channels).eval()
    assert count_parameters(neck) == measured["parameters"]
    assert count_macs(neck, OTHER_SIZE.get(name, (512, 512))) / 1e9 == pytest.approx(measured["gmacs"], abs=1e-4)
    sizes = measured["sizes"]
    assert sizes and any(shapes is not None for shapes in sizes.values())
    for size, shapes in sizes.items():
        height, width = map(int, size.split("x"))
        features = [torch.empty(shape, device="meta") for shape in feature_shapes(neck, (height, width))]
        if (name, size) in VANISHES:
            with pytest.raises(CompileError, match=r"mlfpn: .* node 't0_e8' \(level 8\): a 3x3 .* 't0_e7' .* has 3x2"):
                neck(features)
            continue
        found = [list(out.shape[1:]) for out in neck(features)]
        if shapes is None:  # theirs fails
            halves = [[-(-height // 2**level), -(-width // 2**level)] for level in graph.output_levels]
            if name.startswith("m2det"):
                halves[-1] = [n - 2 for n in halves[-2]]
            if name.startswith("mmdet_hrfpn"):  # made of the finest map, in whole windows
                halves = [[n // 2 ** (level - 2) for n in halves[0]] for level in graph.output_levels]
            assert [shape[1:] for shape in found] == halves, size
        else:
            assert found == shapes, size
