"""In this process, one candidate at a time or a few in turns."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nasneck.data import DetectionData
from nasneck.experiment import Experiment
from nasneck.graph import NeckGraph
from nasneck.proxy import ProxyTask
from nasneck.proxy.views import Progress as Preparing
from nasneck.runner import Desk, Summary, run
from nasneck.search_space import supernet_space
from nasneck.space import SearchSpace
from nasneck.trial import Measurement
from nasneck.workplace.base import evaluator, halving_of, search_key


class LocalWorkplace:
    """See :class:`nasneck.workplace.Workplace`.

    Args:
        experiment: What to measure.
        data: Its images.
        store: Folder for features and the weights that candidates start from.
    """

    def __init__(self, experiment: Experiment, data: DetectionData, *, store: Path) -> None:
        self._experiment = experiment
        self._task = ProxyTask(
            experiment.proxy,
            experiment.neck,
            data,
            store=store,
            device=experiment.device,
            objective=experiment.objective,
            space=supernet_space(experiment),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was started."""

    @property
    def workers(self) -> int:
        """Candidates that take turns."""
        return self._experiment.resources.together

    @property
    def computed(self) -> dict[str, Any]:
        """Device and number format of this process."""
        return computed_by(self._task)

    def prepare(self, progress: Preparing) -> None:
        """Train or load the backbone, compute features."""
        self._task.prepare(progress, seed=self._experiment.seed)

    def cache_key(self, graph: NeckGraph) -> str:
        """That of the proxy task, whatever the processor."""
        return search_key(self._task.context(seed=self._experiment.seed), graph)

    def refuse(self, graph: NeckGraph) -> Measurement | None:
        """By parameters and multiply-adds."""
        return self._task.deployed.refuse(graph)

    def run(self, desk: Desk[NeckGraph], space: SearchSpace, *, folder: Path) -> Summary:
        """Measure until the desk has no more jobs."""
        experiment = self._experiment
        return run(
            desk,
            evaluator(self._task, experiment),
            halving=halving_of(experiment, desk.study),
            timeout_s=experiment.proxy.timeout_s,
            together=experiment.resources.together,
        )


def computed_by(task: ProxyTask) -> dict[str, Any]:
    """What the rewards of one study must have in common."""
    return {"device": task.device.type, "bfloat16": task.amp}
