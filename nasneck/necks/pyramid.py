"""What the fixed necks have in common: which levels there are, and where a missing one comes from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from nasneck.errors import GraphError
from nasneck.graph import Act, Conv, Edge, NeckGraph, Node, Pool, input_node

LevelRange = tuple[int, int]
Extra = Literal["output", "input", "lateral", "pool"]


def backbone_features(
    neck: str, inputs: LevelRange, levels: LevelRange, *, least: int = 1, why: str = ""
) -> tuple[list[Node], list[int]]:
    """Return the backbone features C_a..C_b and the levels of the neck that have one.

    Args:
        neck: What the neck is called, for errors.
        inputs: First and last level that the backbone gives, both included.
        levels: First and last level that the neck gives, both included. Features finer than its first level
            or coarser than its last are left unread.
        least: Levels with a feature that the neck needs.
        why: Why it needs so many.

    Raises:
        GraphError: ranges that are empty, a neck that starts where the backbone has no features, or too few of
            them.
    """
    check_range(neck, "inputs", inputs)
    check_range(neck, "levels", levels)
    if not inputs[0] <= levels[0] <= inputs[1]:
        raise GraphError(
            f"{neck}: its finest level P{levels[0]} has no features: the backbone gives C{inputs[0]}..C{inputs[1]}"
        )
    features = [input_node(level) for level in range(inputs[0], inputs[1] + 1)]
    covered = [level for level in range(levels[0], levels[1] + 1) if level <= inputs[1]]
    if len(covered) < least:
        wanted = f"C{covered[0]}..C{covered[0] + least - 1}"
        have = f"C{inputs[0]}..C{inputs[1]} for P{levels[0]}..P{levels[1]}"
        raise GraphError(f"{neck}: {why}; it needs features on {least} levels ({wanted}), and has {have}")
    return features, covered


def check_range(neck: str, what: str, pair: LevelRange) -> None:
    """Raise :class:`GraphError` unless ``pair`` is a first and a last level."""
    whole = isinstance(pair, tuple | list) and len(pair) == 2 and all(type(level) is int for level in pair)
    if not whole or not 0 <= pair[0] <= pair[1]:
        raise GraphError(f"{neck}: {what}={pair!r} is not a first and a last level, such as (3, 5)")


def finish(
    neck: str,
    nodes: Iterable[Node],
    outputs: Mapping[int, str],
    levels: LevelRange,
    extra: Extra,
    *,
    relu: bool = True,
    sources: Mapping[Extra, str] | None = None,
) -> NeckGraph:
    """The graph called ``neck``, with the levels above its highest output made as :func:`extra_levels` says.

    Args:
        neck: Name of the graph.
        nodes: Its nodes.
        outputs: Level -> name of the node that is its output, for the levels that it makes itself.
        levels: First and last level wanted.
        extra: As for :func:`extra_levels`.
        relu: Likewise.
        sources: Maps on the highest level that ``extra`` may name beside its output.
    """
    top = max(outputs)
    from_top: dict[Extra, str] = {"output": outputs[top], **(sources or {})}
    extras = extra_levels(neck, extra, relu, top=top, last=levels[1], sources=from_top)
    every = {**outputs, **{level: node.name for level, node in extras.items()}}
    return NeckGraph([*nodes, *extras.values()], outputs=every, name=neck)


def check_choice(neck: str, option: str, value: object, known: Sequence[object]) -> None:
    """Raise :class:`GraphError` unless ``value`` is among ``known``."""
    if value not in known:
        raise GraphError(f"{neck}: {option}={value!r} is not one of {', '.join(map(repr, known))}")


def check_positive(neck: str, option: str, value: int) -> None:
    """Raise :class:`GraphError` unless ``value`` is a whole number of at least 1."""
    if type(value) is not int or value < 1:
        raise GraphError(f"{neck}: {option}={value!r} is not a whole number of at least 1")


def check_flags(neck: str, **flags: object) -> None:
    """Raise :class:`GraphError` unless every option is true or false."""
    for option, value in flags.items():
        if type(value) is not bool:
            raise GraphError(f"{neck}: {option}={value!r} is not true or false")


def check_share(neck: str, option: str, value: object) -> None:
    """Raise :class:`GraphError` unless ``value`` is a positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise GraphError(f"{neck}: {option}={value!r} is not a positive number")


def sizes_by_subsampling(last: int, levels: Iterable[int]) -> tuple[list[Node], dict[int, str]]:
    """Maps that only tell the sizes of ``levels``, each above the one before, from the feature of level ``last`` up.

    Every second cell, rounded up, at no cost: for necks that reach a level before they have a map on it.
    """
    nodes: list[Node] = []
    names: dict[int, str] = {}
    source = f"c{last}"
    for level in levels:
        names[level] = f"size{level}"
        nodes.append(Node(names[level], level, "sum", [Edge(source, [Pool("max", kernel=1, stride=2, padding=0)])]))
        source = names[level]
    return nodes, names


def extra_levels(
    neck: str, extra: Extra, relu: bool, *, top: int, last: int, sources: Mapping[Extra, str]
) -> dict[int, Node]:
    """Nodes for the levels above ``top``, each made from the one before.

    Args:
        neck: What the neck is called, for errors.
        extra: ``output``, ``input`` and ``lateral`` name the map that the first 3x3 convolution of stride 2
            reads; ``pool`` takes every second cell of the last output, without weights.
        relu: Whether a ReLU precedes the convolutions from the second extra level on.
        top: Coarsest level that has a backbone feature.
        last: Coarsest level wanted.
        sources: Node name of the map on level ``top`` for each choice of ``extra``.

    Raises:
        GraphError: an unknown ``extra``.
    """
    check_choice(neck, "extra", extra, [*sources, "pool"])
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
