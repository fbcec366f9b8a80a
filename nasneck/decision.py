"""Decisions: the flat, finite view of a search space that strategies see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasneck.errors import SpaceError

Choices = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """One dimension of a search space with a fixed number of choices.

    Args:
        name: Unique within the space, for example ``cell0.inputs``.
        choices: Number of choices, at least 1; a choice is an index in ``range(choices)``.
        kind: Decisions of one kind mean the same thing (``inputs``, ``level``, ``op``); a learner may
            share parameters among them.
    """

    name: str
    choices: int
    kind: str

    def __post_init__(self) -> None:
        if self.choices < 1:
            raise SpaceError(f"decision {self.name!r} has {self.choices} choices; it needs at least 1")


def check_choices(decisions: Sequence[Decision], choices: Sequence[int]) -> Choices:
    """Return ``choices`` as a tuple of ints.

    Raises:
        SpaceError: if their number or one of their values does not fit ``decisions``.
    """
    if len(choices) != len(decisions):
        raise SpaceError(f"{len(choices)} choices given, but the space has {len(decisions)} decisions")
    for decision, choice in zip(decisions, choices, strict=True):
        if isinstance(choice, bool) or int(choice) != choice or not 0 <= choice < decision.choices:
            raise SpaceError(f"choice {choice!r} for decision {decision.name!r} is not in 0..{decision.choices - 1}")
    return tuple(int(choice) for choice in choices)
