"""The necks of the literature, each a function from levels and options to a graph."""

from collections.abc import Callable

from nasneck.graph import NeckGraph
from nasneck.necks.asff import asff as asff
from nasneck.necks.augfpn import augfpn as augfpn
from nasneck.necks.bifpn import bifpn as bifpn
from nasneck.necks.carafe_fpn import carafe_fpn as carafe_fpn
from nasneck.necks.chain import chain as chain
from nasneck.necks.channel_mapper import channel_mapper as channel_mapper
from nasneck.necks.csp_pafpn import cspnext_pafpn as cspnext_pafpn
from nasneck.necks.csp_pafpn import yolox_pafpn as yolox_pafpn
from nasneck.necks.efficientdet import EFFICIENTDET as EFFICIENTDET
from nasneck.necks.efficientdet import efficientdet as efficientdet
from nasneck.necks.fpg import fpg as fpg
from nasneck.necks.fpn import fpn as fpn
from nasneck.necks.gfpn import gfpn as gfpn
from nasneck.necks.hrfpn import hrfpn as hrfpn
from nasneck.necks.libra import bfp as bfp
from nasneck.necks.libra import libra as libra
from nasneck.necks.mlfpn import mlfpn as mlfpn
from nasneck.necks.mnasfpn import mnasfpn as mnasfpn
from nasneck.necks.nas_fcos import nas_fcos as nas_fcos
from nasneck.necks.nas_fpn import nas_fpn as nas_fpn
from nasneck.necks.opanas import opanas as opanas
from nasneck.necks.panet import panet as panet
from nasneck.necks.qufpn import qufpn as qufpn
from nasneck.necks.spinenet import spinenet as spinenet
from nasneck.necks.ssh import ssh as ssh
from nasneck.necks.weighted_pan import weighted_pan as weighted_pan

NECKS: dict[str, Callable[..., NeckGraph]] = {
    "fpn": fpn,
    "panet": panet,
    "bifpn": bifpn,
    "efficientdet": efficientdet,
    "weighted_pan": weighted_pan,
    "qufpn": qufpn,
    "nas_fpn": nas_fpn,
    "mlfpn": mlfpn,
    "augfpn": augfpn,
    "nas_fcos": nas_fcos,
    "opanas": opanas,
    "mnasfpn": mnasfpn,
    "spinenet": spinenet,
    "asff": asff,
    "libra": libra,
    "hrfpn": hrfpn,
    "fpg": fpg,
    "yolox_pafpn": yolox_pafpn,
    "cspnext_pafpn": cspnext_pafpn,
    "gfpn": gfpn,
    "carafe_fpn": carafe_fpn,
    "ssh": ssh,
    "channel_mapper": channel_mapper,
}
