"""Settings of the proxy task. Every default is the quick one of a CPU; see ``presets``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from nasneck.errors import ConfigError
from nasneck.evaluate import Backend


@dataclass(frozen=True, slots=True)
class NeckConfig:
    """What every candidate neck has in common.

    Args:
        inputs: First and last level taken from the backbone.
        levels: First and last level given to the head.
        channels: Width of the neck, and with it of the head.
        norm: ``batch``, ``group`` or ``frozen``.
        norm_momentum: Share of a new batch in batch norm's running statistics. Published graphs carry
            0.003 to 0.01, with which the statistics of a short training never arrive; 0 keeps theirs.
    """

    inputs: tuple[int, int] = (3, 5)
    levels: tuple[int, int] = (3, 7)
    channels: int = 48
    norm: Literal["batch", "group", "frozen"] = "batch"
    norm_momentum: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.norm_momentum <= 1:
            raise ConfigError(f"norm_momentum {self.norm_momentum} must lie in 0..1")
        for name, (first, last) in (("inputs", self.inputs), ("levels", self.levels)):
            if not 0 <= first <= last:
                raise ConfigError(f"{name} {[first, last]} must be a first and a last level, such as [3, 5]")
        if self.channels < 1:
            raise ConfigError(f"channels {self.channels} must be at least 1")


@dataclass(frozen=True, slots=True)
class BackboneConfig:
    """The backbone of the detector; see :func:`nasneck.backbone.build_backbone`.

    Args:
        name: A ResNet's name or ``timm:NAME``.
        width: Channels of a ResNet's stem; 64 as published.
        norm: ``batch``, ``group`` or ``frozen``.
        weights: ``random``, ``pretrained`` (downloads what torchvision or timm publish) or a file.
    """

    name: str = "resnet10"
    width: int = 32
    norm: Literal["batch", "group", "frozen"] = "batch"
    weights: str = "random"

    def __post_init__(self) -> None:
        if self.norm == "frozen" and self.weights == "random":
            raise ConfigError("norm 'frozen' has no statistics to freeze in random weights; use batch or group")


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """Head, anchors and post-processing; see :func:`nasneck.detector.build_detector`.

    Args:
        kind: ``retinanet``, ``fcos``, ``fcos_light`` or ``fcos_bare``.
        size_factor: Size of the objects that a level is responsible for, 1 as published.
        score_threshold: Detections below are dropped.
        nms_threshold: IoU; the detector's own (0.5 RetinaNet, 0.6 FCOS) by default.
        detections: Most detections per image; also AP's.
        candidates: Kept per level before non-maximum suppression.
    """

    kind: Literal["retinanet", "fcos", "fcos_light", "fcos_bare"] = "fcos_light"
    size_factor: float = 0.5
    score_threshold: float = 0.05
    nms_threshold: float | None = None
    detections: int = 100
    candidates: int = 200

    def __post_init__(self) -> None:
        if not 0 < self.size_factor < math.inf:
            raise ConfigError(f"size_factor {self.size_factor} must be above 0")
        for name in ("detections", "candidates"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)} must be at least 1")
        for name in ("score_threshold", "nms_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} {value} must lie in 0..1")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run.

    Args:
        steps: Optimiser steps.
        batch_size: Images per step.
        optimizer: ``adamw`` or ``sgd``.
        learning_rate: Its peak.
        momentum: Of SGD; AdamW keeps betas of 0.9 and 0.999.
        weight_decay: AdamW's is decoupled; neither touches biases and norms.
        schedule: After the warm-up: ``cosine`` to zero, ``step`` (times 0.1 at each of ``drops``) or
            ``constant``.
        warmup: Share of the steps in which the rate rises linearly from ``warmup_factor`` of its peak.
        warmup_factor: See ``warmup``.
        drops: Shares of the steps at which ``step`` lowers the rate.
        clip_norm: Largest norm of all gradients together; 0 clips nothing.
    """

    steps: int = 120
    batch_size: int = 16
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 0.003
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup: float = 0.1
    warmup_factor: float = 0.1
    drops: tuple[float, ...] = ()
    clip_norm: float = 10.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)} must be at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"learning_rate {self.learning_rate} must be above 0")
        for name in ("warmup", "warmup_factor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} {getattr(self, name)} must lie in 0..1")
        if any(not 0 < drop < 1 for drop in self.drops):
            raise ConfigError(f"drops {list(self.drops)} are shares of the steps, between 0 and 1")
        if self.clip_norm < 0 or self.weight_decay < 0:
            raise ConfigError("clip_norm and weight_decay must not be below 0")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum {self.momentum} must lie in 0..1, 1 left out")


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Random views of training images; see :class:`nasneck.data.augment.Augment`.

    Args:
        views: Views per image that the ``cached`` fidelity stores, in turns from epoch to epoch; as many as a training
            has epochs, and each has its own. Only those that are looked at are made. They are also what a backbone is
            trained on. Candidates of ``scratch`` and ``frozen`` get new ones in each epoch. In trainings of ten to
            twenty epochs, eight cost less than one AP against new ones, and two cost six
            (``experiments/views.py``).
        seed: Of the stored views.
        jitter: Smallest and largest scale relative to the letterboxed image.
        flip: Probability of a horizontal flip.
        colour: Brightness, contrast and saturation vary by this share.
    """

    views: int = 8
    seed: int = 0
    jitter: tuple[float, float] = (0.8, 1.2)
    flip: float = 0.5
    colour: float = 0.2

    def __post_init__(self) -> None:
        if self.views < 1:
            raise ConfigError(f"views {self.views} must be at least 1")
        _check_scales("jitter", self.jitter)
        for name in ("flip", "colour"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} {getattr(self, name)} must lie in 0..1")


@dataclass(frozen=True, slots=True)
class SupernetConfig:
    """The weights that candidates of the ``shared`` fidelity start from; see :mod:`nasneck.proxy.supernet`.

    Its optimiser, rate and batches are those of a candidate.

    Args:
        warm: Steps of one neck before.
        path_steps: Steps of random candidates in all.
        paths: Candidates whose mean gradient makes an update.
        seed: Of these weights and candidates, and of which images they are trained on.
    """

    warm: int = 100
    path_steps: int = 200
    paths: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.warm < 1 or self.paths < 1 or self.path_steps < self.paths:
            raise ConfigError(
                f"warm {self.warm} and paths {self.paths} must be at least 1, path_steps {self.path_steps} "
                "at least paths"
            )


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """How a candidate neck is scored.

    Args:
        fidelity: ``cached``: the backbone is trained once on the training split (with FPN as its neck), then
            frozen; candidates train neck and head on stored features. ``shared``: the same, and all start from weights
            that were trained for them together, once, on images that their own steps do not look at; it wants the
            reward ``loss``. ``frozen``: as ``cached``, but no features of training images are stored: the backbone runs
            in every step, on views that are new in every epoch, once for all candidates that are trained in turns
            (``resources.together``). ``scratch``: the backbone trains along with every candidate, on images.
        reward: ``ap`` on the split asked for, or ``loss``: minus the mean training loss of the last 20
            steps, for which no AP is computed. The two are never on one scale.
        canvas: Side of the square that images are letterboxed into, px.
        eval_jitter: Smallest and largest scale of the images that AP is taken on, relative to the letterbox; each
            has one for good, drawn log-uniformly. For sets whose objects are all of one size.
        backbone, detector, augment: See their classes.
        train: Of a candidate.
        supernet: Of the weights that candidates start from, for ``shared``.
        backbone_train: Of the backbone, for all but ``scratch``; steps = 0 is not allowed, but weights other than
            ``random`` are taken as they are, without training.
        store_dtype: Number format of stored features.
        memory_limit_mb: Features that would take more MiB of a process than this are refused, where they are not in
            files. Views that would take more while a backbone is trained are made each time they are looked at.
        disk_limit_mb: Features that would take more MiB of the run's folder are refused. They are mapped into memory
            from there, and so shared by the workers of a machine; what does not fit into memory stays on the disk.
        workers: Processes that read and augment images for ``scratch`` and ``frozen``; 0 reads in the process itself.
        amp: bfloat16 under autocast: ``auto`` where the device computes in it, ``on``, ``off``.
        channels_last: Whether maps and weights lie with their channels last, which is faster nearly everywhere.
        cuda_graphs: Whether, for all but ``scratch`` on a GPU, neck and head are captured once and then launched
            as a whole. The kernels are the same, launched faster.
        timeout_s: Longest evaluation of a candidate in seconds; 0 sets no limit.
        ap_backend: What computes AP: ``pycocotools``, ``faster_coco_eval`` (``pip install faster-coco-eval``, several
            times faster), or ``auto``, the latter where it is installed. Both give the same values.
    """

    fidelity: Literal["cached", "shared", "frozen", "scratch"] = "cached"
    reward: Literal["ap", "loss"] = "ap"
    canvas: int = 128
    eval_jitter: tuple[float, float] = (1.0, 1.0)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    supernet: SupernetConfig = field(default_factory=SupernetConfig)
    backbone_train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=500))
    store_dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    memory_limit_mb: int = 4096
    disk_limit_mb: int = 65536
    workers: int = 0
    amp: Literal["auto", "on", "off"] = "auto"
    channels_last: bool = True
    cuda_graphs: bool = True
    timeout_s: float = 0.0
    ap_backend: Backend = "auto"

    def __post_init__(self) -> None:
        _check_scales("eval_jitter", self.eval_jitter)
        if self.canvas < 32:
            raise ConfigError(f"canvas {self.canvas} px is too small; take at least 32")
        if self.fidelity == "shared" and self.reward != "loss":
            # Norms of shared weights have seen many necks: only within a training do they have a neck's own statistics.
            raise ConfigError("fidelity 'shared' ranks candidates by their loss; set reward = \"loss\"")
        if self.memory_limit_mb < 1 or self.disk_limit_mb < 1 or self.workers < 0 or self.timeout_s < 0:
            raise ConfigError("memory_limit_mb and disk_limit_mb must be at least 1; workers and timeout_s not below 0")


def _check_scales(name: str, scales: tuple[float, float]) -> None:
    low, high = scales
    if not 1 / 64 <= low <= high <= 16:
        raise ConfigError(f"{name} {[low, high]} is no range of scales within 1/64 and 16, such as [0.8, 1.2]")
