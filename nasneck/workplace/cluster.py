"""Several candidates at once, by workers on Ray Tune."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nasneck.data import DetectionData
from nasneck.errors import ClusterError, ConfigError
from nasneck.experiment import Experiment
from nasneck.graph import NeckGraph
from nasneck.proxy import TaskStore
from nasneck.proxy.deployed import Deployed
from nasneck.proxy.views import Progress as Preparing
from nasneck.runner import Desk, Summary
from nasneck.runner.cluster import Node, Remote, Share, connected, nodes, on_each, room
from nasneck.runner.spool import FOLDER, Spool
from nasneck.search_space import supernet_space
from nasneck.space import SearchSpace
from nasneck.trial import Measurement
from nasneck.workplace.base import Warn, halving_of, search_key
from nasneck.workplace.recipe import MakeEvaluator, Preparation, Prepared, Recipe


class ClusterWorkplace:
    """See :class:`nasneck.workplace.Workplace`. Connects when it is entered.

    Args:
        experiment: What to measure, and with which resources.
        data: Its images, as the driver sees them.
        store: The driver's folder for the weights that candidates start from and, where workers see it, features.
        on_warning: Told what the user should know.

    Raises:
        NasneckError: resources that nobody has, a cluster that does not answer, machines without the data.
    """

    def __init__(self, experiment: Experiment, data: DetectionData, *, store: Path, on_warning: Warn) -> None:
        self._experiment = experiment
        self._data = data
        self._features = store / "features"
        self._on_warning = on_warning
        self._open = ExitStack()
        space = supernet_space(experiment)
        self._store = TaskStore(store, experiment.proxy, experiment.neck, data.train, space)
        self._prepared: Prepared | None = None
        if experiment.device.startswith("cuda:"):
            raise ConfigError(
                f"device {experiment.device!r} names one GPU, but with several workers Ray assigns them; "
                "use 'cuda', 'cpu' or 'auto'"
            )
        if experiment.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device {experiment.device!r} is not one of auto, cpu, cuda")

    def __enter__(self) -> Self:
        resources = self._experiment.resources
        try:
            self._open.enter_context(
                connected(resources.address or None, cpus=resources.workers * resources.cpus_per_trial)
            )
            machines = nodes()
            self._share = Share(resources.cpus_per_trial, self._gpus(machines))
            places = room(self._share, machines)
            self.workers = resources.workers or places
            if self.workers > places:
                self._on_warning(f"{self.workers} workers are wanted, but there is room for {places} now")
            self._recipe = self._make_recipe()
            able = [node for node in machines if self._share.fit(node.resources)]
            if len(able) > 1:  # a single one is found out about by the preparation
                on_each(able, self._recipe.check)
            make = partial(Preparation, self._recipe, self._store.load())
            self._preparation = Remote(make, self._share, self._on_warning)
            self._open.callback(self._preparation.close)  # a connection that was there before goes on
            self.computed: dict[str, Any] = self._preparation.call("computed")
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def prepare(self, progress: Preparing) -> None:
        """Train what all candidates start from on a worker and keep it here."""
        self._features.mkdir(parents=True, exist_ok=True)  # workers who see it use it
        self._prepared = self._preparation.call("prepare", progress)
        self._preparation.close()
        assert self._prepared is not None  # what Preparation.prepare returns
        if self._prepared.weights is not None:
            self._store.save(self._prepared.weights)

    def cache_key(self, graph: NeckGraph) -> str:
        """That of the proxy task, on whichever machine."""
        if self._prepared is None:
            raise RuntimeError("prepare() comes before cache_key()")
        return search_key(self._prepared.context, graph)

    def refuse(self, graph: NeckGraph) -> Measurement | None:
        """By parameters and multiply-adds, here, before a worker is bothered."""
        if self._prepared is None:
            raise RuntimeError("prepare() comes before refuse()")
        experiment = self._experiment
        deployed = Deployed(experiment.objective, experiment.neck, self._prepared.in_channels, experiment.proxy.canvas)
        return deployed.refuse(graph)

    def run(self, desk: Desk[NeckGraph], space: SearchSpace, *, folder: Path) -> Summary:
        """Measure with all workers at once."""
        from nasneck.runner.tune import run_on_tune

        if self._prepared is None:
            raise RuntimeError("prepare() comes before run()")
        spool = Spool.create(folder / FOLDER)
        try:
            return run_on_tune(
                desk,
                MakeEvaluator(self._recipe, self._prepared),
                space=space,
                workers=self.workers,
                share=self._share,
                spool=spool,
                scratch=spool.scratch,
                halving=lambda: halving_of(self._experiment, desk.study),
                timeout_s=self._experiment.proxy.timeout_s,
                on_warning=self._on_warning,
            )
        finally:
            spool.remove()

    def _gpus(self, machines: tuple[Node, ...]) -> float:
        resources, device = self._experiment.resources, self._experiment.device
        given, total = resources.gpus_per_trial, sum(int(node.resources.get("GPU", 0)) for node in machines)
        if device == "cpu" and given:
            raise ConfigError(f"gpus_per_trial {given:g} with device 'cpu': give one of them up")
        if device == "cuda" and given == 0:
            raise ConfigError("gpus_per_trial 0 with device 'cuda': give one of them up")
        if given is not None:
            return given
        if device == "cpu" or (total == 0 and device == "auto"):
            return 0.0
        if total == 0:
            raise ClusterError("device 'cuda' was asked for, but no node has a GPU")
        return 1.0 / max(1, math.ceil(resources.workers / total))

    def _make_recipe(self) -> Recipe:
        data = self._experiment.data
        absolute = replace(self._experiment, data=replace(data, root=str(Path(data.root).expanduser().absolute())))
        device = "cuda" if self._share.gpus else "cpu"
        return Recipe(absolute, self._data.digest, device=device, features=str(self._features.absolute()))
