"""The proxy task: train a candidate briefly, measure it on held-out images."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from pycocotools.coco import COCO
from torch import Tensor

from nasneck.backbone import Backbone
from nasneck.cost import count_macs, count_parameters, measure_latency
from nasneck.data.coco import CocoSplit
from nasneck.data.split import DetectionData
from nasneck.device import describe_device, peak_memory_mb, reset_peak_memory, resolve_device, use_amp
from nasneck.errors import ConfigError, DataError
from nasneck.evaluate import coco_ap
from nasneck.graph import NeckGraph
from nasneck.proxy.cached import CachedTraining
from nasneck.proxy.candidate import Candidate, build_candidate
from nasneck.proxy.config import NeckConfig, ProxyConfig
from nasneck.proxy.failure import failure, reason
from nasneck.proxy.scratch import ScratchTraining
from nasneck.proxy.views import Progress, no_progress, shown_truth
from nasneck.trial import Measurement, State

VERSION = 1  # of the evaluation; raise it when the same settings would give other rewards


class Fidelity(Protocol):
    """How candidates are trained and run: :class:`CachedTraining` or :class:`ScratchTraining`."""

    in_channels: dict[int, int]

    @property
    def digest(self) -> str: ...
    @property
    def weights(self) -> dict[str, Tensor] | None: ...
    def backbone(self, seed: int) -> Backbone | None: ...
    def prepare_weights(self, progress: Progress = ...) -> None: ...
    def prepare(self, progress: Progress = ...) -> None: ...
    def prepare_split(self, split: CocoSplit, progress: Progress = ...) -> None: ...
    def train(self, candidate: Candidate, *, seed: int, steps: int, deadline: float = ...) -> float: ...
    def detect(self, candidate: Candidate, split: CocoSplit) -> dict[int, dict[str, Tensor]]: ...


class ProxyTask:
    """Scores neck graphs on one data set under one setting.

    The reward depends on the graph, the setting, the data and the seed, and not on what was evaluated
    before: on a CPU to the bit, on a GPU up to kernels that add in no fixed order.

    Args:
        config: How to train and what to reward.
        neck: What all candidates have in common.
        data: Candidates train on its train split; the reward and test splits are only measured on.
        store: Folder for the backbone's weights, which are reused by later tasks of the same setting; None
            keeps them nowhere.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
        weights: Of another task of the same setting, taken instead of training the backbone.

    Raises:
        ConfigError: settings that cannot work, such as levels that the backbone does not have.
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
        self._fidelity: Fidelity = (
            CachedTraining(
                config,
                neck,
                data.train,
                store=None if store is None else Path(store),
                device=self.device,
                amp=self.amp,
                weights=weights,
            )
            if config.fidelity == "cached"
            else ScratchTraining(config, neck, data.train, device=self.device, amp=self.amp)
        )
        self._ground_truth: dict[CocoSplit, COCO] = {}

    @property
    def in_channels(self) -> dict[int, int]:
        """Width of each backbone level that the necks are compiled for."""
        return self._fidelity.in_channels

    def prepare(self, progress: Progress | None = None) -> None:
        """Do what all candidates share: train or load the backbone, compute features. Once.

        Args:
            progress: Told (what, done, total).
        """
        progress = progress or no_progress
        self._fidelity.prepare(progress)
        if self.config.reward == "ap":
            self._fidelity.prepare_split(self.data.reward, progress)

    def prepare_weights(self, progress: Progress | None = None) -> None:
        """The part of :meth:`prepare` that decides what is measured: train or load the backbone. Once."""
        self._fidelity.prepare_weights(progress or no_progress)

    @property
    def weights(self) -> dict[str, Tensor] | None:
        """Weights of the backbone once they are prepared, for other tasks; None if there are none to share."""
        return self._fidelity.weights

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
        images = self._split(split)
        steps = self._steps(steps)
        self.prepare()
        if self.config.reward == "ap":
            self._fidelity.prepare_split(images)
        reset_peak_memory(self.device)
        start = time.monotonic()
        known: dict[str, Any] = {"reward_kind": self.config.reward, "seed": seed, "split": split}
        known["device"] = describe_device(self.device)
        try:
            known |= self._measure(graph, seed=seed, images=images, steps=steps, start=start)
        except DataError as error:
            raise DataError(reason(error)) from None  # a broken image fails every candidate
        except Exception as error:
            state, text = failure(error)
            known |= {"state": state, "text": text}
        if known["state"] is State.OOM and self.device.type == "cuda":
            torch.cuda.empty_cache()
        known["seconds"] = time.monotonic() - start
        known["peak_memory_mb"] = peak_memory_mb(self.device)
        return Measurement(**known)

    def context(self, *, seed: int, split: str = "reward", steps: int | None = None) -> dict[str, Any]:
        """Everything but the graph that :meth:`evaluate` depends on, ready for JSON; prepares the weights."""
        self.prepare_weights()
        return {
            "version": VERSION,
            "config": asdict(self.config),
            "neck": asdict(self.neck),
            "train": self.data.train.digest,
            "split": f"{split}:{self._split(split).digest}",
            "seed": seed,
            "steps": self._steps(steps),
            "features": self._fidelity.digest,
            "amp": self.amp,
            "device": describe_device(self.device),  # latency is measured there
        }

    def cache_key(self, graph: NeckGraph, *, seed: int, split: str = "reward", steps: int | None = None) -> str:
        """sha256 of everything that :meth:`evaluate` depends on."""
        return evaluation_key(self.context(seed=seed, split=split, steps=steps), graph)

    def _measure(self, graph: NeckGraph, *, seed: int, images: CocoSplit, steps: int, start: float) -> dict[str, Any]:
        config = self.config
        candidate = build_candidate(
            graph,
            config=config,
            neck=self.neck,
            in_channels=self.in_channels,
            num_classes=len(self.data.classes),
            seed=seed,
            device=self.device,
            amp=self.amp,
            backbone=self._fidelity.backbone(seed),
        )
        deadline = start + config.timeout_s if config.timeout_s else math.inf
        loss = self._fidelity.train(candidate, seed=seed, steps=steps, deadline=deadline)
        measured: dict[str, Any] = {"state": State.OK, "loss": loss, "reward": -loss, "steps": steps}
        if config.reward == "ap":
            ap = coco_ap(
                self._truth(images),
                self._fidelity.detect(candidate, images),
                label_to_category=images.label_to_category,
                max_detections=config.detector.detections,
            )
            measured |= {
                "reward": ap.ap,
                "ap": ap.ap,
                "ap50": ap.ap50,
                "ap75": ap.ap75,
                "ap_small": ap.small,
                "ap_medium": ap.medium,
                "ap_large": ap.large,
            }
        canvas = (config.canvas, config.canvas)
        neck = candidate.neck.eval()
        measured["parameters"] = count_parameters(neck)
        measured["macs"] = count_macs(neck, canvas)
        measured["latency_ms"] = measure_latency(neck, canvas, device=self.device)
        return measured

    def _truth(self, split: CocoSplit) -> COCO:
        if split not in self._ground_truth:
            config = self.config
            self._ground_truth[split] = shown_truth(split, canvas=config.canvas, jitter=config.eval_jitter)
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
