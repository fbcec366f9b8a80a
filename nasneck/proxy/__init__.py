"""The proxy task: what scores a candidate neck."""

from nasneck.proxy.config import (
    AugmentConfig,
    BackboneConfig,
    DetectorConfig,
    NeckConfig,
    ProxyConfig,
    SupernetConfig,
    TrainConfig,
)
from nasneck.proxy.presets import NECK_PRESETS, PRESETS, for_ap, proxy_config
from nasneck.proxy.store import TaskStore
from nasneck.proxy.task import ProxyTask, evaluation_key

__all__ = [
    "NECK_PRESETS",
    "PRESETS",
    "AugmentConfig",
    "BackboneConfig",
    "DetectorConfig",
    "NeckConfig",
    "ProxyConfig",
    "ProxyTask",
    "SupernetConfig",
    "TaskStore",
    "TrainConfig",
    "evaluation_key",
    "for_ap",
    "proxy_config",
]
