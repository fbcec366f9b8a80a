"""What a search wants of the place where its candidates are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from nasneck.experiment import Experiment
from nasneck.graph import NeckGraph
from nasneck.proxy import ProxyTask, evaluation_key
from nasneck.proxy.views import Progress as Preparing
from nasneck.runner import Desk, Halving, Summary
from nasneck.runner.measuring import Evaluate
from nasneck.space import SearchSpace
from nasneck.study import Study
from nasneck.trial import Measurement

Warn = Callable[[str], object]


def search_key(context: Mapping[str, Any], graph: NeckGraph) -> str:
    """When two graphs of one study need no second measurement.

    Without the name of the device, which :meth:`ProxyTask.cache_key` has for the sake of latencies: a study keeps
    to one kind of device, but may go on with other threads, or on other machines of a cluster.
    """
    return evaluation_key({name: value for name, value in context.items() if name != "device"}, graph)


class Workplace(Protocol):
    """A context manager; leaving it ends whatever it started."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def computed(self) -> dict[str, Any]:
        """How it computes. A GPU and a CPU, or two number formats, would put rewards of different origin into
        one ranking, so one study keeps to one of these."""
        ...

    @property
    def workers(self) -> int:
        """Candidates measured at once."""
        ...

    def prepare(self, progress: Preparing) -> None:
        """Do once what all candidates share. May raise a ``NasneckError``."""
        ...

    def cache_key(self, graph: NeckGraph) -> str:
        """When two graphs need no second measurement; after :meth:`prepare`."""
        ...

    def refuse(self, graph: NeckGraph) -> Measurement | None:
        """Says of a graph that it is over a limit, without measuring it; after :meth:`prepare`."""
        ...

    def run(self, desk: Desk[NeckGraph], space: SearchSpace, *, folder: Path) -> Summary:
        """Measure until the desk has no more jobs; ``folder`` is the study's."""
        ...


def halving_of(experiment: Experiment, study: Study) -> Halving | None:
    """Successive halving as ``experiment`` wants it, with what ``study`` knows."""
    halving = experiment.halving
    return Halving(len(halving.steps), halving.reduction, study.trials()) if halving.steps else None


def evaluator(task: ProxyTask, experiment: Experiment) -> Evaluate:
    """What measures graphs for a search."""

    def evaluate(graph: NeckGraph, latencies: Mapping[str, float] | None = None) -> Iterator[Measurement | None]:
        return task.stepwise(graph, seed=experiment.seed, rungs=experiment.halving.steps, latencies=latencies)

    return evaluate
