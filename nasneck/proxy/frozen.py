"""The ``frozen`` fidelity: as ``cached``, but the backbone runs in every step, on views that nobody has seen before.

For augmentation, images or trainings whose features would not fit on the disk. Candidates that take turns step by step
share the passes of the backbone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from nasneck.proxy.cached import CachedTraining
from nasneck.proxy.passes import Passes
from nasneck.proxy.views import Progress, Views, batch_order, no_progress


class FrozenTraining(CachedTraining):
    """As :class:`nasneck.proxy.cached.CachedTraining`; the images that AP is taken on have stored features here too.

    In trainings the backbone computes in bfloat16 where candidates do.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._passes: dict[Passes, tuple[int, int, int]] = {}

    def prepare(self, *, seed: int, steps: int, batch_size: int, progress: Progress = no_progress) -> None:
        """Train or load the backbone, once; features of training images are not stored."""
        self.prepare_weights(progress)
        self._views.forget()

    def _check_room(self) -> None:
        """Of training images nothing is stored."""

    @contextlib.contextmanager
    def _batches(self, *, seed: int, steps: int, batch_size: int) -> Iterator[Passes]:
        """Those of a seed and length, the same for all trainings that begin together; they end with the last one."""
        wanted = (seed, steps, batch_size)
        # Who comes later would make the others' readers of images start anew in every step.
        fresh = (passes for passes, key in self._passes.items() if key == wanted and passes.batch <= 0)
        passes = next(fresh, None) or self._new_passes(seed=seed, steps=steps, batch_size=batch_size)
        self._passes[passes] = wanted
        passes.users += 1
        try:
            yield passes
        finally:
            passes.users -= 1
            if not passes.users:
                del self._passes[passes]
                passes.close()

    def _new_passes(self, *, seed: int, steps: int, batch_size: int) -> Passes:
        config = self._config
        return Passes(
            Views(self._split, canvas=config.canvas, augment=config.augment, seed=seed),
            batch_order(len(self._split), batch_size=batch_size, steps=steps, seed=seed),
            self._backbone,
            device=self._device,
            amp=self._amp,
            workers=config.workers,
        )
