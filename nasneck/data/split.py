"""Three disjoint splits: train, reward (held out of the training images) and test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from nasneck.data.coco import CocoSplit, shuffled
from nasneck.data.files import same_files
from nasneck.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True, eq=False)
class DetectionData:
    """What a search trains on, is rewarded on, and must not see before the comparison.

    Args:
        train: Training images; backbone, neck and head are trained on these alone.
        reward: Held out of the training images; the search maximises the AP on them.
        test: For comparisons at the end; None where there is no test set.
        notes: What was left out of the files, one sentence each, for a report.
    """

    train: CocoSplit
    reward: CocoSplit
    test: CocoSplit | None
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label."""
        return self.train.classes

    @property
    def digest(self) -> str:
        """sha256 over the digests of the three splits."""
        parts = [split.digest if split is not None else "" for split in (self.train, self.reward, self.test)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def hold_out(
    train: CocoSplit, *, fraction: float = 0.2, images: int | None = None, seed: int = 0
) -> tuple[CocoSplit, CocoSplit, int]:
    """Cut a reward split off the training images, chosen by ``seed``.

    Images whose file is identical to one of the reward split leave the training split, so that the reward
    is taken on unseen images.

    Args:
        train: All training images.
        fraction: Share of the images for the reward split, above 0 and below 1.
        images: Their number; takes the place of ``fraction``.
        seed: The same seed gives the same split.

    Returns:
        The remaining training split, the reward split, and how many identical images left the former.

    Raises:
        ConfigError: ``fraction`` or ``images`` is no share of the images.
        DataError: there are too few images, or a part has no boxes.
    """
    if images is None:
        if not 0 < fraction < 1:
            raise ConfigError(f"reward_fraction {fraction!r} must lie between 0 and 1, both left out")
        images = max(1, round(fraction * len(train)))
    elif images < 1:
        raise ConfigError(f"reward_images {images!r} must be at least 1")
    if images >= len(train):
        raise DataError(
            f"a reward split of {images} images leaves none of the {len(train)} images of "
            f"{train.annotations.path} to train on"
        )
    order = shuffled(train.image_ids, seed=seed)
    reward = train.subset(order[:images], name="reward")
    rest = train.subset(order[images:], name="train")
    twins = {right for _, right in same_files(reward.files(), rest.files())}
    if twins:
        keep = [i for n, i in enumerate(rest.image_ids) if rest.path(n) not in twins]
        removed = len(rest) - len(keep)
        if not keep:
            raise DataError(f"the images of {train.annotations.path} are all identical; none is left to train on")
        rest = rest.subset(keep)
    else:
        removed = 0
    for split in (rest, reward):
        require_boxes(split)
    return rest, reward, removed


def require_boxes(split: CocoSplit) -> None:
    """Refuse a split without boxes: nothing can be learned from it, and its AP is undefined.

    Raises:
        DataError: the split has no box that is a target.
    """
    if split.boxes == 0:
        raise DataError(
            f"none of the {len(split)} {split.name} images of {split.annotations.path} has an annotated box; "
            "at least one box is needed"
        )


def require_disjoint(train: CocoSplit, test: CocoSplit) -> None:
    """Refuse sets that share an image file, by path or by content, or that have other categories.

    Raises:
        DataError: naming one image that occurs in both, or the categories that differ.
    """
    ours = dict(zip(train.label_to_category, train.classes, strict=True))
    theirs = dict(zip(test.label_to_category, test.classes, strict=True))
    if ours != theirs:
        number = min(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
        raise DataError(
            f"{train.annotations.path} and {test.annotations.path} have different categories: {number} is "
            f"{ours.get(number)!r} in the one and {theirs.get(number)!r} in the other"
        )
    shared = same_files(train.files(), test.files())
    if shared:
        left, right = shared[0]
        what = f"image {left}" if left == right else f"image {left}, identical to {right},"
        more = f" ({len(shared)} such images)" if len(shared) > 1 else ""
        raise DataError(
            f"{what} occurs in both {train.annotations.path} and {test.annotations.path}{more}; "
            "the test images must not be trained on: remove them from one of the two"
        )
