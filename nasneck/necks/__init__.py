"""The necks of the literature, each a function from levels and options to a graph."""

from collections.abc import Callable

from nasneck.graph import NeckGraph
from nasneck.necks.bifpn import bifpn as bifpn
from nasneck.necks.fpn import fpn as fpn
from nasneck.necks.nas_fpn import nas_fpn as nas_fpn
from nasneck.necks.panet import panet as panet

NECKS: dict[str, Callable[..., NeckGraph]] = {
    "fpn": fpn,
    "panet": panet,
    "bifpn": bifpn,
    "nas_fpn": nas_fpn,
}
