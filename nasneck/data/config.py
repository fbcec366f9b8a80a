"""Settings of a detection data set, and the way from them to the three splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nasneck.data.coco import CocoSplit, read_coco
from nasneck.data.shapes import ShapesConfig, write_shapes
from nasneck.data.split import DetectionData, hold_out, require_boxes, require_disjoint
from nasneck.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Where a COCO-format set lies and how it is split.

    The defaults fit ``ROOT/images`` with ``ROOT/annotations/instances_{train,val}.json``. COCO itself::

        train = "annotations/instances_train2017.json"
        test = "annotations/instances_val2017.json"
        train_images = "train2017"
        test_images = "val2017"
        reward_images = 7392

    Args:
        root: Folder of the set, relative to the current directory or absolute; ``~`` is expanded.
        train: Annotation file of the training images, relative to ``root``, as are the next three.
        test: Annotation file of the test images; an empty string for a set without test images.
        train_images: Folder of the training images.
        test_images: Folder of the test images.
        reward_fraction: Share of the training images that is held out for the reward.
        reward_images: Their number; takes the place of ``reward_fraction``.
        split_seed: Chooses the reward images.
        train_limit: At most so many training images, after the reward split was held out.
        test_limit: At most so many test images.
        shapes: Generate a set of textured shapes in ``root`` if it is not there.
    """

    root: str = ""
    train: str = "annotations/instances_train.json"
    test: str = "annotations/instances_val.json"
    train_images: str = "images"
    test_images: str = "images"
    reward_fraction: float = 0.2
    reward_images: int | None = None
    split_seed: int = 0
    train_limit: int | None = None
    test_limit: int | None = None
    shapes: ShapesConfig | None = None

    def __post_init__(self) -> None:
        if not 0 < self.reward_fraction < 1:
            raise ConfigError(f"reward_fraction {self.reward_fraction!r} must lie between 0 and 1, both left out")
        for name in ("reward_images", "train_limit", "test_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} {value!r} must be at least 1")
        if not self.train:
            raise ConfigError("train is empty; name the annotation file of the training images")


def load_data(config: DataConfig) -> DetectionData:
    """Read, check and split a set, generating it first if ``config.shapes`` says so.

    Every image file is known to exist when this returns; images are decoded when they are asked for.

    Raises:
        ConfigError: no root.
        DataError: files are missing or broken, contradict each other, or share images between train and
            test; see :mod:`nasneck.data.annotations` for what is checked in an annotation file.
    """
    if not config.root:
        raise ConfigError("root is empty; name the folder of the data set")
    root = Path(config.root).expanduser()
    if config.shapes is not None:
        write_shapes(root, config.shapes)
    if not root.is_dir():
        raise DataError(f"data folder {root.absolute()} does not exist")
    everything = read_coco(root / config.train, root / config.train_images, name="train")
    notes = _notes(everything)
    require_boxes(everything)
    test = _test(root, config)
    if test is not None:
        require_disjoint(everything, test)
        notes += _notes(test)
        if config.test_limit is not None:
            test = test.limit(config.test_limit, seed=config.split_seed)
        require_boxes(test)
    train, reward, twins = hold_out(
        everything, fraction=config.reward_fraction, images=config.reward_images, seed=config.split_seed
    )
    if twins:
        notes.append(f"train: {twins} images left out that are identical to a reward image")
    if config.train_limit is not None:
        train = train.limit(config.train_limit, seed=config.split_seed)
        require_boxes(train)
    return DetectionData(train=train, reward=reward, test=test, notes=tuple(notes))


def _test(root: Path, config: DataConfig) -> CocoSplit | None:
    if not config.test:
        return None
    if not (root / config.test).exists():
        raise DataError(
            f"annotation file {root / config.test} does not exist; set test to '' if there are no test images"
        )
    return read_coco(root / config.test, root / config.test_images, name="test")


def _notes(split: CocoSplit) -> list[str]:
    dropped = split.annotations.dropped
    if not dropped:
        return []
    return [f"{split.name}: {dropped} boxes without extent left out of {split.annotations.path}"]
