"""The way of one candidate: looked at, trained with stops, measured; and what is made of its failure."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from nasneck.data.coco import CocoSplit
from nasneck.device import describe_device, peak_memory_mb, reset_peak_memory
from nasneck.errors import DataError
from nasneck.evaluate import coco_ap
from nasneck.graph import NeckGraph
from nasneck.proxy.candidate import Candidate, build_candidate
from nasneck.proxy.failure import OutOfTime, failure, reason
from nasneck.proxy.fit import Fit
from nasneck.trial import Measurement, State, latency_key

if TYPE_CHECKING:
    from nasneck.proxy.task import ProxyTask


@dataclass
class Evaluation:
    """One evaluation of one graph; arguments as for :meth:`nasneck.proxy.task.ProxyTask.stepwise`."""

    task: ProxyTask
    graph: NeckGraph
    seed: int
    images: CocoSplit
    steps: int
    rungs: tuple[int, ...]
    latencies: Mapping[str, float]
    # What holds for the candidate whatever comes of its training.
    _known: dict[str, Any] = field(init=False)
    _begin: float = field(init=False)
    _away: float = field(init=False, default=0.0)  # seconds in which others had their turn

    def stepwise(self) -> Iterator[Measurement | None]:
        """See :meth:`nasneck.proxy.task.ProxyTask.stepwise`."""
        with contextlib.closing(self._attempts()) as found:
            for measurement in found:
                left = time.monotonic()
                yield measurement
                self._away += time.monotonic() - left

    def _attempts(self) -> Generator[Measurement | None, None, None]:
        device = self.task.device
        reset_peak_memory(device)
        self._begin = time.monotonic()
        self._known = {"seed": self.seed, "split": self.images.name, "device": describe_device(device)}
        batch_size, halved, passed = self.task.config.train.batch_size, False, 0
        while True:
            try:
                for found in self._attempt(batch_size):
                    if found is None:
                        yield None
                    # A second attempt does not stop again where the first one was let on.
                    elif found.state is not State.PRUNED or found.rung >= passed:
                        passed = found.rung + 1
                        yield self._with_costs(found)
                return
            except DataError as error:
                raise DataError(reason(error)) from None  # a broken image fails every candidate
            except Exception as error:
                if not isinstance(error, torch.OutOfMemoryError) or halved or batch_size < 2:
                    state, text = failure(error)
                    kind = self.task.config.reward
                    yield self._with_costs(Measurement(state, **{**self._known, "reward_kind": kind}, text=text))
                    return
            # Of a GPU: once more with half the memory for activations. That it was so is part of the result.
            batch_size, halved = batch_size // 2, True
            self._known["batch_size"] = batch_size
            if device.type == "cuda":
                torch.cuda.empty_cache()

    def _attempt(self, batch_size: int) -> Iterator[Measurement | None]:
        task, known = self.task, self._known
        candidate = build_candidate(
            self.graph,
            config=task.config,
            neck=task.neck,
            in_channels=task.in_channels,
            num_classes=len(task.data.classes),
            seed=self.seed,
            device=task.device,
            amp=task.amp,
            backbone=task.fidelity.backbone(self.seed),
        )
        refused = self._look_at(candidate)
        if refused is not None:
            yield refused
            return
        yield None  # so that nobody trains yet, or reads images, while the latency of the next one is measured
        with task.fidelity.training(candidate, seed=self.seed, steps=self.steps, batch_size=batch_size) as training:
            scores: tuple[float, ...] = ()
            for rung, stop in enumerate(self.rungs):
                yield from self._train(training, stop)
                loss = training.loss
                early = {"reward": -loss, "reward_kind": "loss", "loss": loss, "steps": stop, "rung": rung}
                text = f"stopped after {stop} of {self.steps} steps"
                yield Measurement(State.PRUNED, **{**known, "scores": scores}, **early, text=text)
                scores = (*scores, -loss)
                known["scores"] = scores
            yield from self._train(training, self.steps)
            loss = training.loss
        yield Measurement(State.OK, **known, **self._reward(candidate, loss), rung=len(self.rungs))

    def _train(self, training: Fit, stop: int) -> Iterator[None]:
        limit = self.task.config.timeout_s
        for _ in training.stepwise(stop):
            if limit and self._seconds > limit:
                raise OutOfTime(f"stopped after {training.done} of {self.steps} steps")
            yield

    def _look_at(self, candidate: Candidate) -> Measurement | None:
        """Note what the neck costs before it is trained; a measurement if that is more than is allowed."""
        deployed, known = self.task.deployed, self._known
        if "latency_ms" not in known:  # else an earlier attempt, which ran out of memory, has looked
            neck = deployed.neck_of(self.graph, candidate.neck)
            known |= deployed.costs(neck)
            remembered = self.latencies.get(latency_key(known["device"], deployed.image_size))
            measures = deployed.objective.latency_runs > 0
            known["latency_ms"] = remembered or (deployed.latency_ms(neck, self.task.device) if measures else None)
        return deployed.refused(Measurement(State.REJECTED, **known))

    def _reward(self, candidate: Candidate, loss: float) -> dict[str, Any]:
        task = self.task
        measured: dict[str, Any] = {"loss": loss, "reward": -loss, "reward_kind": "loss", "steps": self.steps}
        if task.config.reward == "ap":
            ap = coco_ap(
                task.truth(self.images),
                task.fidelity.detect(candidate, self.images),
                label_to_category=self.images.label_to_category,
                max_detections=task.config.detector.detections,
            )
            measured |= {
                "reward": ap.ap,
                "reward_kind": "ap",
                "ap": ap.ap,
                "ap50": ap.ap50,
                "ap75": ap.ap75,
                "ap_small": ap.small,
                "ap_medium": ap.medium,
                "ap_large": ap.large,
            }
        return measured

    def _with_costs(self, measurement: Measurement) -> Measurement:
        peak = peak_memory_mb(self.task.device)
        return replace(measurement, seconds=self._seconds, peak_memory_mb=peak)

    @property
    def _seconds(self) -> float:
        """What this took so far, without the turns of others."""
        return time.monotonic() - self._begin - self._away
