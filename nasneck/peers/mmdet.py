"""mmdet's state dicts (mmdet 3.3.0, mmdet/models/necks)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain, pairwise

from nasneck.errors import CheckpointError
from nasneck.graph import Attention, Conv
from nasneck.necks.nas_fpn import MMDET_ATTENTION
from nasneck.peers.names import Names, Pair, Pairs


def fpn(names: Names) -> Pairs:
    """FPN; further convolutions are appended to those of the outputs."""
    for i, level in enumerate(names.covered):
        yield from names.unit(f"td{level}.from_c{level}", f"lateral_convs.{i}")
        yield from names.unit(f"p{level}", f"fpn_convs.{i}")
    yield from _extra(names, "fpn_convs", len(names.covered))


def panet(names: Names) -> Pairs:
    """PAFPN."""
    for below, level in pairwise(names.covered[1:]):
        if names.graph[f"bu{level}"].inputs[1].source == f"p{below}":
            raise CheckpointError("panet: mmdet's PAFPN feeds the next level from the sum; build it with feed='sum'")
    for i, level in enumerate(names.covered):
        yield from names.unit(f"td{level}.from_c{level}", f"lateral_convs.{i}")
        yield from names.unit(f"fpn{level}", f"fpn_convs.{i}")
        if i:
            yield from names.unit(names.edge(f"bu{level}", 1), f"downsample_convs.{i - 1}")
            yield from names.unit(f"p{level}", f"pafpn_convs.{i - 1}")
    yield from _extra(names, "fpn_convs", len(names.covered))


def nas_fpn(names: Names) -> Pairs:
    """NASFPN, whose cells are called by their operation, the levels that they join and their own."""
    if any(isinstance(node.op, Attention) and node.op != MMDET_ATTENTION for node in names.built()):
        raise CheckpointError("nas_fpn: mmdet's attention is another one; build it with dialect='mmdet'")
    for i, level in enumerate(names.covered):
        yield from names.unit(f"p{level}.from_c{level}", f"lateral_convs.{i}")
    for i, level in enumerate(names.extra):
        yield from names.unit(f"p{level}.from_p{level - 1}", f"extra_downsamples.{i}.0")
    low = names.covered[0]
    cells = {
        "mid0": "gp_64_4",
        "mid1": "sum_44_4",
        f"p{low}": "sum_43_3",
        f"p{low + 1}": "sum_34_4",
        f"p{low + 2}": "sum_55_5",
        f"p{low + 4}": "sum_77_7",
        f"p{low + 3}": "gp_75_6",
    }
    for node in names.built():
        match = re.fullmatch(r"r(\d+)_(.+)", node.name)
        if match is not None and match[2] in cells:
            yield from names.unit(node.name, f"fpn_stages.{match[1]}.{cells[match[2]]}.out_conv")


def nas_fcos(names: Names) -> Pairs:
    """NASFCOS_FPN, whose cells are called by the ids that they join."""
    low = names.graph.output_levels[0]
    for i in range(3):
        yield from names.unit(f"a{low + i}.from_c{low + i}", f"adapt_convs.{i}")
    for number, called in enumerate(("c22_1", "c22_2", "c32", "c02", "c42", "c36", "c61"), 3):
        for position in range(2):
            yield from names.unit(names.edge(f"f{number}", position), f"fpn.{called}.input{position + 1}_conv")
        yield from names.unit(f"f{number}", f"fpn.{called}.out_conv")
    for i, level in enumerate(names.graph.output_levels[3:]):
        yield from names.unit(f"p{level}.from_*", f"extra_downsamples.{i}")


def bfp(names: Names, prefix: str = "") -> Pairs:
    """BFP."""
    yield f"{prefix}balanced.conv", ("refine.conv",)
    for ours, theirs in {"theta": "theta", "phi": "phi", "g": "g", "out": "conv_out"}.items():
        yield f"{prefix}balanced.non_local.{ours}", (f"refine.{theirs}.conv",)


def libra(names: Names) -> Pairs:
    """A list of two necks."""
    yield from _prefixed("0", fpn(names))
    yield from _prefixed("1", bfp(names, "n2_"))


def hrfpn(names: Names) -> Pairs:
    """HRFPN."""
    yield from names.unit("joined", "reduction_conv")
    for i, level in enumerate(names.graph.output_levels):
        yield from names.unit(f"p{level}", f"fpn_convs.{i}")


def fpg(names: Names) -> Pairs:
    """FPG: transitions by pathway, level and kind."""
    low = names.covered[0]
    for i, level in enumerate(names.covered):
        yield from names.unit(f"lat{level}.from_*", f"lateral_convs.{i}", conv="")
    for i, level in enumerate(names.extra):
        yield from names.unit(f"lat{level}.from_*", f"extra_downsamples.{i}", conv="")
    for node in names.built():
        match = re.fullmatch(r"s(\d+)_p(\d+)", node.name)
        if match is None:
            if re.fullmatch(r"p\d+", node.name):
                i = int(node.name[1:]) - low
                yield from names.unit(f"{node.name}.from_*", f"output_transition.{i}.conv_out")
            continue
        level = int(match[2])
        kinds = ["same_up"] * (level > low) + ["across_lateral"]
        kinds += ["across_down.conv"] * (level < names.graph.output_levels[-1]) + ["across_skip"]
        for position, kind in enumerate(kinds):
            theirs = f"fpn_transitions.{match[1]}.{level - low}.{kind}"
            yield from names.unit(names.edge(node.name, position), theirs)


def csp_pafpn(names: Names) -> Pairs:
    """YOLOXPAFPN and CSPNeXtPAFPN."""
    low, top = names.covered[0], names.covered[-1]
    for level in names.covered[1:]:
        yield from names.unit(f"lat{level}", f"reduce_layers.{top - level}")
        yield from _csp(names, f"td{level - 1}", f"top_down_blocks.{top - level}")
        yield from _units(names, names.edge(f"bu{level}_in", 0), f"downsamples.{level - low - 1}")
        yield from _csp(names, f"bu{level}", f"bottom_up_blocks.{level - low - 1}")
    for level in names.covered:
        yield from _units(names, f"p{level}", f"out_convs.{level - low}")


def carafe_fpn(names: Names) -> Pairs:
    """FPN_CARAFE."""
    for i, level in enumerate(names.graph.output_levels):
        yield from names.unit(f"lat{level}.from_*", f"lateral_convs.{i}")
        yield from names.unit(f"p{level}", f"fpn_convs.{i}")
        yield f"td{level}.from_*.carafe.compress", (f"upsample_modules.{i}.channel_compressor",)
        yield f"td{level}.from_*.carafe.encode", (f"upsample_modules.{i}.content_encoder",)


def ssh(names: Names) -> Pairs:
    """SSH."""
    for i, level in enumerate(names.covered):
        base = f"ssh_module{i}"
        yield from names.unit(f"three{level}", f"{base}.conv3x3")
        yield from names.unit(f"context{level}", f"{base}.context_module.conv5x5_1")
        yield from names.unit(f"five{level}", f"{base}.context_module.conv5x5_2")
        yield from names.unit(f"seven{level}", f"{base}.context_module.conv7x7_2")
        yield from names.unit(f"seven{level}", f"{base}.context_module.conv7x7_3", number=2)


def channel_mapper(names: Names) -> Pairs:
    """ChannelMapper."""
    for i, level in enumerate(names.covered):
        yield from names.unit(f"p{level}", f"convs.{i}")
    yield from _extra(names, "extra_convs", 0)


def _extra(names: Names, called: str, first: int) -> Pairs:
    for i, level in enumerate(names.extra, first):
        yield from names.unit(f"p{level}.from_*", f"{called}.{i}")


def _prefixed(prefix: str, pairs: Iterator[Pair]) -> Pairs:
    for ours, theirs in pairs:
        yield ours, tuple(f"{prefix}.{their}" for their in theirs)


def _csp(names: Names, ours: str, theirs: str) -> Pairs:
    yield from names.unit(f"{ours}_main", f"{theirs}.main_conv")
    yield from names.unit(f"{ours}_short", f"{theirs}.short_conv")
    yield from names.unit(ours, f"{theirs}.final_conv")
    blocks = [node for node in names.graph.nodes if re.fullmatch(rf"{ours}_block\d+", node.name)]
    for number, node in enumerate(blocks):
        # A depthwise convolution and the 1x1 one after it are one unit there.
        depthwise = [isinstance(op, Conv) and op.groups == "depthwise" for op in node.layers if isinstance(op, Conv)]
        called: list[str] = []
        for _ in range(2):
            unit = f"{theirs}.blocks.{number}.conv{1 if not called else 2}"
            split = depthwise[len(called)]
            called += [f"{unit}.depthwise_conv", f"{unit}.pointwise_conv"] if split else [unit]
        yield from chain.from_iterable(
            names.unit(node.name, unit, number=place) for place, unit in enumerate(called, 1)
        )


def _units(names: Names, ours: str, theirs: str) -> Pairs:
    """A convolution, or where ours are two, a depthwise and a 1x1 one."""
    if names.has(f"{ours}.conv_2"):
        yield from names.unit(ours, f"{theirs}.depthwise_conv")
        yield from names.unit(ours, f"{theirs}.pointwise_conv", number=2)
    else:
        yield from names.unit(ours, theirs)


NECKS: dict[str, Callable[[Names], Pairs]] = {
    "fpn": fpn,
    "panet": panet,
    "nas_fpn": nas_fpn,
    "nas_fcos": nas_fcos,
    "bfp": bfp,
    "libra": libra,
    "hrfpn": hrfpn,
    "fpg": fpg,
    "yolox_pafpn": csp_pafpn,
    "cspnext_pafpn": csp_pafpn,
    "carafe_fpn": carafe_fpn,
    "ssh": ssh,
    "channel_mapper": channel_mapper,
}
