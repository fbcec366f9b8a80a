"""Optuna's samplers as strategies: every decision is a categorical parameter with a fixed number of choices.

    ask ────> study.ask ──> choices          inject ──> added as a running trial, past the sampler
    tell ───> study.tell: complete, pruned at its rung, or failed

The study is in memory and belongs to one strategy: what is durable is the log of the search, and a resume
repeats it. Brute force and grid learn nothing from values. Their trials are never told, so that no outcome
can bring a vector back, and each vector comes exactly once, in whatever order the results come in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from nasneck.decision import Choices, Decision
from nasneck.device import one_thread
from nasneck.errors import ConfigError
from nasneck.strategy.base import Exhausted, Strategy
from nasneck.strategy.optuna_samplers import LIMITS, make_sampler, sampler_name
from nasneck.strategy.optuna_tools import distributions_of, quiet
from nasneck.trial import Ask, Outcome, State


@dataclass(frozen=True, slots=True)
class OptunaOptions:
    """Settings of Optuna's strategies.

    Args:
        sampler: ``tpe``, ``gp``, ``nsgaii``, ``nsgaiii``, ``random``, ``brute_force`` or ``grid``; spelled as
            Optuna's class is fine too.
        settings: Arguments of the sampler's constructor, for example ``n_startup_trials``.
        objectives: Values per outcome, all of them maximised.
    """

    sampler: str = "tpe"
    settings: Mapping[str, Any] = field(default_factory=dict)
    objectives: int = 1

    def __post_init__(self) -> None:
        sampler_name(self.sampler)
        if self.objectives < 1:
            raise ConfigError(f"objectives = {self.objectives!r} is less than 1")


class OptunaStrategy(Strategy):
    """Asks one of Optuna's samplers.

    How outcomes arrive: usable values (finite, one per objective) as a complete trial, cached ones too; a
    pruned outcome as Optuna's pruned trial with its value at its rung, which TPE ranks below all complete ones
    and the others pass over (with several objectives Optuna keeps no such value); everything else as failed,
    which every sampler passes over.
    """

    name = "optuna"
    description = "a sampler of Optuna: tpe, gp, nsgaii, nsgaiii, random, brute_force or grid"
    Options = OptunaOptions
    options: OptunaOptions

    def __init__(self, decisions: Sequence[Decision], *, seed: int, **options: Any) -> None:
        super().__init__(decisions, seed=seed, **options)
        sampler = sampler_name(self.options.sampler)
        try:
            self._sampler = make_sampler(sampler, self.decisions, seed=seed, settings=self.options.settings)
        except ConfigError as error:
            raise ConfigError(f"strategy {self.name!r}: {error}") from None
        import optuna
        from optuna.study import StudyDirection

        with quiet():
            self._distributions = distributions_of(self.decisions)
            self._storage = optuna.storages.InMemoryStorage()
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=self.name,
                sampler=self._sampler,
                directions=[StudyDirection.MAXIMIZE] * self.options.objectives,
            )
        self._numbers: dict[int, int] = {}  # of open asks, in Optuna's study
        self._top = 0  # the highest rung that was told
        self._size = math.prod(decision.choices for decision in self.decisions)
        # Of a sampler that goes through the space: what was asked or injected.
        self._given: set[Choices] | None = set() if sampler in LIMITS else None

    def propose(self, number: int) -> Choices:
        """Ask the sampler."""
        if self._given is not None:
            return self._next_of_all(self._given)
        self._numbers[number], choices = self._ask()
        return choices

    def adopt(self, ask: Ask) -> None:
        """Show the sampler a running trial that it did not choose.

        Past the sampler, as Optuna's own way in (a queue that ``ask`` reads) draws random numbers. A sampler
        that goes through the space gets to see nothing: the vector is passed over when its turn comes, and
        the order of the others stays the same.
        """
        if self._given is not None:
            self._given.add(ask.choices)
            return
        import optuna

        with self._apart():
            names = [decision.name for decision in self.decisions]
            self._study.add_trial(
                optuna.create_trial(
                    state=optuna.trial.TrialState.RUNNING,
                    params=dict(zip(names, ask.choices, strict=True)),
                    distributions=self._distributions,
                )
            )
            trial = self._study.get_trials(deepcopy=False)[-1]
            self._numbers[ask.number] = trial.number
            if isinstance(self._sampler, optuna.samplers.BaseGASampler):
                # Enters it into the present generation; a trial without one would never become a parent.
                self._sampler.get_trial_generation(self._study, trial)

    def learn(self, ask: Ask, outcome: Outcome) -> None:
        """Tell the sampler, if it learns."""
        if self._given is not None:
            return
        from optuna.trial import TrialState

        number = self._numbers.pop(ask.number)
        values = [float(value) for value in outcome.values]
        self._top = max(self._top, outcome.rung)
        # A duplicate of one that was stopped early has that one's early value.
        early = outcome.state is State.PRUNED or (outcome.state is State.CACHED and outcome.rung < self._top)
        usable = len(values) == self.options.objectives and all(map(math.isfinite, values))
        with self._apart():
            if not outcome.state.has_values or not usable:
                self._study.tell(number, state=TrialState.FAIL)
            elif early:
                if len(values) == 1:
                    self._report(number, outcome.rung, values[0])
                self._study.tell(number, state=TrialState.PRUNED)
            else:
                self._study.tell(number, values)

    def _ask(self) -> tuple[int, Choices]:
        with self._apart():
            trial = self._study.ask(self._distributions)
            params = trial.params
        return trial.number, tuple(params[decision.name] for decision in self.decisions)

    def _next_of_all(self, given: set[Choices]) -> Choices:
        # Ends: every vector that Optuna asks is given then, and it asks none twice while trials stay untold.
        while len(given) < self._size:
            _, choices = self._ask()
            if choices not in given:
                given.add(choices)
                return choices
        raise Exhausted(f"all {self._size:,} vectors of choices were asked")

    def _report(self, number: int, rung: int, value: float) -> None:
        # What Trial.report does; a Trial object of an injected trial could not be had without asking the sampler.
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        self._storage.set_trial_intermediate_value(trial_id, rung, value)

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Neither see nor change what is global: torch's generators, threads and gradient modes, the log."""
        with (
            quiet(),
            torch.random.fork_rng(devices=[]),
            one_thread(),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            yield
