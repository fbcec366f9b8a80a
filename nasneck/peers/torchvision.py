"""torchvision's state dicts (torchvision.ops.FeaturePyramidNetwork)."""

from __future__ import annotations

import re
from collections.abc import Callable

from nasneck.errors import CheckpointError
from nasneck.graph import Conv
from nasneck.peers.names import Names, Pairs


def fpn(names: Names) -> Pairs:
    """Laterals, outputs, and P6 and P7 if they are convolutions."""
    for i, level in enumerate(names.covered):
        yield from names.unit(f"td{level}.from_c{level}", f"inner_blocks.{i}", conv="0", norm="1")
        yield from names.unit(f"p{level}", f"layer_blocks.{i}", conv="0", norm="1")
    if names.extra and names.graph[names.graph.outputs[names.extra[0]]].inputs[0].source.startswith("td"):
        raise CheckpointError("fpn: torchvision makes P6 of P5 or C5; build it with extra='output' or 'input'")
    for level in names.extra[1:]:
        if isinstance((names.graph[names.graph.outputs[level]].inputs[0].ops or (None,))[0], Conv):
            raise CheckpointError(f"fpn: torchvision has a ReLU before P{level}; build it with extra_relu=True")
    for level, name in zip(names.extra, ("p6", "p7"), strict=False):
        yield from names.unit(f"p{level}.from_*", f"extra_blocks.{name}", conv="")


def normalize(key: str) -> str:
    """Older checkpoints, the published ones among them, have no ``.0`` in the names of plain convolutions."""
    return re.sub(r"((?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2", key)


NECKS: dict[str, Callable[[Names], Pairs]] = {"fpn": fpn}
