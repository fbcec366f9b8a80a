"""Fixed necks as a search space would have them."""

from __future__ import annotations

from nasneck.errors import ConfigError
from nasneck.graph import NeckGraph
from nasneck.necks import NECKS
from nasneck.settings import did_you_mean
from nasneck.space.base import SearchSpace


def fixed_neck(name: str, space: SearchSpace) -> NeckGraph:
    """The fixed neck ``name`` over the levels of ``space``, stacked as often as its necks are.

    Whether it is in the space is another question, see :meth:`SearchSpace.encode`.

    Raises:
        ConfigError: no such neck, or one that does not repeat where those of the space do.
        GraphError: levels that it cannot have.
    """
    if name not in NECKS:
        raise ConfigError(f"unknown neck {name!r}{did_you_mean(name, NECKS)}")
    graph = space.decode((0,) * len(space.decisions))
    inputs = (graph.input_levels[0], graph.input_levels[-1])
    levels = (graph.output_levels[0], graph.output_levels[-1])
    repeats = getattr(space, "repeats", None)
    try:
        return NECKS[name](inputs, levels) if repeats is None else NECKS[name](inputs, levels, repeats=repeats)
    except TypeError:
        raise ConfigError(f"{name!r} is not a neck that repeats, so it is not in the space") from None
