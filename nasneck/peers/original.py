"""State dicts of the authors' own code, for necks that mmdet does not have."""

from __future__ import annotations

from collections.abc import Callable

from nasneck.necks.opanas import PUBLISHED
from nasneck.peers.names import Names, Pairs


def mlfpn(names: Names) -> Pairs:
    """qijiezhao/M2Det: a shared module is listed once for each use."""
    every = names.graph.output_levels
    low, top = every[0], every[-1]
    deep = names.graph.input_levels[-1]
    tums = [node.name for node in names.built() if node.name.startswith("leach")]
    yield from names.unit(f"base.from_c{low}", "reduce")
    yield from names.unit(f"base.from_c{deep}", "up_reduce")
    shared = any(node.shares for node in names.built())
    for number, leach in enumerate(tums):
        uses = [f"leach.{i}" for i in range(len(tums))] if shared else [f"leach.{number}"]
        if number == 0 or not shared:
            yield from names.unit(leach, *uses)
        unet = f"unet{number + 1}"
        for level in every[1:]:
            yield from names.unit(f"t{number}_e{level}.from_*", f"{unet}.layers.{level - low - 1}")
        yield from names.unit(f"t{number}_d{top}.from_*", f"{unet}.toplayer.0")
        for level in every[:-1]:
            place = top - 1 - level
            yield from names.unit(names.edge(f"t{number}_d{level}", 1), f"{unet}.latlayer.{place}")
            yield from names.unit(f"t{number}_p{level}", f"{unet}.smooth.{place}")
    for place, level in enumerate(every):
        uses = range(len(every)) if shared else [place]
        gated = f"joined{level}" if level == low else f"p{level}"
        if level == low or not shared:
            yield f"{gated}.se.reduce", tuple(f"sfam_module.fc1.{i}" for i in uses)
            yield f"{gated}.se.expand", tuple(f"sfam_module.fc2.{i}" for i in uses)
    yield f"p{low}.norm", ("Norm",)


def augfpn(names: Names) -> Pairs:
    """Gus-Guo/AugFPN."""
    for i, level in enumerate(names.covered):
        yield from names.unit(f"lat{level}.from_*", f"lateral_convs.{i}")
        yield from names.unit(f"p{level}", f"fpn_convs.{i}")
    contexts = [node.name for node in names.built() if node.name.startswith("context")]
    for i, context in enumerate(contexts):
        yield from names.unit(f"{context}.from_*", f"high_lateral_conv.{i}", conv="")
    yield "residual.fusion.hidden.conv", ("high_lateral_conv_attention.0",)
    yield "residual.fusion.logits.conv", ("high_lateral_conv_attention.2",)
    for i, level in enumerate(names.extra, len(names.covered)):
        yield from names.unit(names.edge(f"p{level}", 0), f"fpn_convs.{i}")


def asff(names: Names) -> Pairs:
    """GOATmessi8/ASFF: levels are counted from the coarsest."""
    top = names.covered[-1]
    for level in names.covered:
        base = f"level_{top - level}_fusion"
        for position, edge in enumerate(names.graph[f"p{level}"].inputs):
            at = names.graph[edge.source].level
            assert at is not None
            kind = "compress" if at > level else "stride"
            theirs = f"{base}.{kind}_level_{top - at}"
            yield from names.unit(names.edge(f"p{level}", position), theirs, norm="batch_norm")
            squeeze = f"p{level}.fusion.squeeze{position}"
            yield from names.unit(squeeze, f"{base}.weight_level_{top - at}", norm="batch_norm")
        yield f"p{level}.fusion.logits.conv", (f"{base}.weight_levels",)
        yield from names.unit(f"p{level}", f"{base}.expand", norm="batch_norm")


def gfpn(names: Names) -> Pairs:
    """damo-cv/GiraffeDet: nodes are numbered in the order in which they are built."""
    made = [node.name for node in names.built() if not node.name.endswith("_in")]
    for number, name in enumerate(made):
        base = f"cell.giraffeNeck.fnode.{number}.after_combine"
        yield f"{name}.conv", (f"{base}.conv1x1",)
        yield f"{name}.conv_2", (f"{base}.conv.conv",)
        yield f"{name}.conv_2.depthwise", (f"{base}.conv.conv_dw",)
        yield f"{name}.conv_2.pointwise", (f"{base}.conv.conv_pw",)
        yield f"{name}.norm", (f"{base}.conv.bn",)


def opanas(names: Names) -> Pairs:
    """VDIGPKU/OPANAS: paths are numbered; the weights of deformable convolutions are not among ours."""
    low = names.covered[0]
    own = [level for level in names.graph.input_levels if low <= level < low + 4]
    for i, level in enumerate(own):
        yield from names.unit(f"lat{level}.from_c{level}", f"lateral_convs.{i}")
    yield "context.from_*.conv", ("topcontext.0.conv",)
    yield from names.unit(f"lat{low + 3}.from_lat*", "fpn_convs.0")
    yield from names.unit(f"p{low + 4}.from_*", "fpn_convs.1")
    number = 0
    for step, paths in enumerate(PUBLISHED, 1):
        for j, kind in enumerate(paths):
            base, prefix = f"features.{number}", f"s{step}{j}"
            number += 1
            if kind in ("TD", "BU"):
                called = {"TD": "tdm_convs", "BU": "bun_convs"}[kind]
                for i in range(4):
                    yield f"{prefix}_{i}.conv", (f"{base}.{called}.{i}",)
            elif kind == "FS":
                yield f"{prefix}_1.conv", (f"{base}.fuse.0", f"{base}.fuse.1")
            elif kind == "SE":
                yield f"{prefix}_coarser1.conv", (f"{base}.Pconv.0",)
                yield f"{prefix}_own0.conv", (f"{base}.Pconv.1",)
                yield f"{prefix}_finer1.from_*.conv", (f"{base}.Pconv.2",)


NECKS: dict[str, Callable[[Names], Pairs]] = {
    "mlfpn": mlfpn,
    "augfpn": augfpn,
    "asff": asff,
    "gfpn": gfpn,
    "opanas": opanas,
}
