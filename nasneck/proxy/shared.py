"""The ``shared`` fidelity: as ``cached``, but candidates start from weights that were trained for all of them, once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from nasneck.data.coco import CocoSplit
from nasneck.errors import ConfigError
from nasneck.proxy.batches import Batches
from nasneck.proxy.cached import CachedTraining
from nasneck.proxy.candidate import Candidate, compile_candidate, with_head
from nasneck.proxy.config import NeckConfig, ProxyConfig
from nasneck.proxy.fit import Fit
from nasneck.proxy.holdings import decoded, published
from nasneck.proxy.paths import FairPaths
from nasneck.proxy.store import SUPERNET, Weights, parted, state_digest, supernet_file
from nasneck.proxy.supernet import inherit, train_supernet
from nasneck.proxy.views import Progress, no_progress
from nasneck.space import SearchSpace

_OWN = 4  # one image in this many is for the candidates' own steps


class SharedTraining(CachedTraining):
    """As :class:`nasneck.proxy.cached.CachedTraining`.

    A quarter of the training images is for the candidates' own steps, and the others for the supernet: the loss of an
    image that the shared weights have seen would tell how well they remember it.

    Args:
        config, neck, train, store, features, device, amp: As there.
        space: Whose candidates share weights.
        weights: Of the backbone and the supernet, in place of training them.

    Raises:
        ConfigError: too few images.
    """

    def __init__(
        self,
        config: ProxyConfig,
        neck: NeckConfig,
        train: CocoSplit,
        *,
        store: Path | None,
        features: Path | None,
        device: torch.device,
        amp: bool,
        space: SearchSpace,
        weights: Weights | None = None,
    ) -> None:
        backbone, self._given_supernet = parted(weights or {})
        super().__init__(
            config, neck, train, store=store, features=features, device=device, amp=amp, weights=backbone or None
        )
        self._space = space
        self._file = supernet_file(store, config, neck, train, space)
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(config.supernet.seed)).tolist()
        size = config.train.batch_size
        own = max(size, len(order) // _OWN)
        if len(order) - own < size:
            raise ConfigError(
                f"fidelity 'shared' needs images for shared weights and others for the candidates' own steps, two "
                f"batches of {size} at least, and there are {len(order)}; lower train.batch_size"
            )
        self._images, self._others = order[:own], order[own:]
        seen = {place for batch in self._supernet_places() for place in batch}
        self._bank.check(self._bytes, len(seen), instead="fewer images (train_limit), or a smaller canvas or supernet")
        self._supernet: Weights = {}
        self._supernet_digest = ""

    @property
    def digest(self) -> str:
        """Also of the shared weights."""
        text = f"{self._features_digest}:{self._supernet_digest}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def weights(self) -> Weights | None:
        """Also those of the supernet."""
        if not self._supernet:
            return super().weights
        return {**(super().weights or {}), **{self._prefix + name: value for name, value in self._supernet.items()}}

    def prepare_weights(self, progress: Progress = no_progress) -> None:
        """Also train or load the supernet, once."""
        super().prepare_weights(progress)
        if self._supernet:
            return
        found = self._own(self._given_supernet) or self._own(self._file.load() or {})
        if not found:
            found = self._train(progress)
            self._file.save({self._prefix + name: value for name, value in found.items()}, replace=True)
        self._supernet, self._supernet_digest = found, state_digest(found)

    def _own(self, weights: Weights) -> Weights:
        """Those that were trained on features of this backbone, which on another GPU comes out another."""
        return {n.removeprefix(self._prefix): value for n, value in weights.items() if n.startswith(self._prefix)}

    @contextlib.contextmanager
    def training(self, candidate: Candidate, *, seed: int, steps: int, batch_size: int) -> Iterator[Fit]:
        """As :meth:`CachedTraining.training`, from the shared weights."""
        self.prepare_weights()
        inherit(candidate, self._supernet)
        with super().training(candidate, seed=seed, steps=steps, batch_size=batch_size) as fit:
            yield fit

    @property
    def _prefix(self) -> str:
        return f"{SUPERNET}{self._backbone_digest[:16]}/"

    def _train(self, progress: Progress) -> Weights:
        config, seed = self._config, self._config.supernet.seed
        paths = FairPaths(self._space, seed)
        drawn = [decoded(self._space, paths.draw()) for _ in range(config.supernet.path_steps)]
        graphs = [graph for graph in (published(self._space), *drawn) if graph is not None]
        places = self._supernet_places()
        kept = self._features_of(places, progress)
        self._kept = None  # these features are of no use later
        around = partial(
            with_head,
            config=config,
            num_classes=len(self._split.classes),
            seed=seed,
            device=self._device,
            amp=self._amp,
        )
        return train_supernet(
            graphs,
            Batches(kept, places),
            compile=partial(compile_candidate, neck=self._neck, in_channels=self.in_channels, seed=seed),
            with_head=around,
            config=config,
            progress=progress,
        )

    def _supernet_places(self) -> list[list[int]]:
        supernet, size = self._config.supernet, self._config.train.batch_size
        steps = supernet.warm + supernet.path_steps // supernet.paths
        return self._places_of(self._others, seed=supernet.seed, steps=steps, batch_size=size)
