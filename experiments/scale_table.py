"""What the README says about scale: the table of ``scale.csv`` and, by its numbers, the arithmetic for many GPUs.

Written by ``tables.py``. Every number comes from a CSV in ``experiments/results/`` or a default in the code.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from strategies import RESULTS

from nasneck.objective import ObjectiveConfig
from nasneck.proxy import PRESETS
from nasneck.strategy.controller import PRESETS as CONTROLLERS
from nasneck.strategy.controller import ControllerOptions
from nasneck.strategy.evolution import EvolutionOptions

COCO_IMAGES = 110_895  # of train2017, as NAS-FPN's search trains on
PER_GPU = 4  # workers on one GPU, with gpus_per_trial = 0.25
GPUS = (8, 64)
PER_MACHINE = 8  # GPUs


def scale_section(path: Path = RESULTS / "scale.csv") -> str:
    """Heading, table and plan; empty as long as nothing is measured."""
    if not path.exists():
        return ""
    rows = pd.read_csv(path, dtype={"commit": str})  # some are all digits
    device = "; ".join(sorted(set(rows["device"])))
    commits = ", ".join(sorted(set(rows["commit"])))
    made = f"Commit {commits}: `{rows['command'].iloc[0]}`; {device}."
    parts = ["### Does it scale?", table(rows), made, "#### 8 GPUs, and 64", plan(rows)]
    return "\n" + "\n\n".join(parts) + "\n\n"


def table(rows: pd.DataFrame) -> str:
    """All rows, in Markdown; growth as a factor, beside that of the size."""
    lines = ["| what | size | value | per unit | growth (of the size) |", "|---|---:|---:|---:|---:|"]
    last = ""
    for row in rows.to_dict("records"):
        what = str(row["what"])
        growth = "" if pd.isna(row["growth"]) else f"{row['growth']:.2f} ({row['size_growth']:.3g})"
        each = f"{_amount(row['per_unit'], row['unit'])} / {row['per']}" if row["per_unit"] != row["value"] else ""
        shown = what if what != last else ""
        lines.append(f"| {shown} | {row['size']:,} | {_amount(row['value'], row['unit'])} | {each} | {growth} |")
        last = what
    return "\n".join(lines)


def plan(rows: pd.DataFrame) -> str:
    """The arithmetic. All of it is estimated: no search of this size has run."""
    tune = pd.read_csv(RESULTS / "overhead_tune.csv")["nasneck_ms"].median()
    commit = pd.read_csv(RESULTS / "overhead_commit.csv")["trial_ms"].median()
    seconds = 3600 / value(rows, "candidates an hour, in the process")
    head = (
        "**Estimates**: arithmetic with the numbers above and those of `overhead_*.csv`. No search of this size has"
        f" run, and none on a GPU. A candidate is taken to last {seconds:.1f} s, as above on one CPU thread, or 1 s;"
        " the driver is the one process that asks, tells and writes."
    )
    driver = (
        f"A trial on Ray Tune takes {tune:.0f} ms of the driver (no-op evaluations by two workers, so at most that),"
        " and ask and tell of a strategy come on top. Above 100 % workers wait for it. SQLite is not the limit: a trial"
        f" without Tune, its two commits included, takes {commit:.2f} ms."
    )
    end = (
        "So 8 GPUs take `--workers 8` and the defaults. 64, on 8 machines, take `--workers 64`, `strategy.batch=64` or"
        " evolution with `strategy.population=64`, a budget of a thousand trials and more, and `[halving]`, where"
        " nobody waits for others. Beyond that, a second search with another seed is a better use of GPUs than more"
        " workers for the first."
    )
    return "\n\n".join([head, load(driver_ms(tune), seconds), driver, breaks(rows), end])


def load(driver: dict[str, float], seconds: float) -> str:
    """How busy the driver is with so many workers, at ``seconds`` a candidate and at 1 s."""
    lines = [
        f"| GPUs | workers | candidates an hour | driver busy: {' | '.join(driver)} |",
        "|---:|---:|---:|" + "---:|" * len(driver),
    ]
    for gpus in GPUS:
        for workers in (gpus, gpus * PER_GPU):
            hourly = f"{3600 * workers / seconds:,.0f} / {3600 * workers:,}"
            busy = [
                " / ".join(_share(workers * each / 1000 / lasting) for lasting in (seconds, 1.0))
                for each in driver.values()
            ]
            lines.append(f"| {gpus} | {workers} | {hourly} | {' | '.join(busy)} |")
    return "\n".join(lines)


def breaks(rows: pd.DataFrame) -> str:
    """What would break first, in this order."""
    batch, nasnet = ControllerOptions().batch, CONTROLLERS["nasnet"]["batch"]
    population, steps = EvolutionOptions().population, PRESETS["quick"].train.steps
    passes = ObjectiveConfig().latency_runs + 3  # and the warm-up
    memory = per_unit(rows, "memory of features", smallest=True)  # of a small set, all views are looked at
    few, many = GPUS
    reasons = (
        f"**Latency.** Unless `objective.latency_runs` is 0, each candidate's neck runs {passes} times while nobody"
        " else on its machine trains, after waiting for their running steps: at least one step of"
        f" {steps}, for everybody. That is {_share(PER_MACHINE / steps)} of the time with {PER_MACHINE} workers on a"
        f" machine and {_share(PER_MACHINE * PER_GPU / steps)} with {PER_MACHINE * PER_GPU}.",
        "**Learners.** With W in flight, an answer was asked W results ago. For the controller that is"
        f" {_number(few / batch)} updates with {few} and {_number(many / batch)} with {many} (preset `nasnet`:"
        f" {_number(few / nasnet)} and {_number(many / nasnet)}), and PPO corrects for small changes alone; evolution's"
        f" queue of {population} turns over {_number(many / population)} times in the meantime.",
        f"**Features.** They are {memory:.2f} MiB an image at 128 px with two views,"
        f" {memory * COCO_IMAGES / 1024:.0f} GiB for the {COCO_IMAGES:,} images that NAS-FPN's search trains on, in"
        " files that the workers of a machine share; on a GPU each has its own besides, if there is room. More pixels"
        " take more in proportion; `disk_limit_mb` (64 GiB) and the views that a training has time for bound it.",
        f"**Start.** The first result on Tune came after"
        f" {value(rows, 'wait for the first result, Ray Tune'):.0f} s; features take"
        f" {1000 * per_unit(rows, 'features of generated images'):.0f} ms an image of each worker's CPU thread. Workers"
        " do it side by side, if a machine has a CPU for each and its disk keeps up.",
        "**The driver**, by the table: TPE's asks get longer the more trials there are, and the Gaussian process is out"
        " of the question. One study has one driver.",
    )
    heading = "What would break first, in this order:"
    return "\n".join([heading, "", *(f"{place}. {reason}" for place, reason in enumerate(reasons, start=1))])


def driver_ms(tune: float) -> dict[str, float]:
    """Milliseconds of the driver for a trial by strategy; random search's own are among Tune's."""
    long, optuna = (pd.read_csv(RESULTS / f"overhead_{name}.csv") for name in ("long", "optuna"))
    found = {"random": tune}
    for name in ("controller", "evolution"):
        own = long[long["strategy"] == name]
        found[name] = tune + own["ask_ms"].mean() + own["tell_ms"].mean()
    tpe = optuna[optuna["sampler"] == "tpe"].sort_values("trials").iloc[-1]
    return {**found, "tpe": tune + tpe["ask_ms"] + tpe["tell_ms"]}


def value(rows: pd.DataFrame, what: str) -> float:
    """That of the largest size."""
    return float(_ordered(rows, what).iloc[-1]["value"])


def per_unit(rows: pd.DataFrame, what: str, *, smallest: bool = False) -> float:
    """Likewise, or that of the smallest."""
    return float(_ordered(rows, what).iloc[0 if smallest else -1]["per_unit"])


def _ordered(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    return rows[rows["what"] == what].sort_values("size")


def _share(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1f} %"


def _number(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _amount(number: float, unit: str) -> str:
    """With three digits, and of a second its thousandths where it is short."""
    if unit == "s" and number < 0.5:
        number, unit = 1000 * number, "ms"
    return f"{number:,.0f} {unit}" if number >= 1000 else f"{number:.3g} {unit}"
