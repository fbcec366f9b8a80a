"""The ``shared`` fidelity: as ``cached``, but candidates start from weights that were trained for all of them, once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from nasneck.data.coco import CocoSplit
from nasneck.errors import ConfigError, NasneckError
from nasneck.graph import NeckGraph
from nasneck.proxy.batches import Batches
from nasneck.proxy.cached import CachedTraining
from nasneck.proxy.candidate import Candidate, build_candidate, compile_candidate
from nasneck.proxy.config import NeckConfig, ProxyConfig
from nasneck.proxy.fit import Fit
from nasneck.proxy.paths import FairPaths, published
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
        self._supernet: Weights = {}

    @property
    def digest(self) -> str:
        """Also of the shared weights."""
        text = f"{self._features_digest}:{state_digest(self._supernet)}"
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
        for found in (self._given_supernet, self._file.load() or {}):
            # What was trained on features of another backbone, as of another GPU, is of no use.
            known = {
                name.removeprefix(self._prefix): value for name, value in found.items() if name.startswith(self._prefix)
            }
            if known:
                self._supernet = known
                return
        self._supernet = self._train(progress)
        self._file.save({self._prefix + name: value for name, value in self._supernet.items()})

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
        graphs = [graph for graph in (self._decoded(paths) for _ in range(config.supernet.path_steps)) if graph]
        first = published(self._space) or next(iter(graphs), None)
        if first is None:
            raise ConfigError("no candidate of the space can be decoded, so there are none to share weights")
        candidate = build_candidate(
            first,
            config=config,
            neck=self._neck,
            in_channels=self.in_channels,
            num_classes=len(self._split.classes),
            seed=seed,
            device=self._device,
            amp=self._amp,
        )
        steps = config.supernet.warm + len(graphs) // config.supernet.paths
        places = self._places_of(self._others, seed=seed, steps=steps, batch_size=config.train.batch_size)
        kept = self._features_of(places, progress)
        self._kept = None  # these features are of no use later
        make = partial(compile_candidate, neck=self._neck, in_channels=self.in_channels, seed=seed)
        return train_supernet(candidate, graphs, Batches(kept, places), compile=make, config=config, progress=progress)

    def _decoded(self, paths: FairPaths) -> NeckGraph | None:
        try:
            return self._space.decode(paths.draw())
        except NasneckError:  # of a user's own space; as a candidate it will be recorded as one that failed
            return None
