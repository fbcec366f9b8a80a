"""Proxy settings by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from nasneck.errors import ConfigError
from nasneck.proxy.config import (
    AugmentConfig,
    BackboneConfig,
    DetectorConfig,
    NeckConfig,
    ProxyConfig,
    TrainConfig,
)
from nasneck.settings import build, did_you_mean

QUICK = ProxyConfig()
"""A few seconds per candidate on a CPU: 128 px, a ResNet-10 of width 32, features cached, a light FCOS head.

The default of every field of :class:`ProxyConfig`, meant for a neck of 48 channels. Chosen on 960 generated images
of 128 px, where FPN reaches a test AP of about 0.22 in 6 s on one core, after a minute for the backbone.
"""

_STEPS_PER_EPOCH = 1733  # 110,895 images in batches of 64

NAS_FPN = ProxyConfig(
    fidelity="scratch",
    reward="ap",
    canvas=512,
    backbone=BackboneConfig(name="resnet10", width=64, norm="batch", weights="random"),
    detector=DetectorConfig(
        kind="retinanet",
        size_factor=1.0,
        score_threshold=0.05,
        nms_threshold=0.5,
        detections=100,
        candidates=1000,
    ),
    augment=AugmentConfig(views=1, jitter=(0.8, 1.2), flip=0.5, colour=0.0),
    train=TrainConfig(
        steps=10 * _STEPS_PER_EPOCH,
        batch_size=64,
        optimizer="sgd",
        learning_rate=0.08,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="step",
        warmup=0.1,  # one epoch
        warmup_factor=0.0067 / 0.08,
        drops=(0.8,),  # after epoch 8
        clip_norm=0.0,
    ),
    workers=8,
)
"""The proxy task of NAS-FPN (Ghiasi et al., CVPR 2019), with the numbers of Google's released search config.

For a neck of 256 channels and 3 repeats on C3..C5 and P3..P7, COCO train2017 with ``reward_images = 7392``
held out (110,895 images are left to train on).

Where it differs from google/vertex-ai-nas:tf1/configs/nasfpn_search_tpu.yaml and the code behind it:

- The learning rate drops by 10 after epoch 8, as for the searches of the same group that used steps; the
  released config decays along a cosine (``schedule = "cosine"``).
- Focal loss with gamma 2 in place of 1.5: torchvision's head has it fixed. Alpha is 0.25 in both.
- Box loss: L1 summed over the four offsets, of weight 1, in place of Huber with delta 0.1, averaged over
  them, of weight 50. Far from the target both have a similar slope (1 against 50 * 0.1 / 4 = 1.25).
- Losses are averaged per image, then over the batch; there they are divided by the positives of the batch.
- Anchors are matched by IoU 0.5 and 0.4 with every box getting its best anchor, as there; the anchor size
  is 4 strides (the later tf_vision config has 3).
- Batch norm over the batch of one device, without synchronisation; momentum and epsilon are torch's in the
  backbone (0.1 and 1e-5) and those of the graphs in the neck (0.01 and 1e-3; there 0.003 and 1e-4).
- torchvision's RetinaNet head has no norms, and gradients are not clipped here: if the first steps diverge,
  set ``train.clip_norm``. This preset has not been run to its end by us.
- 80 sigmoid classes, without an unused background class.
- Images are fitted into the canvas, jittered by 0.8..1.2, and padded with the mean colour.
- Convolutions run in bfloat16 where the device can (there on TPU as well); ``amp = "off"`` for float32.
"""

FAST = ProxyConfig(
    reward="loss",
    detector=DetectorConfig(kind="fcos_bare"),
    train=TrainConfig(steps=40, learning_rate=0.0015, schedule="constant"),
    backbone_train=TrainConfig(steps=100),
)
"""Half a second per candidate on a CPU: the loss of the first 40 steps ranks candidates, and no AP is computed.

The images of these steps are new to neck and head, if there are 640 of them, so their loss is no measure of memory. A
head without convolutions leaves nearly all of the work to the neck. How well this agrees with training from
scratch, and what it saves, is in the README (``experiments/fidelity.py``, ``experiments/fidelity_speed.py``). The
reward is minus a loss: let ``nasneck confirm`` choose among the best by AP.
"""

SHARED = replace(FAST, fidelity="shared", train=replace(FAST.train, steps=5))
"""A sixth of the time of :data:`FAST` per candidate: five steps from weights that all candidates share.

Those are trained once per search, as long as some dozens of candidates take. How well it ranks them is in the README
(``experiments/fidelity.py``, and ``experiments/supernet.py`` for other ways to share and longer trainings).
"""

PRESETS: dict[str, ProxyConfig] = {"quick": QUICK, "fast": FAST, "shared": SHARED, "nas_fpn": NAS_FPN}

NECK_PRESETS: dict[str, NeckConfig] = {
    "quick": NeckConfig(channels=48),
    "fast": NeckConfig(channels=48),
    "shared": NeckConfig(channels=48),
    "nas_fpn": NeckConfig(channels=256, norm_momentum=0.0),  # 17,330 steps: the graph's own momentum
}
"""The neck settings that go with each of :data:`PRESETS`."""


def proxy_config(table: Mapping[str, Any], *, where: str) -> ProxyConfig:
    """Settings from a table: those of ``preset`` (``quick`` by default), changed by the other keys.

    Nested tables change single keys, too::

        preset = "nas_fpn"
        canvas = 256
        train.batch_size = 16

    Raises:
        ConfigError: an unknown preset, key or value, with where it stands.
    """
    changes = dict(table)
    name = changes.pop("preset", "quick")
    if name not in PRESETS:
        raise ConfigError(f"{where}: unknown preset {name!r}{did_you_mean(str(name), PRESETS)}")
    return build(ProxyConfig, _merged(asdict(PRESETS[name]), changes), where=where)


def for_ap(config: ProxyConfig) -> ProxyConfig:
    """What ``confirm`` and ``compare`` train with after a search with ``config``: rewards are AP.

    A head without convolutions ranks candidates by the loss of some first steps; the AP of short trainings with it
    ranks them far worse (README). So the light head of :data:`QUICK` comes in its place, with that preset's
    optimiser and schedule, and its number of steps if there are fewer. These also come in place of the few steps that
    are made from shared weights: every neck has weights of its own then.
    """
    bare, shared = config.detector.kind == "fcos_bare", config.fidelity == "shared"
    if bare or shared:
        steps = max(QUICK.train.steps, config.train.steps)
        config = replace(config, train=replace(QUICK.train, batch_size=config.train.batch_size, steps=steps))
    if bare:
        config = replace(config, detector=replace(config.detector, kind="fcos_light"))
    return replace(config, reward="ap", fidelity="cached" if shared else config.fidelity)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
