"""Whether it pays to train several candidates at once in one process.

    python experiments/together.py [--rounds 9]

K candidates take turns, a step each on the same batch, whose features are fetched once for all of them. The other side
trains the same K one after another. Both sides take turns within a round, in changing order. Ratios below 1 mean that
being together is faster; they go to ``experiments/results/together.csv``. For the CPU: on a GPU, where kernels of small
necks could overlap, this says nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import fidelity
import torch
from strategies import RESULTS
from torch import Tensor

from nasneck import NeckGraph
from nasneck.device import describe_device
from nasneck.proxy import ProxyTask
from nasneck.proxy.candidate import build_candidate
from nasneck.proxy.features import FeatureStore
from nasneck.proxy.fit import Fit
from nasneck.rows import write_csv

STEPS = 20
COUNTS = (1, 2, 4, 8)


class Fetched(FeatureStore):
    """Remembers the batch that was taken last."""

    def __init__(self, store: FeatureStore, device: torch.device) -> None:
        super().__init__(store.maps, device)
        self._last: tuple[list[int], list[Tensor]] = ([], [])

    def take(self, indices: Tensor | slice) -> list[Tensor]:
        """As the store does, unless it is the same batch again."""
        assert isinstance(indices, Tensor)
        rows = indices.tolist()
        if rows != self._last[0]:
            self._last = (rows, super().take(indices))
        return self._last[1]


@contextlib.contextmanager
def fits(task: ProxyTask, graphs: Sequence[NeckGraph], *, steps: int = STEPS) -> Iterator[list[Fit]]:
    """A training of each graph, ready to begin."""
    with ExitStack() as stack:
        made = []
        for graph in graphs:
            candidate = build_candidate(
                graph,
                config=task.config,
                neck=task.neck,
                in_channels=task.in_channels,
                num_classes=len(task.data.classes),
                seed=0,
                device=task.device,
                amp=task.amp,
                backbone=task.fidelity.backbone(0),
            )
            size = task.config.train.batch_size
            made.append(stack.enter_context(task.fidelity.training(candidate, seed=0, steps=steps, batch_size=size)))
        yield made


def one_after_another(made: Sequence[Fit]) -> None:
    """Each to its end before the next one begins."""
    for fit in made:
        fit.advance(STEPS)


def together(made: Sequence[Fit]) -> None:
    """A step of each in turn."""
    for step in range(STEPS):
        for fit in made:
            fit.advance(step + 1)


def timed(task: ProxyTask, graphs: Sequence[NeckGraph], train: Callable[[Sequence[Fit]], None]) -> float:
    """Seconds a candidate and step."""
    with fits(task, graphs) as made:
        begin = time.perf_counter()
        train(made)
        return (time.perf_counter() - begin) / len(graphs) / STEPS


def measure(rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each K."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        task = fidelity.chosen("fast").task(Path(folder))
        task.prepare(seed=0, steps=STEPS)
        kept: Any = task.fidelity
        places, plain = kept._kept
        fetched = type(plain)(Fetched(plain.features, task.device), plain.targets, plain.row)
        graphs = list(fidelity.candidates(fidelity.chosen("fast").experiment).values())
        sides = {"apart": (plain, one_after_another), "together": (fetched, together)}
        for count in COUNTS:
            ratios, steps = [], []
            for turn in range(rounds + 1):
                seconds = {}
                for name, (store, train) in list(sides.items())[:: 1 if turn % 2 else -1]:
                    kept._kept = places, store
                    seconds[name] = timed(task, graphs[:count], train)
                if turn:  # the first one warms up
                    ratios.append(seconds["together"] / seconds["apart"])
                    steps.append(1000 * seconds["apart"])
            low, _, high = quantiles(ratios, n=4)
            yield {
                "together": count,
                "ratio": round(median(ratios), 3),
                "ratio_low": round(low, 3),
                "ratio_high": round(high, 3),
                "step_ms": round(median(steps), 2),
                "rounds": rounds,
                "device": describe_device(task.device),
            }


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    rows = []
    for row in measure(given.rounds):
        rows.append(row)
        print(row, flush=True)
    print(write_csv(RESULTS / "together.csv", rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
