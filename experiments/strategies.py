"""Search one experiment with several strategies, then compare the best of each with the fixed necks.

    python experiments/strategies.py experiments/bccd_octaves.toml --out runs/bccd_octaves --set data.root=DIR

Killed at any moment, the same command goes on where it was. It leaves in ``experiments/results/``:

    NAME_STRATEGY_trials.csv   the trials of each search
    NAME_compare.csv           the comparison
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results"
STRATEGIES = {
    "controller": ["strategy.name=controller"],
    "tpe": ["strategy.name=optuna", "strategy.sampler=tpe"],
    "evolution": ["strategy.name=evolution"],
    "random": ["strategy.name=random"],
}
FIXED = ("fpn", "panet", "bifpn", "nas_fpn")


def main() -> int:
    """Run what is not done yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--no-compare", action="store_true")
    given = parser.parse_args()
    name, changes = given.experiment.stem, [f"--set={change}" for change in given.changes]
    RESULTS.mkdir(exist_ok=True)
    store = None
    for strategy in given.strategies:
        folder = given.out / strategy
        if store is not None and not (folder / "store").exists():
            shutil.copytree(store, folder / "store")  # the backbone is the same, so it is trained once
        chosen = [f"--set={change}" for change in STRATEGIES[strategy]]
        resume = ["--resume"] if (folder / "study.sqlite").exists() else []
        nasneck("search", str(given.experiment), "--out", str(folder), *chosen, *changes, *resume)
        shutil.copy(folder / "trials.csv", RESULTS / f"{name}_{strategy}_trials.csv")
        store = folder / "store"
    if given.no_compare:
        return 0
    found = [str(given.out / strategy) for strategy in given.strategies]
    where = ["--experiment", str(given.experiment), "--out", str(given.out / "compare")]
    nasneck("compare", *found, *FIXED, *where, *changes)
    shutil.copy(given.out / "compare" / "compare.csv", RESULTS / f"{name}_compare.csv")
    return 0


def nasneck(*arguments: str) -> None:
    """Run a command; end with it if it fails."""
    print("nasneck", *arguments, flush=True)
    status = subprocess.run([sys.executable, "-m", "nasneck", *arguments]).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    sys.exit(main())
