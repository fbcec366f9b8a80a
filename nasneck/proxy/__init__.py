"""The proxy task: what scores a candidate neck."""

from nasneck.proxy.config import (
    AugmentConfig,
    BackboneConfig,
    DetectorConfig,
    NeckConfig,
    ProxyConfig,
    TrainConfig,
)
from nasneck.proxy.presets import NECK_PRESETS, PRESETS, for_ap, proxy_config
from nasneck.proxy.task import ProxyTask, evaluation_key
from nasneck.proxy.weights import WeightStore

__all__ = [
    "NECK_PRESETS",
    "PRESETS",
    "AugmentConfig",
    "BackboneConfig",
    "DetectorConfig",
    "NeckConfig",
    "ProxyConfig",
    "ProxyTask",
    "TrainConfig",
    "WeightStore",
    "evaluation_key",
    "for_ap",
    "proxy_config",
]
