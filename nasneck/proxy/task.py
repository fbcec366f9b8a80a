"""The proxy task: train a candidate briefly, measure it on held-out images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from nasneck.backbone import Backbone
from nasneck.data.coco import CocoSplit
from nasneck.data.split import DetectionData
from nasneck.device import describe_device, resolve_device, use_amp
from nasneck.errors import ConfigError
from nasneck.evaluate import GroundTruth, resolve_backend
from nasneck.graph import NeckGraph
from nasneck.objective import ObjectiveConfig
from nasneck.proxy.cached import CachedTraining
from nasneck.proxy.candidate import Candidate
from nasneck.proxy.config import NeckConfig, ProxyConfig, SupernetConfig
from nasneck.proxy.deployed import Deployed
from nasneck.proxy.evaluation import Evaluation
from nasneck.proxy.fit import Fit
from nasneck.proxy.frozen import FrozenTraining
from nasneck.proxy.scratch import ScratchTraining
from nasneck.proxy.shared import SharedTraining
from nasneck.proxy.views import Progress, no_progress, shown_truth
from nasneck.space import SearchSpace
from nasneck.trial import Measurement

VERSION = 1  # of the evaluation; raise it when the same settings would give other rewards


class Fidelity(Protocol):
    """How candidates are trained: by :class:`CachedTraining`, :class:`SharedTraining`, :class:`FrozenTraining` or
    :class:`ScratchTraining`."""

    in_channels: dict[int, int]

    @property
    def digest(self) -> str: ...
    @property
    def weights(self) -> dict[str, Tensor] | None: ...
    def backbone(self, seed: int) -> Backbone | None: ...
    def prepare_weights(self, progress: Progress = ...) -> None: ...
    def prepare(self, *, seed: int, steps: int, batch_size: int, progress: Progress = ...) -> None: ...
    def prepare_split(self, split: CocoSplit, progress: Progress = ...) -> None: ...
    def training(
        self, candidate: Candidate, *, seed: int, steps: int, batch_size: int
    ) -> AbstractContextManager[Fit]: ...
    def detect(self, candidate: Candidate, split: CocoSplit) -> dict[int, dict[str, Tensor]]: ...


class ProxyTask:
    """Scores neck graphs on one data set under one setting.

    The reward depends on the graph, the setting, the data and the seed, and not on what was evaluated
    before: on a CPU to the bit, on a GPU up to kernels that add in no fixed order.

    Args:
        config: How to train and what to reward.
        neck: What all candidates have in common.
        data: Candidates train on its train split; the reward and test splits are only measured on.
        store: Folder for the backbone's weights and its features, which are reused by later tasks of the same
            setting; None keeps them nowhere.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
        weights: Of another task of the same setting, taken instead of training backbone and shared weights.
        objective: What costs are for, and the latency over which a candidate is refused.
        features: Folder for features alone, in place of ``store``.
        space: Whose candidates share weights; the ``shared`` fidelity needs it, and the others do not look at it.

    Raises:
        ConfigError: settings that cannot work, such as levels that the backbone does not have, or an ``ap_backend``
            that is not installed; no space where one is needed.
        DeviceError: a GPU that is not there.
    """

    def __init__(
        self,
        config: ProxyConfig,
        neck: NeckConfig,
        data: DetectionData,
        *,
        store: str | Path | None,
        device: str | torch.device = "auto",
        weights: dict[str, Tensor] | None = None,
        objective: ObjectiveConfig | None = None,
        features: str | Path | None = None,
        space: SearchSpace | None = None,
    ) -> None:
        self.config = config
        self.neck = neck
        self.data = data
        self.device = resolve_device(device)
        self.amp = use_amp(config.amp, self.device)
        if self.device.type == "cpu" and config.amp == "auto" and config.canvas <= 2 ** (neck.levels[1] - 1):
            # torch's CPU kernel leaves parts of the weight gradient of a 3x3 stride 2 convolution on a 1x1 map
            # unset in bfloat16 (seen on 2.15); FPN's last extra level is one when the level before it is 1x1.
            self.amp = False
        store = None if store is None else Path(store)
        if features is None and store is not None:
            features = store / "features"
        self.fidelity = self._fidelity(store, None if features is None else Path(features), weights, space)
        if config.reward == "ap":
            resolve_backend(config.ap_backend)  # found out before anything is trained
        self._ground_truth: dict[CocoSplit, GroundTruth] = {}
        self.objective = objective or ObjectiveConfig()
        self.deployed = Deployed(self.objective, neck, self.in_channels, config.canvas)

    def _fidelity(
        self, store: Path | None, features: Path | None, weights: dict[str, Tensor] | None, space: SearchSpace | None
    ) -> Fidelity:
        config, neck, train, device, amp = self.config, self.neck, self.data.train, self.device, self.amp
        if config.fidelity == "scratch":
            return ScratchTraining(config, neck, train, device=device, amp=amp)
        options: Any = {"store": store, "features": features, "device": device, "amp": amp, "weights": weights}
        if config.fidelity == "cached":
            return CachedTraining(config, neck, train, **options)
        if config.fidelity == "frozen":
            return FrozenTraining(config, neck, train, **options)
        if space is None:
            raise ConfigError("fidelity 'shared' needs the search space whose candidates share weights")
        return SharedTraining(config, neck, train, **options, space=space)

    @property
    def in_channels(self) -> dict[int, int]:
        """Width of each backbone level that the necks are compiled for."""
        return self.fidelity.in_channels

    def prepare(self, progress: Progress | None = None, *, seed: int = 0, steps: int | None = None) -> None:
        """Do what all candidates share: train or load the backbone and shared weights, compute features. Once.

        Args:
            progress: Told (what, done, total).
            seed, steps: Of the evaluations to come; others compute what they need when they begin.
        """
        progress = progress or no_progress
        batch_size = self.config.train.batch_size
        self.fidelity.prepare(seed=seed, steps=self._steps(steps), batch_size=batch_size, progress=progress)
        if self.config.reward == "ap":
            self.fidelity.prepare_split(self.data.reward, progress)

    def prepare_weights(self, progress: Progress | None = None) -> None:
        """The part of :meth:`prepare` that decides what is measured: train or load those weights. Once."""
        self.fidelity.prepare_weights(progress or no_progress)

    @property
    def weights(self) -> dict[str, Tensor] | None:
        """Own weights that candidates start from, once they are prepared, for other tasks; None if there are none."""
        return self.fidelity.weights

    def evaluate(self, graph: NeckGraph, *, seed: int, split: str = "reward", steps: int | None = None) -> Measurement:
        """Train ``graph`` and measure it. A candidate that fails gives a Measurement that says why.

        Args:
            graph: The candidate.
            seed: Of its initial weights and of the order of batches.
            split: ``reward`` or ``test``; what the AP is taken on.
            steps: In place of ``config.train.steps``; the learning-rate schedule is stretched over them.

        Raises:
            ConfigError: an unknown split, or ``test`` where the data have none.
        """
        *_, last = self.stages(graph, seed=seed, split=split, steps=steps)
        return last

    def stages(
        self,
        graph: NeckGraph,
        *,
        seed: int,
        split: str = "reward",
        steps: int | None = None,
        rungs: Sequence[int] = (),
        latencies: Mapping[str, float] | None = None,
    ) -> Iterator[Measurement]:
        """The same training with stops on its way.

        A candidate that goes all the way gives what :meth:`evaluate` gives, to the bit.

        Args:
            graph, seed, split, steps: As for :meth:`evaluate`.
            rungs: Rising numbers of steps, below ``steps``, at which to stop.
            latencies: What is known of this graph's latency, by :func:`latency_key`; then it is not measured again.

        Yields:
            At each stop what is known of the candidate if it went no further: state ``pruned``, as its reward minus
            the mean loss of the last 20 steps. In the end the measurement of :meth:`evaluate`.
        """
        found = self.stepwise(graph, seed=seed, split=split, steps=steps, rungs=rungs, latencies=latencies)
        return (measurement for measurement in found if measurement is not None)

    def stepwise(
        self,
        graph: NeckGraph,
        *,
        seed: int,
        split: str = "reward",
        steps: int | None = None,
        rungs: Sequence[int] = (),
        latencies: Mapping[str, float] | None = None,
    ) -> Iterator[Measurement | None]:
        """As :meth:`stages`, with a None before the first training step and after each: others may have their turn.

        Those that take turns step by step look at the same images at the same time. What the ``frozen`` fidelity makes
        of these is made once for all of them.
        """
        images = self._split(split)
        steps = self._steps(steps)
        if list(rungs) != sorted(set(rungs)) or any(not 0 < rung < steps for rung in rungs):
            raise ConfigError(f"rungs {list(rungs)} must rise and lie between 0 and the {steps} steps of a training")
        self.prepare_weights()
        if self.config.reward == "ap":
            self.fidelity.prepare_split(images)
        return Evaluation(
            self,
            graph,
            seed=seed,
            images=images,
            steps=steps,
            rungs=tuple(rungs),
            latencies=latencies or {},
        ).stepwise()

    def context(self, *, seed: int, split: str = "reward", steps: int | None = None) -> dict[str, Any]:
        """Everything but the graph that :meth:`evaluate` depends on, ready for JSON; prepares the weights."""
        self.prepare_weights()
        return {
            "version": VERSION,
            "config": _settings(self.config),
            "neck": asdict(self.neck),
            "train": self.data.train.digest,
            "split": f"{split}:{self._split(split).digest}",
            "seed": seed,
            "steps": self._steps(steps),
            "features": self.fidelity.digest,
            "amp": self.amp,
            "device": describe_device(self.device),  # latency is measured there
            # left out where it says nothing, as in measurements of older versions
            **({} if self.objective == ObjectiveConfig() else {"objective": asdict(self.objective)}),
        }

    def cache_key(self, graph: NeckGraph, *, seed: int, split: str = "reward", steps: int | None = None) -> str:
        """sha256 of everything that :meth:`evaluate` depends on."""
        return evaluation_key(self.context(seed=seed, split=split, steps=steps), graph)

    def truth(self, split: CocoSplit) -> GroundTruth:
        """Ground truth of the images as they are shown, indexed once for all candidates."""
        if split not in self._ground_truth:
            config = self.config
            shown = shown_truth(split, canvas=config.canvas, jitter=config.eval_jitter)
            self._ground_truth[split] = GroundTruth(shown, backend=config.ap_backend)
        return self._ground_truth[split]

    def _split(self, name: str) -> CocoSplit:
        if name == "reward":
            return self.data.reward
        if name != "test":
            raise ConfigError(f"split {name!r} is not one of reward, test")
        if self.data.test is None:
            raise ConfigError("split 'test' was asked for, but the data have no test images")
        return self.data.test

    def _steps(self, steps: int | None) -> int:
        if steps is not None and steps < 1:
            raise ConfigError(f"steps {steps} must be at least 1")
        return self.config.train.steps if steps is None else steps


def _settings(config: ProxyConfig) -> dict[str, Any]:
    """What of ``config`` decides what is measured.

    What it may take of time and disk decides whether there is a result, not what it is; AP is the same whichever
    library computes it, and kernels are the same however they are launched. Settings that came later are left out where
    they change nothing, so that what was measured before them stays known.
    """
    later = {"channels_last": True, "supernet": asdict(SupernetConfig())}
    free = ["timeout_s", "disk_limit_mb", "ap_backend", "cuda_graphs"]
    if config.fidelity != "shared":
        free.append("supernet")
    kept = {name: value for name, value in asdict(config).items() if name not in free}
    return {name: value for name, value in kept.items() if name not in later or value != later[name]}


def evaluation_key(context: Mapping[str, Any], graph: NeckGraph) -> str:
    """sha256 of a graph and the context of its evaluation, see :meth:`ProxyTask.context`."""
    return hashlib.sha256(json.dumps({**context, "graph": graph.key()}, sort_keys=True).encode()).hexdigest()


def progress_printer(write: Callable[[str], object] = print) -> Progress:
    """A callback for :meth:`ProxyTask.prepare` that writes a line at every tenth of the way."""
    last = ""

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        line = f"{what}: {10 * done // max(1, total) * 10} %"
        if line != last:
            write(line)
            last = line

    return report
