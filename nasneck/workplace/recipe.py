"""All that another process, on whichever machine, needs to build the proxy task of an experiment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from nasneck.data import load_data
from nasneck.errors import ClusterError, DataError
from nasneck.experiment import Experiment
from nasneck.provenance import version
from nasneck.proxy import ProxyTask
from nasneck.proxy.views import Progress as Preparing
from nasneck.runner.measuring import Evaluate
from nasneck.search_space import supernet_space
from nasneck.workplace.base import evaluator
from nasneck.workplace.local import computed_by

Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Travels to workers by pickle.

    Args:
        experiment: With a path of the data that does not hang on a current directory.
        data_digest: Of the images that the driver sees.
        device: ``cpu`` or ``cuda``: in a worker, the GPU that Ray gave it is the only one.
        features: Folder for features that all workers who see it share; others compute their own.
        folder: Current directory of the driver; other paths of a user's may be relative to it.
        version: Of nasneck, there.
    """

    experiment: Experiment
    data_digest: str
    device: str
    features: str | None = None
    folder: str = field(default_factory=lambda: str(Path.cwd()))
    version: str = field(default_factory=version)

    def check(self) -> None:
        """Find out whether this machine has what a trial needs.

        Raises:
            NasneckError: another version of nasneck, no data, or other data.
        """
        self._data()

    def task(self, weights: Weights | None = None) -> ProxyTask:
        """The proxy task, on this machine.

        Raises:
            NasneckError: as for :meth:`check`, or settings that cannot work here.
        """
        experiment, data = self.experiment, self._data()
        return ProxyTask(
            experiment.proxy,
            experiment.neck,
            data,
            store=None,
            device=self.device,
            weights=weights,
            objective=experiment.objective,
            features=self.features if self.features is not None and Path(self.features).is_dir() else None,
            space=supernet_space(experiment),
        )

    def _data(self) -> Any:
        if version() != self.version:
            raise ClusterError(f"nasneck is {version()} here and {self.version} at the driver; install the same")
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
            if self.folder not in sys.path:
                sys.path.append(self.folder)  # for search spaces that are functions of the user's
        data = load_data(self.experiment.data)
        if data.digest != self.data_digest:
            raise DataError(
                f"{self.experiment.data.root} holds other images or annotations here than at the driver "
                f"(digest {data.digest[:12]}, not {self.data_digest[:12]})"
            )
        return data


@dataclass(frozen=True, slots=True)
class Prepared:
    """What all workers start from.

    Args:
        context: Of evaluations, see :meth:`nasneck.proxy.ProxyTask.context`.
        weights: That candidates start from, if they are our own.
        in_channels: Widths of the backbone's levels.
    """

    context: Mapping[str, Any]
    weights: Weights | None
    in_channels: Mapping[int, int]


class Preparation:
    """Does once, on a worker, what all workers would otherwise do, each with another outcome on GPUs."""

    def __init__(self, recipe: Recipe, weights: Weights | None) -> None:
        self._task = recipe.task(weights)
        self._seed = recipe.experiment.seed

    def computed(self) -> dict[str, Any]:
        """Device and number format of a worker."""
        return computed_by(self._task)

    def prepare(self, progress: Preparing) -> Prepared:
        """Train what all candidates start from, where it is not given."""
        self._task.prepare_weights(progress)
        return Prepared(self._task.context(seed=self._seed), self._task.weights, self._task.in_channels)


@dataclass(frozen=True, slots=True)
class MakeEvaluator:
    """Makes what a worker measures with; called once in each."""

    recipe: Recipe
    prepared: Prepared

    def __call__(self) -> Evaluate:
        """Load data and features.

        Raises:
            NasneckError: as for :meth:`Recipe.task`, or a machine that computes differently.
        """
        seed = self.recipe.experiment.seed
        task = self.recipe.task(self.prepared.weights)
        task.prepare(seed=seed)
        here = task.context(seed=seed)
        # Machines may differ in name; latency is then that of whichever measured it.
        differ = [name for name, value in self.prepared.context.items() if name != "device" and here[name] != value]
        if differ:
            raise ClusterError(
                f"this machine would measure differently ({', '.join(differ)}); with machines of several kinds, set "
                "proxy.amp to on or off"
            )
        return evaluator(task, self.recipe.experiment)
