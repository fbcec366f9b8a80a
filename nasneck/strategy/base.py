"""The seam between a search and whoever chooses its candidates.

    ask() ────────> Ask(number, choices) ──> measured somewhere ──> tell(number, Outcome)
    inject(choices) ─┘ (given from outside, numbered as if asked)

A strategy answers every ``ask`` at once. There is no "nothing now, wait for tells": a learner that updates
in batches goes on proposing from what it knows, so any number of asks may be out, and tells may come in any
order. One that goes through the space and has come to its end raises :class:`Exhausted`. The same constructor
arguments and the same sequence of calls give the same asks in any process, which is what a resumed study
relies on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nasneck.decision import Choices, Decision, check_choices
from nasneck.errors import SpaceError, StudyError
from nasneck.settings import build
from nasneck.trial import Ask, Outcome

if TYPE_CHECKING:
    from torch import Tensor


class Exhausted(Exception):
    """Raised by ``ask`` when every vector of choices was asked: the natural end of a search, not a mistake."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a strategy has learnt, in forms that are read back without running code.

    Args:
        data: Ready for JSON.
        tensors: Stored with ``torch.save`` and read with ``weights_only=True``.
    """

    data: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


class Strategy(ABC):
    """Base of every strategy: numbers the asks, keeps the open ones and refuses tells that fit none.

    A subclass sets ``name``, ``description`` and ``Options`` (a frozen dataclass) and writes
    :meth:`propose` and :meth:`learn`; :meth:`adopt`, :meth:`state` and :meth:`load_state` if it needs them.

    Args:
        decisions: The space; at least one decision, names unique.
        seed: The only source of randomness.
        options: Fields of ``Options``.

    Raises:
        SpaceError: no decisions, or two of one name.
        ConfigError: an unknown option, or a value that does not fit.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    learns: ClassVar[bool] = True  # from values, of which only the first is read unless Options has ``objectives``
    Options: ClassVar[type[Any]]

    def __init__(self, decisions: Sequence[Decision], *, seed: int, **options: Any) -> None:
        if not decisions:
            raise SpaceError("the space has no decisions, so there is nothing to search")
        names = [decision.name for decision in decisions]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise SpaceError(f"decision {repeated[0]!r} occurs more than once in the space")
        self.decisions = tuple(decisions)
        self.seed = seed
        self.options = self.read_options(options, where=f"strategy {self.name!r}")
        self._next = 0
        self._open: dict[int, Choices] = {}

    @classmethod
    def read_options(cls, table: Mapping[str, Any], *, where: str) -> Any:
        """Return ``table`` as ``Options``; ``where`` opens the text of an error."""
        return build(cls.Options, table, where=where)

    @property
    def next_number(self) -> int:
        """Number of the next ask; so many were asked or injected so far."""
        return self._next

    @property
    def open_asks(self) -> tuple[Ask, ...]:
        """Asks without a tell, oldest first."""
        return tuple(Ask(number, choices) for number, choices in sorted(self._open.items()))

    def ask(self) -> Ask:
        """Return the next candidate to measure.

        Raises:
            Exhausted: there is none, and there will be none; no number is used up.
        """
        return self._register(self.propose(self._next))

    def inject(self, choices: Sequence[int]) -> Ask:
        """Register choices made elsewhere under the next number, as if asked; uses no randomness.

        Hand-designed graphs enter a search this way, and asks of a log that this strategy did not make.

        Raises:
            SpaceError: choices that do not fit the decisions.
        """
        ask = self._register(check_choices(self.decisions, choices))
        self.adopt(ask)
        return ask

    def tell(self, number: int, outcome: Outcome) -> None:
        """Report how the ask of this number ended, once.

        Raises:
            StudyError: a number that was never asked, or was told before.
        """
        if number not in self._open:
            told = isinstance(number, int) and 0 <= number < self._next
            known = "was told before" if told else f"was never asked ({self._next} asks so far)"
            raise StudyError(f"strategy {self.name!r}: cannot tell trial {number!r}, it {known}")
        self.learn(Ask(number, self._open.pop(number)), outcome)

    def snapshot(self) -> Snapshot | None:
        """Return all state, or None if this strategy can only be rebuilt by repeating its calls."""
        inner = self.state()
        if inner is None:
            return None
        data = {
            "strategy": self.name,
            "decisions": [[decision.name, decision.choices] for decision in self.decisions],
            "next": self._next,
            "open": [[number, list(choices)] for number, choices in self._open.items()],
            "state": dict(inner.data),
        }
        return Snapshot(data, inner.tensors)

    def restore(self, snapshot: Snapshot) -> None:
        """Take over the state of a strategy made with the same arguments; it then goes on identically.

        Raises:
            StudyError: a snapshot of another strategy, space or version.
        """
        data = snapshot.data
        decisions = [[decision.name, decision.choices] for decision in self.decisions]
        if data.get("strategy") != self.name or data.get("decisions") != decisions:
            raise StudyError(f"the snapshot is of another strategy or space than {self.name!r} over this one")
        try:
            self.load_state(Snapshot(data["state"], snapshot.tensors))
            self._open = {int(number): tuple(choices) for number, choices in data["open"]}
            self._next = int(data["next"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise StudyError(f"the snapshot does not fit strategy {self.name!r}: {error}") from error

    @abstractmethod
    def propose(self, number: int) -> Choices:
        """Choose the candidate that will get ``number``; the only place that may use randomness to choose."""

    @abstractmethod
    def learn(self, ask: Ask, outcome: Outcome) -> None:
        """Take in an outcome; called once per ask, in any order."""

    def adopt(self, ask: Ask) -> None:  # noqa: B027  (optional hook: nothing to do is the usual case)
        """Take note of an ask that came from outside."""

    def state(self) -> Snapshot | None:
        """Return what :meth:`load_state` needs beyond numbers and open asks; None if that is not possible."""
        return None

    def load_state(self, state: Snapshot) -> None:
        """Inverse of :meth:`state`."""
        raise StudyError(f"strategy {self.name!r} keeps no snapshots")

    def _register(self, choices: Choices) -> Ask:
        ask = Ask(self._next, choices)
        self._open[ask.number] = choices
        self._next += 1
        return ask
