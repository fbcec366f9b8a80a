"""Each neck of ours beside the plain module that it should equal, with the options that make them the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from plain import (
    asff,
    augfpn,
    bfp,
    channel_mapper,
    cspnext_pafpn,
    fpg,
    fpn,
    fpn_carafe,
    giraffe,
    hrfpn,
    m2det,
    mnasfpn,
    nas_fpn,
    nasfcos_fpn,
    opa_fpn,
    pafpn,
    spinenet,
    ssh,
    yolox_pafpn,
)
from plain.layers import ConvModule
from torch import nn

from nasneck import necks
from nasneck.graph import NeckGraph

WIDTHS = {2: 8, 3: 12, 4: 16, 5: 20, 6: 24, 7: 28}


@dataclass(frozen=True)
class Case:
    """A neck of ours, and the same of theirs.

    Args:
        ours: The graph.
        theirs: Makes the plain module from the widths of the features, finest first, and the neck's width.
        source: Whose names its state dict has; None where the test holds the names.
        channels: Width of the neck.
        widths: Widths of the features where not ``WIDTHS``.
        size: Height and width of the images.
    """

    ours: NeckGraph
    theirs: Callable[[list[int], int], nn.Module]
    source: str | None = "mmdet"
    channels: int = 16
    widths: Mapping[int, int] = field(default_factory=dict)
    size: tuple[int, int] = (128, 256)


def plain(cls: Callable[..., nn.Module], **options: Any) -> Callable[[list[int], int], nn.Module]:
    return lambda widths, channels: cls(widths, channels, **options)


def mlfpn_of(widths: list[int], channels: int, *, sfam: bool = True) -> nn.Module:
    return m2det.MLFPN(widths, channels, num_levels=2, num_scales=4, sfam=sfam, base_channels=(16, 32))


def unshared(module: nn.Module) -> nn.Module:
    """``module`` with weights of its own wherever a list holds one module several times."""
    for part in list(module.modules()):
        if isinstance(part, nn.ModuleList) and len(set(map(id, part))) < len(part):
            for i, shared in enumerate(part):
                part[i] = copy.deepcopy(shared)
    return module


def strided(module: nn.Module) -> nn.Module:
    """``module`` with a stride of 2 in place of convolutions without padding."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3) and conv.padding == (0, 0):
            conv.stride, conv.padding = (2, 2), (1, 1)
    return module


class RetinaNetOpa(opa_fpn.OPA_FPN):
    """OPA-FPN of three features: the fourth lateral and the fifth output are convolutions with a stride."""

    def __init__(self, widths: list[int], channels: int) -> None:
        super().__init__([*widths, channels], channels, num_outs=4)
        self.lateral_convs[3] = nn.Identity()
        self.fpn_convs = nn.ModuleList([ConvModule(channels, channels, 3, stride=2) for _ in range(2)])

    def forward(self, features):
        coarser = self.fpn_convs[0](self.lateral_convs[2](features[2]))
        outs = super().forward([*features, coarser])
        return (*outs, self.fpn_convs[1](outs[-1]))


