"""How well quick scores of candidates agree with the naive one, beside how well that agrees with itself.

    python experiments/fidelity.py truth                    # the naive way, three seeds: hours
    python experiments/fidelity.py scores [NAME ...]        # the quick ones of settings/fidelity_scores.toml
    python experiments/fidelity.py table                    # prints what the CSVs say; nothing is run

    --setting gpu    on a GPU and your own images: settings/fidelity_gpu_scores.toml, two seeds of the truth; first
                     python experiments/fidelity.py backbone --setting gpu
    --jobs N         one-thread processes (2)
    --out DIR        where finished trainings are kept; the same command goes on where it was killed (runs/SETTING)

The naive way is ``fidelity.toml``, that of the other setting ``fidelity_gpu.toml``. Candidates are 24 drawn uniformly
with a fixed seed and the published NAS-FPN network; FPN, PANet, BiFPN and MLFPN are not in the space. The CSVs go to
``experiments/results/``, for the other setting by names with ``fidelity_gpu``:

    fidelity_truth.csv     a row for each candidate and seed
    fidelity_scores.csv    a row for each score, candidate, seed and stop on the way
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from agreement import agreement, by_seed, ceiling
from strategies import RESULTS

from nasneck import NeckGraph, necks
from nasneck.data import load_data
from nasneck.experiment import Experiment, load_experiment
from nasneck.files import write_atomically
from nasneck.objective import ObjectiveConfig
from nasneck.provenance import command, commit
from nasneck.proxy import ProxyTask, proxy_config
from nasneck.proxy.task import progress_printer
from nasneck.rows import measurement_row
from nasneck.runner.halving import Halving
from nasneck.search_space import build_space, supernet_space
from nasneck.trial import Measurement

HERE = Path(__file__).parent
RANDOM, DRAWN_WITH = 24, 2024


@dataclass(frozen=True)
class Setting:
    """Data, the naive way to score candidates on them, and quick ones.

    Args:
        name: What its files are called by.
        seeds: Of the truth.
        backbone: The experiment whose backbone all ways start from, if they do not start from random weights.
    """

    name: str
    seeds: tuple[int, ...] = (0, 1, 2)
    backbone: Path | None = None

    @property
    def naive(self) -> Path:
        """The experiment of the naive way."""
        return HERE / f"{self.name}.toml"

    @property
    def scores(self) -> Path:
        """The quick ones."""
        return HERE / "settings" / f"{self.name}_scores.toml"

    def csv(self, what: str) -> Path:
        """Where results are kept."""
        return RESULTS / f"{self.name}_{what}.csv"


CPU = Setting("fidelity")
GPU = Setting("fidelity_gpu", (0, 1), HERE / "settings" / "fidelity_gpu_backbone.toml")
SETTINGS = {"cpu": CPU, "gpu": GPU}


@dataclass(frozen=True)
class Score:
    """A way to score candidates.

    Args:
        name: Of its rows.
        setting: Whose data and candidates.
        proxy: In place of the naive settings, a table as experiments have it; None is the naive way.
        seeds: Of weights and batches.
        rungs: Stops on the way.
    """

    name: str
    setting: Setting = CPU
    proxy: Mapping[str, Any] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    rungs: tuple[int, ...] = ()

    @property
    def experiment(self) -> Experiment:
        """The settings."""
        naive = load_experiment(self.setting.naive)
        if self.proxy is None:
            return naive
        return replace(
            naive, proxy=proxy_config(self.proxy, where=self.name), objective=ObjectiveConfig(latency_runs=0)
        )

    def task(self, store: Path | None) -> ProxyTask:
        """What measures; backbone and features are kept in ``store``."""
        return task_of(self.experiment, store)


def task_of(experiment: Experiment, store: Path | None) -> ProxyTask:
    """The proxy task of an experiment."""
    return ProxyTask(
        experiment.proxy,
        experiment.neck,
        load_data(experiment.data),
        store=store,
        device=experiment.device,
        objective=experiment.objective,
        space=supernet_space(experiment),
    )


def scores(setting: Setting = CPU) -> dict[str, Score]:
    """The quick ones, by name."""
    with setting.scores.open("rb") as file:
        tables = tomllib.load(file)
    return {
        name: Score(
            name,
            setting,
            table["proxy"],
            tuple(table.get("seeds", (0, 1, 2))),
            tuple(table.get("rungs", ())),
        )
        for name, table in tables.items()
    }


def candidates(experiment: Experiment) -> dict[str, NeckGraph]:
    """The candidates by name: the published network, then random ones."""
    space = build_space(experiment.space, experiment.neck)
    published = necks.nas_fpn(repeats=1)
    space.encode(published)  # it is in the space
    rng = np.random.default_rng(DRAWN_WITH)
    drawn = {
        f"random-{i}": space.decode([int(rng.integers(decision.choices)) for decision in space.decisions])
        for i in range(RANDOM)
    }
    return {"nas_fpn": published, **drawn}


def work(score: Score, out: Path, shard: int, jobs: int) -> None:
    """Train this process's share of candidates and seeds; each training is a file before the next one starts."""
    torch.set_num_threads(1)
    task = score.task(out.parent / "store")
    graphs = candidates(score.experiment)
    plan = [(name, seed) for seed in score.seeds for name in graphs]
    for name, seed in plan[shard::jobs]:
        path = out / f"{name}-{seed}.json"
        key = task.cache_key(graphs[name], seed=seed)
        if path.exists() and json.loads(path.read_text())["key"] == key:
            continue
        begin = time.process_time()
        stages = list(task.stages(graphs[name], seed=seed, rungs=score.rungs))
        found = {
            "key": key,
            "neck": name,
            "graph_key": graphs[name].key(),
            "cpu_seconds": time.process_time() - begin,
            "stages": [stage.to_dict() for stage in stages],
            "made": {"command": command(), "commit": commit()},
        }
        write_atomically(path, json.dumps(found))
        last = stages[-1]
        print(f"{score.name} {name} seed {seed}: {last.state} reward {last.reward} {last.seconds:.1f} s", flush=True)


