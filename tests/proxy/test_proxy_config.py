from dataclasses import asdict, replace
from typing import Any

import pytest

from nasneck.errors import ConfigError
from nasneck.proxy import NECK_PRESETS, PRESETS, NeckConfig, ProxyConfig, for_ap, proxy_config
from nasneck.proxy.presets import QUICK
from nasneck.settings import build


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_read_back_from_tables(name: str) -> None:
    assert build(ProxyConfig, asdict(PRESETS[name]), where="here") == PRESETS[name]
    assert proxy_config({"preset": name}, where="here") == PRESETS[name]
    assert build(NeckConfig, asdict(NECK_PRESETS[name]), where="here") == NECK_PRESETS[name]


def test_quick_is_the_default() -> None:
    assert proxy_config({}, where="here") == PRESETS["quick"] == ProxyConfig()
    assert PRESETS["quick"].fidelity == "cached"
    assert PRESETS["quick"].canvas == 128


def test_nas_fpn_has_the_published_numbers() -> None:
    config = PRESETS["nas_fpn"]
    assert (config.fidelity, config.reward, config.canvas) == ("scratch", "ap", 512)
    assert (config.backbone.name, config.backbone.width, config.backbone.weights) == ("resnet10", 64, "random")
    assert (config.detector.kind, config.detector.size_factor) == ("retinanet", 1.0)
    train = config.train
    assert (train.steps, train.batch_size, train.learning_rate, train.momentum) == (17_330, 64, 0.08, 0.9)
    assert (train.optimizer, train.schedule, train.drops, train.warmup) == ("sgd", "step", (0.8,), 0.1)
    assert train.learning_rate * train.warmup_factor == pytest.approx(0.0067)
    assert config.augment.jitter == (0.8, 1.2)
    assert NECK_PRESETS["nas_fpn"].channels == 256


def test_tables_change_single_keys_of_a_preset() -> None:
    table = {"preset": "nas_fpn", "canvas": 256, "train": {"batch_size": 16}}
    config = proxy_config(table, where="here")
    assert config.canvas == 256
    assert config.train.batch_size == 16
    assert config.train.learning_rate == 0.08
    assert table == {"preset": "nas_fpn", "canvas": 256, "train": {"batch_size": 16}}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"preset": "quik"}, "x.toml: unknown preset 'quik'; did you mean 'quick'"),
        ({"canvass": 3}, "x.toml: unknown setting 'canvass'; did you mean 'canvas'"),
        ({"train": {"step": 3}}, "x.toml: train: unknown setting 'step'; did you mean 'steps'"),
        ({"train": {"steps": 0}}, "x.toml: train: steps 0 must be at least 1"),
        ({"train": {"batch_size": "4"}}, "x.toml: train: batch_size: '4' is not a whole number"),
        ({"train": {"learning_rate": 0}}, "learning_rate 0.0 must be above 0"),
        ({"train": {"warmup": 1.5}}, r"warmup 1.5 must lie in 0\.\.1"),
        ({"train": {"drops": [0.5, 8]}}, r"drops \[0.5, 8.0\] are shares of the steps"),
        ({"train": {"optimizer": "adam"}}, "optimizer: 'adam' is not one of 'adamw', 'sgd'"),
        ({"fidelity": "fast"}, "fidelity: 'fast' is not one of 'cached', 'shared', 'frozen', 'scratch'"),
        ({"reward": "map"}, "reward: 'map' is not one of 'ap', 'loss'"),
        ({"canvas": 16}, "canvas 16 px is too small"),
        ({"augment": {"views": 0}}, "views 0 must be at least 1"),
        ({"memory_limit_mb": 0}, "memory_limit_mb and disk_limit_mb must be at least 1"),
        ({"backbone": {"norm": "frozen"}}, "norm 'frozen' has no statistics to freeze in random weights"),
    ],
)
def test_wrong_settings_are_one_clear_line(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        proxy_config(table, where="x.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"inputs": [5, 3]}, r"inputs \[5, 3\] must be a first and a last level"),
        ({"levels": [-1, 3]}, r"levels \[-1, 3\] must be"),
        ({"channels": 0}, "channels 0 must be at least 1"),
        ({"inputs": [3, 4, 5]}, "has 3 items; 2 are wanted"),
    ],
)
def test_wrong_neck_settings_are_one_clear_line(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(NeckConfig, table, where="x.toml: [neck]")


def test_trainings_for_ap_have_a_head_that_can_learn() -> None:
    bare = proxy_config({"preset": "fast", "canvas": 256, "train": {"batch_size": 8}}, where="here")
    found = for_ap(bare)
    assert (found.reward, found.detector.kind, found.train.schedule) == ("ap", "fcos_light", QUICK.train.schedule)
    assert (found.canvas, found.train.batch_size, found.train.steps) == (256, 8, QUICK.train.steps)
    longer = proxy_config({"preset": "fast", "train": {"steps": 500}}, where="here")
    assert for_ap(longer).train.steps == 500
    assert for_ap(found) == found


@pytest.mark.parametrize("name", ["quick", "nas_fpn"])
def test_trainings_for_ap_are_otherwise_the_searchs_own(name: str) -> None:
    assert for_ap(PRESETS[name]) == PRESETS[name]
    by_loss = replace(PRESETS[name], reward="loss")
    assert for_ap(by_loss) == PRESETS[name]