R25, R35 = (2, 5), (3, 5)
ODD = (132, 101)  # for those whose peers take any size
SAME = dict.fromkeys(range(2, 8), 16)
CASES = {
    "fpn pool": Case(necks.fpn(R25, (2, 6), extra="pool"), plain(fpn.FPN, num_outs=5)),
    **{
        f"fpn {extra}{' relu' if relu else ''}": Case(
            necks.fpn(extra=extra, extra_relu=relu),
            plain(fpn.FPN, num_outs=5, add_extra_convs=f"on_{extra}", relu_before_extra_convs=relu),
            size=ODD,
        )
        for extra in ("input", "lateral", "output")
        for relu in (False, True)
    },
    "fpn norm": Case(necks.fpn(R35, R35, norm=True), plain(fpn.FPN, num_outs=3, norm=True), size=ODD),
    "panet pool": Case(necks.panet(R25, (2, 6), extra="pool", feed="sum"), plain(pafpn.PAFPN, num_outs=5), size=ODD),
    **{
        f"panet {extra}": Case(
            necks.panet(extra=extra, extra_relu=False, feed="sum"),
            plain(pafpn.PAFPN, num_outs=5, add_extra_convs=f"on_{extra}"),
            size=ODD,
        )
        for extra in ("input", "lateral", "output")
    },
    "nas_fpn": Case(necks.nas_fpn(repeats=2, dialect="mmdet", rounding="floor"), plain(nas_fpn.NASFPN, stack_times=2)),
    "nas_fcos": Case(necks.nas_fcos(), plain(nasfcos_fpn.NASFCOS_FPN, num_outs=5), size=ODD),
    **{
        f"bfp {refine}": Case(
            necks.bfp(refine=refine),
            plain(bfp.BFP, refine_type=None if refine == "none" else refine),
            widths=SAME,
            size=ODD,
        )
        for refine in ("none", "conv", "non_local")
    },
    "hrfpn": Case(necks.hrfpn(R25, (2, 6)), plain(hrfpn.HRFPN, num_outs=5)),
    "hrfpn max": Case(
        necks.hrfpn(R25, (2, 6), pool="max", rounding="floor"), plain(hrfpn.HRFPN, num_outs=5, pooling="max")
    ),
    "bfp elsewhere": Case(
        necks.bfp((3, 6), refine="conv", at=4), plain(bfp.BFP, refine_type="conv", refine_level=1), widths=SAME
    ),
    "panet norm": Case(
        necks.panet(R35, R35, feed="sum", norm=True), plain(pafpn.PAFPN, num_outs=3, norm=True), size=ODD
    ),
    "carafe of other windows": Case(
        necks.carafe_fpn(R25, R25, kernel=3, encoder=1, compressed=4),
        plain(fpn_carafe.FPN_CARAFE, num_outs=4, up_kernel=3, encoder_kernel=1, compressed_channels=4),
    ),
    "fpg": Case(necks.fpg(stacks=6), plain(fpg.FPG, stack_times=6, add_extra_convs=True)),
    "fpg pool": Case(necks.fpg(stacks=5, extra_convs=False), plain(fpg.FPG, stack_times=5)),
    "yolox": Case(necks.yolox_pafpn(blocks=2), plain(yolox_pafpn.YOLOXPAFPN, num_csp_blocks=2)),
    "yolox depthwise": Case(
        necks.yolox_pafpn((2, 5), (2, 5), blocks=1, depthwise=True),
        plain(yolox_pafpn.YOLOXPAFPN, num_csp_blocks=1, use_depthwise=True),
    ),
    "cspnext": Case(necks.cspnext_pafpn(blocks=2), plain(cspnext_pafpn.CSPNeXtPAFPN, num_csp_blocks=2)),
    "cspnext depthwise": Case(
        necks.cspnext_pafpn(blocks=1, depthwise=True, expand=0.25, eps=1e-5, momentum=0.1),
        plain(
            cspnext_pafpn.CSPNeXtPAFPN,
            num_csp_blocks=1,
            use_depthwise=True,
            expand_ratio=0.25,
            bn_eps=1e-5,
            bn_momentum=0.1,
        ),
    ),
    "carafe": Case(
        necks.carafe_fpn(compressed=6), plain(fpn_carafe.FPN_CARAFE, num_outs=5, compressed_channels=6), size=ODD
    ),
    "ssh": Case(necks.ssh(), plain(ssh.SSH), size=ODD),
    "channel_mapper": Case(necks.channel_mapper(), plain(channel_mapper.ChannelMapper, num_outs=5), size=ODD),
    "channel_mapper norm": Case(
        necks.channel_mapper(kernel=1, norm=True),
        plain(channel_mapper.ChannelMapper, num_outs=5, kernel_size=1, norm=True),
        size=ODD,
    ),
    "mlfpn": Case(
        necks.mlfpn((3, 4), tums=3),
        plain(m2det.MLFPN, num_levels=3, base_channels=(16, 32)),
        "original",
        size=(320, 384),
    ),
    "mlfpn sfam": Case(
        necks.mlfpn((3, 4), (3, 6), tums=2, sfam=True, smooth=False),
        plain(m2det.MLFPN, num_levels=2, num_scales=4, sfam=True, smooth=False, base_channels=(16, 32)),
        "original",
    ),
    "mlfpn not shared": Case(
        necks.mlfpn((3, 4), (3, 6), tums=2, sfam=True, shared=False),
        lambda *given: unshared(mlfpn_of(*given)),
        "original",
    ),
    "mlfpn for small images": Case(
        necks.mlfpn((3, 4), (3, 6), tums=2, valid=False),
        lambda *given: strided(mlfpn_of(*given, sfam=False)),
        "original",
    ),
    "augfpn ratios": Case(
        necks.augfpn(R25, (2, 6), extra="pool", ratios=(0.25, 0.5)),
        plain(augfpn.HighFPN, num_outs=5, pool_ratios=(0.25, 0.5)),
        "original",
    ),
    "augfpn": Case(necks.augfpn(R25, (2, 6), extra="pool"), plain(augfpn.HighFPN, num_outs=5), "original"),
    "augfpn retinanet": Case(
        necks.augfpn(), plain(augfpn.HighFPNRetinanet, num_outs=5, train_with_auxiliary=True), "original"
    ),
    "augfpn fcos": Case(
        necks.augfpn(extra="output", extra_relu=True),
        plain(
            augfpn.HighFPNRetinanet,
            num_outs=5,
            train_with_auxiliary=True,
            extra_convs_on_inputs=False,
            relu_before_extra_convs=True,
        ),
        "original",
    ),
    "asff": Case(necks.asff(widen=True, squeeze=4), plain(asff.ASFF, weight_channels=4), "original", widths={3: 16}),
    "gfpn": Case(
        necks.gfpn((3, 7), depth=3),
        plain(giraffe.GiraffeNeck, inner_channels=16, depth_multiplier=3, width_multiplier=0.7),
        "original",
    ),
    "gfpn dense": Case(
        necks.gfpn((3, 7), depth=2, width=1.0, skip="dense"),
        plain(
            giraffe.GiraffeNeck, inner_channels=16, depth_multiplier=2, width_multiplier=1.0, skip_connect_type="dense"
        ),
        "original",
    ),
    "opanas": Case(necks.opanas(R25, (2, 6)), plain(opa_fpn.OPA_FPN, num_outs=5), "original"),
    "opanas retinanet": Case(necks.opanas(), RetinaNetOpa, "original"),
    # no feature as wide as the neck: theirs would then add it to the first cell's output
    "mnasfpn": Case(necks.mnasfpn(repeats=2), plain(mnasfpn.MnasFPN, repeats=2), None, widths={4: 18}),
    "spinenet": Case(
        necks.spinenet(padding="same"),
        lambda widths, channels: spinenet.SpineNet(widths, channels, filter_size_scale=channels / 256),
        None,
        widths={2: 4},
    ),
    "spinenet repeated": Case(
        necks.spinenet(padding="same", block_repeats=2, alpha=1.0),
        lambda widths, channels: spinenet.SpineNet(
            widths, channels, filter_size_scale=channels / 256, block_repeats=2, alpha=1.0
        ),
        None,
        widths={2: 4},
    ),
}
