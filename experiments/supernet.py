"""Whether weight sharing ranks candidates of the NAS-FPN space better, second for second, than short trainings do.

    python experiments/supernet.py run       # a quarter of an hour on one core
    python experiments/supernet.py table     # prints what the CSV says; nothing is run

    --out DIR    where finished parts are kept; the same command goes on where it was killed (runs/supernet)

Candidates and truth are those of ``fidelity.py``; backbone, features, head and batches are those of its score ``fast``.
A supernet (``supernet_weights.py``, ``supernet_training.py``) is trained and then scores candidates, in these ways:

    inherited      loss of its weights as they are, on the batches of ten steps
    recalibrated   the same, with the batch norms' statistics taken anew for each candidate, over ten other batches
    batch          the same, with the statistics of each batch
    fine-tuned     mean loss of n steps from its weights, each candidate with a copy of its own
    warm           likewise, but with head and laterals alone, after the warm start; cells are drawn
    independent    likewise with nothing: ``fast``, stopped after n steps

Losses are on images that are new to the supernet. ``experiments/results/supernet.csv`` has a row for each way, budget,
seed and candidate. ``supernet_cpu_seconds`` is what was done once for it, the features of the images that it saw
included; ``cpu_seconds`` is the candidate's own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import fidelity
import torch
from strategies import RESULTS
from supernet_training import Images, Plan, train, warm_start
from supernet_weights import SHARINGS, SharedWeights, own_candidate
from torch import nn

from nasneck import NeckGraph
from nasneck.device import describe_device
from nasneck.files import write_atomically
from nasneck.provenance import command, commit
from nasneck.proxy import ProxyTask
from nasneck.proxy.candidate import Candidate
from nasneck.rows import write_csv
from nasneck.search_space import build_space

SEEDS = (0, 1, 2)
STOPS = (3, 5, 10)  # steps of fine-tuning
BATCHES = 10  # of the losses without any, and for statistics
Row = dict[str, Any]


def tuned(task: ProxyTask, make: Callable[[], Candidate], seed: int, stops: Sequence[int]) -> Iterator[Row]:
    """The loss of a candidate's first steps at each of ``stops``, as ``fast`` has it, and the seconds up to there."""
    begin = time.process_time()
    options = task.config.train
    with task.fidelity.training(make(), seed=seed, steps=options.steps, batch_size=options.batch_size) as fit:
        for steps in stops:
            loss = fit.advance(steps)
            yield {"steps": steps, "score": -loss, "cpu_seconds": time.process_time() - begin}


def untrained(task: ProxyTask, candidate: Candidate, seed: int, *, batch_statistics: bool) -> float:
    """Mean loss of a candidate as it is on the first batches that it would train on."""
    options, found = task.config.train, []
    with task.fidelity.training(candidate, seed=seed, steps=options.steps, batch_size=options.batch_size) as fit:
        candidate.detector.train(batch_statistics)
        losses_at: Any = fit._losses_at
        with torch.inference_mode():
            for batch in range(BATCHES):
                found.append(sum(losses_at(batch).values()))
    return float(torch.stack(found).mean())


