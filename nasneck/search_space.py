"""The search space of an experiment."""

from __future__ import annotations

from typing import Any

from nasneck.errors import NasneckError, SpaceError
from nasneck.experiment import Choice, Experiment
from nasneck.proxy import NeckConfig
from nasneck.space import MergingCellSpace, SearchSpace, load_space


def build_space(choice: Choice, neck: NeckConfig) -> SearchSpace:
    """The search space of an experiment, over the levels that its necks have.

    Raises:
        SpaceError: no such space, or one over other levels.
    """
    options = dict(choice.options)
    if ":" not in choice.name:
        options = {**_over_levels(choice.name, neck), **options}
    space = load_space(choice.name, **options)
    try:
        graph = space.decode((0,) * len(space.decisions))
    except NasneckError:
        raise
    except Exception as error:  # of a user's own space
        raise SpaceError(f"space {choice.name!r} cannot be decoded: {type(error).__name__}: {error}") from None
    found = (graph.input_levels, graph.output_levels)
    wanted = tuple(tuple(range(first, last + 1)) for first, last in (neck.inputs, neck.levels))
    if found != wanted:
        raise SpaceError(
            f"space {choice.name!r} has inputs {list(found[0])} and levels {list(found[1])}, the experiment's necks "
            f"{list(wanted[0])} and {list(wanted[1])}"
        )
    return space


def _over_levels(name: str, neck: NeckConfig) -> dict[str, Any]:
    """Options that move a space from a file to the levels of ``neck``, its intermediate cells along with it."""
    options: dict[str, Any] = {"inputs": neck.inputs, "levels": neck.levels}
    space = load_space(name)
    if isinstance(space, MergingCellSpace) and space.levels != neck.levels:
        shift, (low, high) = neck.levels[0] - space.levels[0], neck.levels
        moved = (level + shift for level in space.intermediate_levels)
        options["intermediate_levels"] = tuple(level for level in moved if low <= level <= high)
    return options


def supernet_space(experiment: Experiment) -> SearchSpace | None:
    """The space whose candidates share weights; None if they do not.

    Raises:
        SpaceError: as for :func:`build_space`.
    """
    if experiment.proxy.fidelity != "shared":
        return None
    return build_space(experiment.space, experiment.neck)