def run(score: Score, out: Path, jobs: int) -> None:
    """Do what is not done yet of this score in ``jobs`` processes."""
    name = score.name
    (out / name).mkdir(parents=True, exist_ok=True)
    score.task(out / "store").prepare_weights()  # once, before several processes want them
    setting = next(key for key, value in SETTINGS.items() if value == score.setting)
    options = ["--setting", setting, "--out", str(out), "--jobs", str(jobs)]
    workers = [
        subprocess.Popen([sys.executable, __file__, "work", name, *options, "--shard", str(shard)])
        for shard in range(jobs)
    ]
    statuses = [worker.wait() for worker in workers]  # all of them, also if one fails
    if any(statuses):
        raise SystemExit(f"{name}: a process failed")


def train_backbone(setting: Setting) -> None:
    """Make the file of weights that the setting's experiments start from, once."""
    assert setting.backbone is not None, f"{setting.name} starts from random weights"
    path = Path(load_experiment(setting.naive).proxy.backbone.weights)
    if path.exists():
        return
    experiment = load_experiment(setting.backbone)
    task = task_of(experiment, None)
    task.prepare_weights(progress_printer())
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(task.weights, path)
    print(path)


def chosen(name: str, setting: Setting = CPU) -> Score:
    """A score by name; ``truth`` is the naive one."""
    return Score("truth", setting, seeds=setting.seeds) if name == "truth" else scores(setting)[name]


def rows(score: Score, out: Path) -> Iterator[dict[str, Any]]:
    """All that was measured for a score, one row a stage."""
    for seed in score.seeds:
        for name in candidates(score.experiment):
            path = out / score.name / f"{name}-{seed}.json"
            if not path.exists():
                continue
            found = json.loads(path.read_text())
            for stage in found["stages"]:
                measured = measurement_row(Measurement.from_dict(stage))
                yield {"score": score.name, "neck": name, "graph_key": found["graph_key"], **measured} | found["made"]


