"""effdet's state dicts (effdet.efficientdet.BiFpn): BiFPN and the other layouts of that file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from nasneck.graph.ops import Project
from nasneck.peers.names import Names, Pairs


def bifpn(names: Names) -> Pairs:
    """Nodes are numbered in the order in which they are built, inputs by their place in effdet's list."""
    low = names.covered[0]
    for level in names.extra:
        yield from names.unit(f"p{level}.from_*", f"resample.{level - low}.conv")
    count: Counter[str] = Counter()
    for node in names.built():
        match = re.match(r"r(\d+)_", node.name)
        if match is None:
            continue
        base = f"cell.{match[1]}.fnode.{count[match[1]]}"
        count[match[1]] += 1
        yield f"{node.name}.fusion.weight", (f"{base}.combine.edge_weights",)
        for position, edge in enumerate(node.inputs):
            if any(isinstance(op, Project) for op in edge.ops or ()):
                at = names.graph[edge.source].level
                assert at is not None
                theirs = f"{base}.combine.resample.{at - low}.conv"
                yield from names.unit(names.edge(node.name, position), theirs)
        conv = f"{base}.after_combine.conv"
        yield f"{node.name}.conv.depthwise", (f"{conv}.conv_dw",)
        yield f"{node.name}.conv.pointwise", (f"{conv}.conv_pw",)
        yield from names.unit(node.name, conv)


NECKS: dict[str, Callable[[Names], Pairs]] = {"bifpn": bifpn, "weighted_pan": bifpn, "qufpn": bifpn}
