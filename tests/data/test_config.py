"""From settings to three splits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nasneck.data import DataConfig, ShapesConfig, load_data
from nasneck.errors import ConfigError, DataError
from nasneck.settings import build

from .sets import many, write_set


def test_the_standard_layout_needs_only_a_root(many_set: Path) -> None:
    data = load_data(DataConfig(root=str(many_set)))
    assert (len(data.train), len(data.reward)) == (16, 4)
    assert data.test is not None
    assert data.test.image_ids == (1, 2, 3, 4, 5)
    assert data.classes == ("thing",)
    assert data.notes == ()
    files = [set(split.files()) for split in (data.train, data.reward, data.test)]
    assert len(set.union(*files)) == sum(map(len, files)) == 25


def test_the_layout_of_coco(tmp_path: Path) -> None:
    write_set(tmp_path, "train2017", many(9), images="train2017")
    write_set(tmp_path, "val2017", many(3), images="val2017", shade=1)
    table = {
        "root": str(tmp_path),
        "train": "annotations/instances_train2017.json",
        "test": "annotations/instances_val2017.json",
        "train_images": "train2017",
        "test_images": "val2017",
        "reward_images": 3,
    }
    data = load_data(build(DataConfig, table, where="x.toml: [data]"))
    assert (len(data.train), len(data.reward)) == (6, 3)
    assert data.test is not None
    assert len(data.test) == 3


def test_a_relative_root_is_relative_to_the_current_directory(many_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(many_set.parent)
    assert len(load_data(DataConfig(root=many_set.name)).train) == 16
    monkeypatch.setenv("HOME", str(many_set.parent))
    assert len(load_data(DataConfig(root=f"~/{many_set.name}")).train) == 16


def test_without_test_images(many_set: Path) -> None:
    data = load_data(DataConfig(root=str(many_set), test=""))
    assert data.test is None
    assert len(data.train) == 16
    (many_set / "annotations" / "instances_val.json").unlink()
    with pytest.raises(DataError, match=r"instances_val\.json does not exist; set test to ''"):
        load_data(DataConfig(root=str(many_set)))


def test_limits_leave_the_reward_split_alone(many_set: Path) -> None:
    whole = load_data(DataConfig(root=str(many_set)))
    data = load_data(DataConfig(root=str(many_set), train_limit=6, test_limit=2))
    assert data.reward.image_ids == whole.reward.image_ids
    assert set(data.train.image_ids) < set(whole.train.image_ids)
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (6, 2)


def test_the_digest_is_that_of_the_splits(many_set: Path) -> None:
    digest = load_data(DataConfig(root=str(many_set))).digest
    assert load_data(DataConfig(root=str(many_set))).digest == digest
    assert load_data(DataConfig(root=str(many_set), split_seed=1)).digest != digest
    assert load_data(DataConfig(root=str(many_set), test="")).digest != digest


def test_a_test_image_among_the_training_images_is_refused(many_set: Path) -> None:
    shutil.copy(many_set / "images" / "t3.png", many_set / "images" / "v2.png")
    with pytest.raises(
        DataError,
        match=r"image .*t3\.png, identical to .*v2\.png, occurs in both .*train\.json and .*val\.json;",
    ):
        load_data(DataConfig(root=str(many_set)))


def test_the_same_file_in_both_is_refused(many_set: Path) -> None:
    write_set(many_set, "val", many(5))
    with pytest.raises(DataError, match=r"image .*t1\.png occurs in both .* \(5 such images\); the test images"):
        load_data(DataConfig(root=str(many_set)))
    with pytest.raises(DataError, match=r"occurs in both .*\(20 such images\)"):
        load_data(DataConfig(root=str(many_set), test="annotations/instances_train.json"))


def test_other_categories_are_refused(many_set: Path, rewrite: Any) -> None:
    path = many_set / "annotations" / "instances_val.json"
    rewrite(path, lambda table: table["categories"].append({"id": 2, "name": "other"}))
    with pytest.raises(DataError, match=r"different categories: 2 is None in the one and 'other' in the other"):
        load_data(DataConfig(root=str(many_set)))


@pytest.mark.parametrize("name", ["train", "val"])
def test_sets_without_boxes_are_refused(many_set: Path, rewrite: Any, name: str) -> None:
    path = many_set / "annotations" / f"instances_{name}.json"
    rewrite(path, lambda table: table.update(annotations=[]))
    with pytest.raises(DataError, match=rf"instances_{name}\.json has an annotated box; at least one"):
        load_data(DataConfig(root=str(many_set)))


def test_what_was_left_out_is_reported(many_set: Path, rewrite: Any) -> None:
    path = many_set / "annotations" / "instances_train.json"
    rewrite(path, lambda table: table["annotations"][0].update(bbox=[1, 1, 0, 4]))
    data = load_data(DataConfig(root=str(many_set)))
    assert len(data.notes) == 1
    assert data.notes[0].startswith("train: 1 boxes without extent left out of ")
    shutil.copy(data.reward.path(0), data.train.path(0))
    assert load_data(DataConfig(root=str(many_set))).notes[1] == (
        "train: 1 images left out that are identical to a reward image"
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"rot": "x"}, r"x.toml: \[data\]: unknown setting 'rot'; did you mean 'root'"),
        ({"reward_fraction": 1.5}, r"x.toml: \[data\]: reward_fraction 1\.5 must lie between 0 and 1"),
        ({"reward_images": 0}, "reward_images 0 must be at least 1"),
        ({"train_limit": 0}, "train_limit 0 must be at least 1"),
        ({"train": ""}, "train is empty"),
        ({"shapes": {"images": 1}}, r"x.toml: \[data\]: shapes: 1 images with val_fraction 0\.2 leave no"),
    ],
)
def test_wrong_settings(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(DataConfig, table, where="x.toml: [data]")


def test_no_root(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="root is empty; name the folder of the data set"):
        load_data(DataConfig())
    with pytest.raises(DataError, match=r"data folder .*none does not exist"):
        load_data(DataConfig(root=str(tmp_path / "none")))


def test_shapes_are_generated_when_absent(tmp_path: Path) -> None:
    config = DataConfig(root=str(tmp_path / "d" / "shapes"), shapes=ShapesConfig(images=12, size=96))
    data = load_data(config)
    assert data.test is not None
    assert (len(data.train), len(data.reward), len(data.test)) == (8, 2, 2)
    assert load_data(config).digest == data.digest
    other = DataConfig(root=config.root, shapes=ShapesConfig(images=13, size=96))
    with pytest.raises(DataError, match="holds shapes with images = 12, not 13; name another folder"):
        load_data(other)