def write(score: Score, out: Path, path: Path) -> None:
    """Put the rows of a score into a CSV in place of those it holds of it."""
    new = pd.DataFrame(rows(score, out))
    if path.exists():
        old = pd.read_csv(path)
        new = pd.concat([old[old["score"] != score.name], new])
    new.to_csv(path, index=False)


def truth_of(setting: Setting = CPU) -> tuple[list[str], np.ndarray]:
    """Names and AP (seeds, candidates), of the candidates that all seeds have."""
    data = pd.read_csv(setting.csv("truth")).query("state == 'ok'")
    seeds = data["seed"].nunique()
    counts = data.groupby("neck")["seed"].nunique()
    order = [name for name in dict.fromkeys(data["neck"]) if counts[name] == seeds]
    return order, by_seed(data, "ap", order)


def table(setting: Setting = CPU) -> pd.DataFrame:
    """A row for each score and stop: cost and agreement."""
    order, truth = truth_of(setting)
    found = pd.read_csv(setting.csv("scores"))
    found = found[found["neck"].isin(order)]
    lines = []
    for (name, _, steps), stage in found.groupby(["score", "rung", "steps"], sort=False):
        for kind, column in (("loss", "loss"), ("ap", "ap")):
            if stage[column].notna().sum() == 0:
                continue
            values = by_seed(stage, column, order) * (-1 if kind == "loss" else 1)
            lines.append({"score": name, "steps": steps, "reward": kind, **agreement(values, truth)})
    return pd.DataFrame(lines)


def halved(name: str = "long", reduction: float = 2.0) -> pd.DataFrame:
    """Successive halving over the stops of a score, as a search does it: a row for each seed.

    ``share`` is that of the steps of training all to the end; ``winner_is`` the place of the winner by the truth.
    """
    order, truth = truth_of()
    mean = dict(zip(order, truth.mean(axis=0), strict=True))
    found = pd.read_csv(CPU.csv("scores")).query("score == @name")
    lines = []
    for seed, own in found[found["neck"].isin(order)].groupby("seed"):
        steps = sorted(own["steps"].unique())
        halving = Halving(len(steps) - 1, reduction)
        taken, best = 0, (-math.inf, "")
        for neck in order:
            rewards = own[own["neck"] == neck].sort_values("steps")["reward"].tolist()
            last = next((i for i, reward in enumerate(rewards[:-1]) if not halving.keeps(i, reward)), len(rewards) - 1)
            taken += steps[last]
            if last == len(steps) - 1:
                best = max(best, (rewards[-1], neck))
        place = 1 + sum(value > mean[best[1]] for value in mean.values())
        lines.append({"seed": seed, "share": taken / (steps[-1] * len(order)), "winner": best[1], "winner_is": place})
    return pd.DataFrame(lines)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["backbone", "truth", "scores", "work", "table"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--setting", choices=list(SETTINGS), default="cpu")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--shard", type=int, default=0)
    given = parser.parse_args()
    setting = SETTINGS[given.setting]
    out: Path = given.out or Path("runs") / setting.name
    if given.what == "work":
        work(chosen(given.names[0], setting), out / given.names[0], given.shard, given.jobs)
    elif given.what == "backbone":
        train_backbone(setting)
    elif given.what == "table":
        print_table(setting)
    else:
        names = ["truth"] if given.what == "truth" else given.names or list(scores(setting))
        for score in (chosen(name, setting) for name in names):
            run(score, out, given.jobs)
            write(score, out, setting.csv(given.what))
    return 0


def print_table(setting: Setting) -> None:
    """What the CSVs say."""
    order, truth = truth_of(setting)
    print({name: round(value, 3) for name, value in ceiling(truth).items()}, len(order), "candidates")
    print(table(setting).round(3).to_string(index=False))
    if setting == CPU:
        print(halved().round(3).to_string(index=False))


if __name__ == "__main__":
    raise SystemExit(main())