@torch.no_grad()
def recalibrate(candidate: Candidate, images: Images) -> None:
    """Take the statistics of the neck's batch norms anew: means over batches of training images."""
    norms = [module for module in candidate.neck.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    candidate.neck.train()
    for batch in range(BATCHES):
        candidate.outputs(images.features(batch))


def untuned(task: ProxyTask, weights: SharedWeights, graph: NeckGraph, images: Images, seed: int) -> Iterator[Row]:
    """The scores without fine-tuning."""
    for way in ("inherited", "recalibrated", "batch"):
        begin = time.process_time()
        candidate = weights.copy_of(graph, seed)
        if way == "recalibrated":
            recalibrate(candidate, images)
        loss = untrained(task, candidate, seed, batch_statistics=way == "batch")
        yield {"way": way, "steps": 0, "score": -loss, "cpu_seconds": time.process_time() - begin}


def fast() -> fidelity.Score:
    """The quick score whose settings these trainings have, with one view an image: each has one place then."""
    score = fidelity.scores()["fast"]
    return replace(score, proxy={**(score.proxy or {}), "augment": {"views": 1}})


class Parts:
    """Runs what is not done yet; each part is a file.

    Args:
        out: Folder of the parts; backbone and features are beside it.
        plan: Of the supernets.
        seeds: Of weights, batches and paths.
        task: In place of that of ``fast``.
        graphs: In place of the candidates of ``fidelity.py``.
    """

    def __init__(
        self,
        out: Path,
        plan: Plan,
        seeds: Sequence[int],
        task: ProxyTask | None = None,
        graphs: dict[str, NeckGraph] | None = None,
    ) -> None:
        score = fast()
        self.out, self.plan, self.seeds = out, plan, seeds
        self._store = out.parent / "store"
        self.task = task or score.task(self._store)
        self.graphs = graphs or fidelity.candidates(score.experiment)
        self.space = build_space(score.experiment.space, score.experiment.neck)

    def rows(self, sharings: Sequence[str] = tuple(SHARINGS)) -> Iterator[Row]:
        """All rows, from files where there are any."""
        image = self._part("features", 0, self._features)[0]["seconds"]
        for seed in self.seeds:
            yield from self._part("independent", seed, lambda seed=seed: self._independent(seed))
            yield from self._part("warm", seed, lambda seed=seed: self._warm(seed, image))
            for sharing in sharings:
                make = partial(self._shared, sharing, seed, image)
                yield from self._part(f"shared-{sharing}", seed, make)

    def _part(self, name: str, seed: int, make: Callable[[], Any]) -> list[Row]:
        key = self.task.cache_key(self.graphs["nas_fpn"], seed=seed) + json.dumps(
            [asdict(self.plan), list(self.graphs)]
        )
        path = self.out / f"{name}-{seed}.json"
        if path.exists():
            found = json.loads(path.read_text())
            if found["key"] == key:
                return found["rows"]
        begin = time.process_time()
        made = {"device": describe_device(self.task.device), "command": command(), "commit": commit()}
        rows = [{**row, **made} for row in make()]
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"key": key, "rows": rows}))
        print(f"{name} seed {seed}: {len(rows)} rows in {time.process_time() - begin:.0f} CPU s", flush=True)
        return rows

    def _features(self) -> Iterator[Row]:
        """CPU seconds that the features of an image take, views included."""
        images, size = len(self.task.data.train), self.task.config.train.batch_size
        with tempfile.TemporaryDirectory() as folder:  # so that they are not there yet
            score = fast()
            task = ProxyTask(
                self.task.config,
                self.task.neck,
                self.task.data,
                store=self._store,
                device=score.experiment.device,
                weights=self.task.weights,
                features=folder,
            )
            task.prepare_weights()
            begin = time.process_time()
            task.prepare(seed=0, steps=images // size)
            yield {"seconds": (time.process_time() - begin) / images}

    def _independent(self, seed: int) -> Iterator[Row]:
        self.task.prepare(seed=seed)
        stops = range(2, self.task.config.train.steps + 1)
        for neck, graph in self.graphs.items():
            for row in tuned(self.task, lambda graph=graph: own_candidate(self.task, graph, seed), seed, stops):
                yield {"way": "independent", **self._row(neck, seed), **row}

    def _images(self, seed: int) -> Images:
        batches = max(BATCHES, self.plan.warm + self.plan.budgets[-1] // self.plan.paths)
        return Images(self.task, seed=seed, steps=self.task.config.train.steps, batches=batches)

    def _started(self, seed: int) -> tuple[Images, Candidate, float]:
        """Images, warm candidate and the seconds that it took, without features."""
        images = self._images(seed)
        begin = time.process_time()
        first = warm_start(self.task, images, self.plan, seed)
        return images, first, time.process_time() - begin

    def _seen(self, images: Images, batches: int) -> int:
        return min(images.count, batches * self.task.config.train.batch_size)

    def _warm(self, seed: int, image: float) -> Iterator[Row]:
        images, first, seconds = self._started(seed)
        seconds += image * self._seen(images, self.plan.warm)
        weights = SharedWeights(self.task, first, "cell")
        for neck, graph in self.graphs.items():
            make = partial(weights.copy_of, graph, seed, with_cells=False)
            for row in tuned(self.task, make, seed, STOPS):
                yield {"way": "warm", **self._row(neck, seed, "", 0, seconds), **row}

    def _shared(self, sharing: str, seed: int, image: float) -> Iterator[Row]:
        images, first, seconds = self._started(seed)
        begin = time.process_time()
        weights = SharedWeights(self.task, first, sharing)
        for budget in train(self.task, self.space, weights, images, self.plan, seed):
            seconds += time.process_time() - begin
            seen = self._seen(images, self.plan.warm + budget // self.plan.paths)
            for neck, graph in self.graphs.items():
                known = self._row(neck, seed, sharing, budget, seconds + image * seen)
                for row in untuned(self.task, weights, graph, images, seed):
                    yield {**known, **row}
                for row in tuned(self.task, lambda graph=graph: weights.copy_of(graph, seed), seed, STOPS):
                    yield {"way": "fine-tuned", **known, **row}
            begin = time.process_time()

    def _row(self, neck: str, seed: int, sharing: str = "", budget: int = 0, seconds: float = 0.0) -> Row:
        return {
            "neck": neck,
            "seed": seed,
            "sharing": sharing,
            "budget": budget,
            "supernet_cpu_seconds": round(seconds, 3),
        }


COLUMNS = (
    "way",
    "sharing",
    "budget",
    "steps",
    "seed",
    "neck",
    "score",
    "supernet_cpu_seconds",
    "cpu_seconds",
    "device",
)


def ordered(row: Row) -> Row:
    """A row with its columns in order and its numbers short."""
    short = {**row, "score": round(row["score"], 6), "cpu_seconds": round(row["cpu_seconds"], 4)}
    return {name: short[name] for name in (*COLUMNS, "command", "commit")}


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--out", type=Path, default=Path("runs/supernet"))
    given = parser.parse_args()
    if given.what == "run":
        torch.set_num_threads(1)
        rows = [ordered(row) for row in Parts(given.out, Plan(), SEEDS).rows()]
        print(write_csv(RESULTS / "supernet.csv", rows))
    else:
        from supernet_table import table  # needs the truth

        print(table().round(3).to_string(index=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
