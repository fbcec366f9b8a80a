"""What the fixed necks have in common: which levels there are, and where a missing one comes from."""

from __future__ import annotations

from typing import Literal

from nasneck.errors import GraphError
from nasneck.graph import Act, Conv, Edge, Node, Pool, input_node

LevelRange = tuple[int, int]
Extra = Literal["output", "input", "lateral", "pool"]


def backbone_features(inputs: LevelRange, levels: LevelRange) -> tuple[list[Node], list[int]]:
    """Return the backbone features C_a..C_b and the levels of the neck that have one.

    Args:
        inputs: First and last level that the backbone gives, both included.
        levels: First and last level that the neck gives, both included. Features finer than its first level
            or coarser than its last are left unread.

    Raises:
        GraphError: ranges that are empty, or a neck that starts where the backbone has no features.
    """
    for what, pair in (("inputs", inputs), ("levels", levels)):
        whole = isinstance(pair, tuple | list) and len(pair) == 2 and all(type(level) is int for level in pair)
        if not whole or not 0 <= pair[0] <= pair[1]:
            raise GraphError(f"{what}={pair!r} is not a first and a last level, such as (3, 5)")
    if not inputs[0] <= levels[0] <= inputs[1]:
        raise GraphError(
            f"the neck's finest level P{levels[0]} has no features: the backbone gives C{inputs[0]}..C{inputs[1]}"
        )
    features = [input_node(level) for level in range(inputs[0], inputs[1] + 1)]
    covered = [level for level in range(levels[0], levels[1] + 1) if level <= inputs[1]]
    return features, covered


def check_range(what: str, pair: LevelRange) -> None:
    """Raise :class:`GraphError` unless ``pair`` is a first and a last level."""
    whole = isinstance(pair, tuple | list) and len(pair) == 2 and all(type(level) is int for level in pair)
    if not whole or not 0 <= pair[0] <= pair[1]:
        raise GraphError(f"{what}={pair!r} is not a first and a last level, such as (3, 5)")


def extra_levels(extra: Extra, relu: bool, *, top: int, last: int, sources: dict[Extra, str]) -> dict[int, Node]:
    """Nodes for the levels above ``top``, each made from the one before.

    Args:
        extra: ``output``, ``input`` and ``lateral`` name the map that the first 3x3 convolution of stride 2
            reads; ``pool`` takes every second cell of the last output, without weights.
        relu: Whether a ReLU precedes the convolutions from the second extra level on.
        top: Coarsest level that has a backbone feature.
        last: Coarsest level wanted.
        sources: Node name of the map on level ``top`` for each choice of ``extra``.

    Raises:
        GraphError: an unknown ``extra``.
    """
    known = [*sources, "pool"]
    if extra not in known:
        raise GraphError(f"extra={extra!r} is not one of {', '.join(map(repr, known))}")
    found: dict[int, Node] = {}
    source = sources["output" if extra == "pool" else extra]
    for level in range(top + 1, last + 1):
        if extra == "pool":
            # torchvision calls a single such level "pool"
            name = "pool" if last == top + 1 else f"p{level}"
            edge = Edge(source, (Pool("max", kernel=1, stride=2, padding=0),))
        else:
            name = f"p{level}"
            before = (Act("relu"),) if relu and level > top + 1 else ()
            edge = Edge(source, (*before, Conv(3, stride=2)))
        found[level] = Node(name, level, "sum", (edge,))
        source = name
    return found
