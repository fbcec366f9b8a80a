"""How many stored views of an image it takes: AP of trainings that see few views again and again, or always new ones.

    python experiments/views.py run [--only shapes] [--bccd DIR]    # a quarter of an hour on two cores, for each set
    python experiments/views.py table                               # prints what the CSV says; nothing is run

Few training images, so that a training sees each of them ten or twenty times: 240 generated ones, and the blood cells
of ``bccd_octaves.toml`` under their strong augmentation. Three fixed necks and a random one with the preset ``quick``,
two seeds; the backbone is trained on the same views. ``EPOCHS`` views give each epoch its own.
``results/views.csv`` has a row for each training; what is in ``runs/views`` is not trained again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fidelity
import numpy as np
import pandas as pd
import torch
from strategies import RESULTS

from nasneck import NeckGraph, necks
from nasneck.device import describe_device
from nasneck.experiment import Experiment, load_experiment
from nasneck.files import write_atomically
from nasneck.provenance import command, commit
from nasneck.rows import write_csv
from nasneck.search_space import build_space

HERE = Path(__file__).parent
CSV = RESULTS / "views.csv"
EPOCHS = 100  # more than a training has
VIEWS = (1, 2, 4, 8, EPOCHS)
SEEDS = (0, 1)
STEPS = {"shapes": 300, "bccd": 150}
DRAWN_WITH = 2024


@dataclass(frozen=True)
class Group:
    """Trainings that share a backbone: those of a set with so many views."""

    data: str
    views: int
    bccd: str

    @property
    def experiment(self) -> Experiment:
        """Its settings."""
        name, changes = {
            "shapes": ("fidelity", ["data.train_limit=240", 'proxy.fidelity="cached"', 'proxy.amp="auto"']),
            "bccd": ("bccd_octaves", [f'data.root="{self.bccd}"']),
        }[self.data]
        if self.data == "shapes":
            changes = [*changes, "proxy.channels_last=true"]
        changes = [*changes, f"proxy.train.steps={STEPS[self.data]}", f"proxy.augment.views={self.views}"]
        experiment = load_experiment(HERE / f"{name}.toml", changes)
        return replace(experiment, objective=replace(experiment.objective, latency_runs=0))


def graphs(experiment: Experiment) -> dict[str, NeckGraph]:
    """The necks by name."""
    space = build_space(experiment.space, experiment.neck)
    rng = np.random.default_rng(DRAWN_WITH)
    drawn = space.decode([int(rng.integers(decision.choices)) for decision in space.decisions])
    return {
        "fpn": necks.fpn(),
        "bifpn": necks.bifpn(repeats=1),
        "nas_fpn": necks.nas_fpn(repeats=1),
        "random-0": drawn,
    }


def train(group: Group, out: Path, made: dict[str, str]) -> list[dict[str, Any]]:
    """The rows of a group; each training is a file before the next one starts."""
    torch.set_num_threads(1)
    task = fidelity.task_of(group.experiment, out / "store" / f"{group.data}-{group.views}")
    size, images = task.config.train.batch_size, len(task.data.train)
    rows = []
    for seed in SEEDS:
        for name, graph in graphs(group.experiment).items():
            key = task.cache_key(graph, seed=seed)
            path = out / f"{group.data}-{group.views}-{name}-{seed}.json"
            if not path.exists() or json.loads(path.read_text())["key"] != key:
                found = task.evaluate(graph, seed=seed)
                row = {"data": group.data, "views": group.views, "images": images, "neck": name, "seed": seed}
                row |= {
                    "steps": found.steps,
                    "epochs": round((found.steps or 0) * size / images, 1),
                    "state": str(found.state),
                }
                row |= {"ap": found.ap, "loss": found.loss, "seconds": round(found.seconds or 0.0, 2)}
                row |= {"device": describe_device(task.device), **made}
                write_atomically(path, json.dumps({"key": key, "row": row}))
                print(row, flush=True)
            rows.append(json.loads(path.read_text())["row"])
    return rows


def run(sets: list[str], bccd: str, out: Path) -> Iterator[dict[str, Any]]:
    """All rows; two groups at a time."""
    out.mkdir(parents=True, exist_ok=True)
    groups = [Group(data, views, bccd) for data in sets for views in VIEWS]
    made = {"command": command(), "commit": commit()}
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for rows in pool.map(train, groups, [out] * len(groups), [made] * len(groups)):
            yield from rows


def table() -> pd.DataFrame:
    """A row for each set and number of views: mean AP in percent, and what is missing to always new views.

    The difference is that of pairs of the same neck and seed, with its standard error.
    """
    lines = []
    for data, own in pd.read_csv(CSV).groupby("data", sort=False):
        ap: Any = 100 * own.pivot_table(index=["neck", "seed"], columns="views", values="ap")
        for views in ap.columns:
            less = ap[views] - ap[EPOCHS]
            line = {"data": data, "epochs": own["epochs"].iloc[0], "views": views, "ap": ap[views].mean()}
            line |= {"loss": own[own["views"] == views]["loss"].mean()}
            lines.append(line | {"less": less.mean(), "error": less.std(ddof=1) / len(less) ** 0.5})
    return pd.DataFrame(lines)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--only", choices=["shapes", "bccd"], help="one set; its rows take the place of the old ones")
    parser.add_argument("--bccd", default="data/bccd", help="folder of BCCD (data/bccd)")
    parser.add_argument("--out", type=Path, default=Path("runs/views"))
    given = parser.parse_args()
    if given.what == "run":
        sets = [given.only] if given.only else ["shapes", "bccd"]
        rows = list(run(sets, given.bccd, given.out))
        old = pd.read_csv(CSV).to_dict("records") if CSV.exists() else []
        print(write_csv(CSV, [row for row in old if row["data"] not in sets] + rows))
    print(table().round(3).to_string(index=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
