"""Images on canvases: views of training images, letterboxed images for AP, and the order of batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pycocotools.coco import COCO
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nasneck.data.augment import augmented_view, letterbox
from nasneck.data.coco import CocoSplit
from nasneck.device import one_thread
from nasneck.proxy.config import AugmentConfig

Progress = Callable[[str, int, int], None]
Target = dict[str, Tensor]
Batch = tuple[Tensor, list[Target]]


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class Canvases:
    """Images (M, 3, S, S) uint8 and the target of each: ``boxes`` (N, 4) XYXY px, ``labels`` (N,)."""

    images: Tensor
    targets: list[Target]


class Views(Dataset[tuple[Tensor, Target]]):
    """Augmented views of a split, addressed by (view, image index); equal addresses give equal views."""

    def __init__(self, split: CocoSplit, *, canvas: int, augment: AugmentConfig, seed: int) -> None:
        self.split = split
        self.canvas = canvas
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, address: tuple[int, int]) -> tuple[Tensor, Target]:
        view, index = address
        image, target = self.split[index]
        text = f"{self.seed}:{view}:{target['image_id']}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
        options = self.augment
        image, target = augmented_view(
            image,
            target,
            canvas=self.canvas,
            seed=seed,
            jitter=options.jitter,
            flip=options.flip,
            colour=options.colour,
        )
        return _plain(image, target)


class StoredViews:
    """The ``augment.views`` views of every image that are seen again and again.

    View v of image i has the place ``v * len(split) + i``. They are made when they are asked for; what is kept by
    :meth:`keep` is not made twice.
    """

    def __init__(self, split: CocoSplit, *, canvas: int, augment: AugmentConfig) -> None:
        self.canvas = canvas
        self._views = Views(split, canvas=canvas, augment=augment, seed=augment.seed)
        self._images, self._count = len(split), augment.views
        self._kept: Canvases | None = None
        self._row: dict[int, int] = {}

    def __len__(self) -> int:
        return self._images * self._count

    def places(self, order: Sequence[Sequence[tuple[int, int]]]) -> list[list[int]]:
        """The places of batches of (epoch, image index), as :func:`batch_order` gives them."""
        return [[(epoch % self._count) * self._images + index for epoch, index in batch] for batch in order]

    def keep(self, places: Sequence[int], progress: Progress = no_progress) -> None:
        """Make these views and keep them, in place of those that were kept before."""
        items = (self._make(place) for place in places)
        self._kept = _collect(items, len(places), self.canvas, f"views of {self._views.split.name}", progress)
        self._row = {place: row for row, place in enumerate(places)}

    def forget(self) -> None:
        """Give the memory of what was kept back."""
        self._kept, self._row = None, {}

    def at(self, places: Sequence[int]) -> Canvases:
        """The views at ``places``."""
        with one_thread():
            return Canvases(*_stack([self._make(place) for place in places]))

    def _make(self, place: int) -> tuple[Tensor, Target]:
        if self._kept is not None and place in self._row:
            row = self._row[place]
            return self._kept.images[row], self._kept.targets[row]
        return self._views[divmod(place, self._images)]


AS_IS = (1.0, 1.0)
_EVAL_SEED = 1_000_003  # apart from those of training views


def letterboxed(
    split: CocoSplit, *, canvas: int, jitter: tuple[float, float] = AS_IS, progress: Progress = no_progress
) -> Canvases:
    """The images of a split as AP sees them: letterboxed, and scaled if ``jitter`` says so.

    Args:
        split: Of M images.
        canvas: Side in pixels.
        jitter: Smallest and largest scale; each image has one for good, drawn log-uniformly. What is larger than
            the canvas is cropped.
        progress: Told (what, done, total).
    """
    return _collect(_shown(split, canvas, jitter), len(split), canvas, f"images of {split.name}", progress)


def letterboxed_batches(
    split: CocoSplit, *, canvas: int, batch_size: int, jitter: tuple[float, float] = AS_IS
) -> Iterator[Batch]:
    """The images of a split in batches, in order, without keeping them; as :func:`letterboxed`."""
    batch: list[tuple[Tensor, Target]] = []
    for item in _shown(split, canvas, jitter):
        batch.append(item)
        if len(batch) == batch_size:
            yield _stack(batch)
            batch = []
    if batch:
        yield _stack(batch)


def batch_order(images: int, *, batch_size: int, steps: int, seed: int) -> list[list[tuple[int, int]]]:
    """Addresses (epoch, image index) of the batches of a run, without repeats within an epoch.

    A function of its arguments alone: all candidates of one seed see the same images in the same order. A
    longer run begins with the batches of a shorter one. Batches go on over the end of an epoch, so that all
    of them are full.
    """
    draw = torch.Generator().manual_seed(seed)
    addresses: list[tuple[int, int]] = []
    epoch = 0
    while len(addresses) < steps * batch_size:
        addresses += [(epoch, index) for index in torch.randperm(images, generator=draw).tolist()]
        epoch += 1
    return [addresses[step * batch_size : (step + 1) * batch_size] for step in range(steps)]


def loaded_batches(
    views: Views, order: Sequence[list[tuple[int, int]]], *, workers: int
) -> Generator[Batch, None, None]:
    """The batches of ``order``, read and augmented by ``workers`` processes (0: by this one)."""
    # The dataset draws from the address, so neither the number of workers nor torch's seed matters; a
    # generator of its own keeps DataLoader from drawing a base seed from the global one.
    loader: Any = DataLoader(
        views,
        batch_sampler=list(order),  # type: ignore[arg-type]  # addresses are pairs, not ints
        collate_fn=_stack,
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),
    )
    yield from loader


def shown_truth(split: CocoSplit, *, canvas: int, jitter: tuple[float, float] = AS_IS) -> COCO:
    """The ground truth of what :func:`letterboxed` gives, in pixels of the canvas."""
    if jitter == AS_IS:
        return split.ground_truth(canvas=(canvas, canvas))
    targets = [target for _, target in _shown(split, canvas, jitter)]
    return split.ground_truth_of(targets, canvas=(canvas, canvas))


def _shown(split: CocoSplit, canvas: int, jitter: tuple[float, float]) -> Iterator[tuple[Tensor, Target]]:
    if jitter != AS_IS:
        scaling = AugmentConfig(views=1, jitter=jitter, flip=0.0, colour=0.0)
        views = Views(split, canvas=canvas, augment=scaling, seed=_EVAL_SEED)
        yield from (views[0, index] for index in range(len(split)))
        return
    for index in range(len(split)):
        image, target = split[index]
        image, target, _ = letterbox(image, target, (canvas, canvas))
        yield _plain(image, target)


def _plain(image: Tensor, target: dict[str, Any]) -> tuple[Tensor, Target]:
    # The subclasses of tv_tensors cost time in every later operation and are of no more use.
    boxes = target["boxes"].as_subclass(Tensor)
    return image.as_subclass(Tensor), {"boxes": boxes, "labels": target["labels"].as_subclass(Tensor)}


def _stack(batch: Sequence[tuple[Tensor, Target]]) -> Batch:
    return torch.stack([image for image, _ in batch]), [target for _, target in batch]


def _collect(
    items: Iterator[tuple[Tensor, Target]], total: int, canvas: int, what: str, progress: Progress
) -> Canvases:
    images = torch.empty((total, 3, canvas, canvas), dtype=torch.uint8)
    targets: list[Target] = []
    with one_thread():
        for number, (image, target) in enumerate(items):
            images[number] = image
            targets.append(target)
            if number % 50 == 0:
                progress(what, number, total)
    progress(what, total, total)
    return Canvases(images, targets)
