"""The reward split comes out of the training images; nothing is in two splits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasneck.data import CocoSplit, hold_out, read_coco
from nasneck.data.coco import shuffled
from nasneck.errors import ConfigError, DataError


@pytest.fixture
def train(many_set: Path) -> CocoSplit:
    return read_coco(many_set / "annotations" / "instances_train.json", many_set / "images")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(images=st.integers(1, 19), seed=st.integers(0, 2**40))
def test_the_parts_are_disjoint_and_whole(train: CocoSplit, images: int, seed: int) -> None:
    rest, reward, twins = hold_out(train, images=images, seed=seed)
    assert twins == 0
    assert len(reward) == images
    assert not set(rest.image_ids) & set(reward.image_ids)
    assert sorted(rest.image_ids + reward.image_ids) == list(train.image_ids)
    assert (rest.name, reward.name) == ("train", "reward")


def test_the_fraction_is_rounded(train: CocoSplit) -> None:
    assert len(hold_out(train, fraction=0.2)[1]) == 4
    assert len(hold_out(train, fraction=0.01)[1]) == 1


def test_the_seed_chooses(train: CocoSplit) -> None:
    chosen = [hold_out(train, seed=seed)[1].image_ids for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_new_images_leave_the_order_of_the_old_ones(train: CocoSplit) -> None:
    order = shuffled(range(100), seed=1)
    assert [i for i in order if i < 50] == shuffled(range(50), seed=1)
    assert sorted(order) == list(range(100)) != order


def test_too_much_is_refused(train: CocoSplit) -> None:
    with pytest.raises(DataError, match="a reward split of 20 images leaves none of the 20 images"):
        hold_out(train, images=20)
    with pytest.raises(ConfigError, match=r"reward_fraction 1\.0 must lie between 0 and 1"):
        hold_out(train, fraction=1.0)
    with pytest.raises(ConfigError, match="reward_images 0 must be at least 1"):
        hold_out(train, images=0)


def test_copies_of_reward_images_leave_the_training_split(train: CocoSplit) -> None:
    rest, reward, _ = hold_out(train, images=5)
    shutil.copy(reward.path(0), rest.path(3))
    shutil.copy(reward.path(1), rest.path(7))
    again = CocoSplit(train.annotations, train.folder)
    new_rest, new_reward, twins = hold_out(again, images=5)
    assert twins == 2
    assert new_reward.image_ids == reward.image_ids
    assert set(rest.image_ids) - set(new_rest.image_ids) == {rest.image_ids[3], rest.image_ids[7]}


def test_a_part_without_boxes_is_refused(train: CocoSplit, rewrite: Any) -> None:
    reward = hold_out(train, images=2)[1]
    keep = set(train.image_ids) - set(reward.image_ids)

    def clear(table: dict[str, Any]) -> None:
        table["annotations"] = [a for a in table["annotations"] if a["image_id"] in keep]

    rewrite(train.annotations.path, clear)
    bare = read_coco(train.annotations.path, train.folder)
    with pytest.raises(DataError, match=r"none of the 2 reward images of .* has an annotated box"):
        hold_out(bare, images=2)
