"""How well quick scores rank candidates on real images: blood cells, beside AP of longer trainings.

    python experiments/fidelity_bccd.py run [--set data.root=DIR]    # a quarter of an hour on one core
    python experiments/fidelity_bccd.py table                        # prints what the CSV says; nothing is run

Candidates are those that the random search of ``bccd_octaves.toml`` has drawn, and the truth is their reward there
(``results/bccd_octaves_random_trials.csv``): AP on held-out images after 150 steps, one seed. The scores are the
presets ``fast`` and ``shared`` with the data and settings of ``bccd_shared.toml``. ``results/bccd_octaves_scores.csv``
has a row for each score, candidate and seed; what is in ``runs/fidelity_bccd`` is not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fidelity
import pandas as pd
import torch
from agreement import agreement, ceiling
from strategies import RESULTS

from nasneck.device import describe_device
from nasneck.experiment import Experiment, load_experiment
from nasneck.files import write_atomically
from nasneck.provenance import command, commit
from nasneck.proxy import PRESETS
from nasneck.rows import write_csv
from nasneck.search_space import build_space

EXPERIMENT = Path(__file__).parent / "bccd_shared.toml"
TRUTH, SCORES = RESULTS / "bccd_octaves_random_trials.csv", RESULTS / "bccd_octaves_scores.csv"
NAMES, SEEDS = ("fast", "shared"), (0, 1)


def truth() -> pd.DataFrame:
    """Number, choices and reward of the candidates, each graph once."""
    trials = pd.read_csv(TRUTH).query("state == 'ok'")
    return trials.drop_duplicates("graph_key")[["number", "choices", "graph_key", "reward"]]


def experiment_of(name: str, changes: list[str]) -> Experiment:
    """The experiment with the head and training of a preset."""
    experiment, preset = load_experiment(EXPERIMENT, changes), PRESETS[name]
    proxy = replace(experiment.proxy, fidelity=preset.fidelity, detector=preset.detector, train=preset.train)
    return replace(experiment, proxy=proxy)


def measured(name: str, changes: list[str], out: Path) -> Iterator[dict[str, Any]]:
    """The rows of a score; each training is a file before the next one starts."""
    experiment = experiment_of(name, changes)
    task = fidelity.task_of(experiment, out / "store")
    space = build_space(experiment.space, experiment.neck)
    for seed in SEEDS:
        for row in truth().to_dict("records"):
            graph = space.decode([int(choice) for choice in str(row["choices"]).split()])
            assert graph.key() == row["graph_key"], f"trial {row['number']} is another graph now"
            key = task.cache_key(graph, seed=seed)
            path = out / f"{name}-{row['number']}-{seed}.json"
            if not path.exists() or json.loads(path.read_text())["key"] != key:
                found = task.evaluate(graph, seed=seed)
                result = {"score": name, "number": row["number"], "seed": seed, "reward": found.reward}
                result |= {"steps": found.steps, "seconds": round(found.seconds or 0.0, 3)}
                made = {"device": describe_device(task.device), "command": command(), "commit": commit()}
                out.mkdir(parents=True, exist_ok=True)
                write_atomically(path, json.dumps({"key": key, "row": {**result, **made}}))
                print(result, flush=True)
            yield json.loads(path.read_text())["row"]


def table() -> pd.DataFrame:
    """A row for each score: cost and agreement with the truth."""
    rows, known = pd.read_csv(SCORES), truth().set_index("number")["reward"]
    lines = []
    for name, found in rows.groupby("score", sort=False):
        scores = found.pivot_table(index="seed", columns="number", values="reward", dropna=False)[list(known.index)]
        agreed = agreement(scores.to_numpy(), known.to_numpy()[None])
        seeds = ceiling(scores.to_numpy())["tau"]
        lines.append({"score": name, "seconds": found["seconds"].median(), "own_tau": seeds, **agreed})
    return pd.DataFrame(lines)


def words() -> str:
    """What the README says of it; empty as long as nothing is measured."""
    if not SCORES.exists():
        return ""
    rows, known = pd.read_csv(SCORES), truth()
    found = [
        f"`{row['score']}` {row['tau']:.2f} ({row['low']:.2f} to {row['high']:.2f}), better half"
        f" {row['tau_top']:.2f}, its best candidate has place {row['best_is']:.1f} ({row['seconds']:.1f} s a candidate;"
        f" {row['own_tau']:.2f} between its own seeds)"
        for row in table().to_dict("records")
    ]
    commits = ", ".join(sorted(set(rows["commit"].astype(str))))
    return (
        f"On real images, the {len(known)} random candidates of `bccd_octaves` and their AP after 150 steps (one seed,"
        " so the ceiling is not known), tau with a 90 % bootstrap interval:"
        f" {'; '.join(found)}. Commit {commits}: `{rows['command'].iloc[0]}`; {rows['device'].iloc[0]}."
    )


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--out", type=Path, default=Path("runs/fidelity_bccd"))
    given = parser.parse_args()
    if given.what == "run":
        torch.set_num_threads(1)
        rows = [row for name in NAMES for row in measured(name, given.changes, given.out)]
        print(write_csv(SCORES, rows))
    print(table().round(3).to_string(index=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
