"""Does it pay to skip the candidates that a small predictor, learnt from a study's own results, thinks worst?

    python experiments/prefilter.py run      # goes on where it was killed; finished parts are kept in runs/prefilter
    python experiments/prefilter.py table    # prints what the CSV says; nothing is run

A search asks its strategy for several proposals, trains the one that ``predictor.py`` puts first and skips the others
(``prefilter_ask.py``). Testbeds:

    synthetic   the problem of ``synthetic.py``, noise 0.2, on seeds that nothing was chosen on; the value is the truth
                of the candidate with the best noisy reward so far. Choices mean no wiring here: predictors read them
    pool        real rewards of ``prefilter_pool.py``, replayed: random search draws from the pool without putting back;
                the value is the best reward so far, in standard deviations of the pool above its mean
    live        the same rewards, measured while evolution searches

The CSVs go to ``experiments/results/``:

    prefilter.csv        a row for each search and number of evaluations; ``best`` is the value, ``tau`` that of a
                         predictor's order of 100 (pool) or 200 held-out candidates. ``seconds`` is CPU time of all but
                         the evaluations up to then (asks, tells, filter); an evaluation takes ``evaluation_seconds``
    prefilter_pool.csv   the pool
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from agreement import tau_b
from predictor import WIDTHS, Predictor, wiring
from prefilter_ask import Filtered
from prefilter_pool import Scorer, pool_rows
from strategies import RESULTS

from nasneck.decision import Choices
from nasneck.device import describe_device
from nasneck.files import write_atomically
from nasneck.provenance import command, commit
from nasneck.rows import write_csv
from nasneck.space import load_space
from nasneck.strategy import Strategy, make_strategy
from nasneck.strategy.landscape import Landscape
from nasneck.strategy.random import RandomStrategy
from nasneck.trial import Outcome

Row = dict[str, Any]
SPACE = load_space("nas_fpn", repeats=1)
MARKS = (20, 30, 40, 50, 75, 100, 150, 200, 250, 300, 350, 400)
SIZES = (25, 50, 100, 200)  # trainings that a predictor learns from
FIRST_SEED = 200  # synthetic.py reports on seeds 0 to 9, and settings of strategies were chosen on 100 to 109
TAU_SEED = 300  # of the landscapes on which predictors are held against each other


@dataclass(frozen=True)
class Search:
    """One strategy with one filter; ``proposals`` 1 is none."""

    testbed: str
    strategy: str
    evaluations: int
    seeds: int
    proposals: int = 1
    kernel: str = "pairs"
    told: Literal["nothing", "rejected"] = "nothing"

    @property
    def filter(self) -> str:
        """In words, for a row."""
        rejects = ", told rejected" if self.told == "rejected" else ""
        return "none" if self.proposals == 1 else f"best of {self.proposals} by {self.kernel}{rejects}"


PLAN = (
    *(Search("synthetic", name, 400, 10, m) for name in ("random", "evolution") for m in (1, 2, 4)),
    *(Search("synthetic", "controller", 400, 10, m) for m in (1, 2, 4)),
    Search("synthetic", "controller", 400, 10, 4, told="rejected"),
    Search("pool", "random", 300, 20),
    *(Search("pool", "random", 300, 20, m, kernel) for kernel in ("pairs", "wiring") for m in (2, 4)),
    *(Search("live", "evolution", 75, 5, m, "wiring") for m in (1, 4)),
)


class Drawn(RandomStrategy):
    """Proposes given candidates in their order, each once; ``IndexError`` when they are used up."""

    def __init__(self, order: list[Choices]) -> None:
        super().__init__(SPACE.decisions, seed=0)
        self._order = order

    def propose(self, number: int) -> Choices:
        """The next one."""
        return self._order[number]


def encoded(kernel: str, choices: Choices) -> np.ndarray:
    """What a predictor with this kernel reads."""
    return wiring(SPACE.decode(choices)) if kernel == "wiring" else np.array(choices)


def trace(search: Search, strategy: Strategy, evaluate: Callable[[Choices], tuple[float, float]]) -> Iterator[Row]:
    """(value, seconds) of a search at every mark; ``evaluate`` gives reward and value of a candidate."""
    filtered = Filtered(
        strategy,
        Predictor(search.kernel),
        lambda choices: encoded(search.kernel, choices),
        proposals=search.proposals,
        told=search.told,
    )
    best, seconds = (-np.inf, -np.inf), 0.0
    for evaluations in range(1, search.evaluations + 1):
        begin = time.process_time()
        try:
            ask = filtered.ask()
        except IndexError:  # the pool is used up
            return
        seconds += time.process_time() - begin
        found = evaluate(ask.choices)
        best = max(best, found)
        begin = time.process_time()
        filtered.tell(ask.number, Outcome((found[0],)))
        seconds += time.process_time() - begin
        if evaluations in MARKS:
            yield {"evaluations": evaluations, "value": round(best[1], 4), "seconds": round(seconds, 4)}


@dataclass(frozen=True)
class Pool:
    """The pool's rewards in standard deviations above their mean, by choices."""

    rewards: dict[Choices, float]
    mean: float
    deviation: float

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Pool:
        """From the rows of ``prefilter_pool.csv``; a candidate without a reward counts as the worst."""
        rows = rows[rows["seed"] == 0]
        reward = rows["reward"].fillna(rows["reward"].min())
        mean, deviation = float(reward.mean()), float(reward.std(ddof=1))
        keys = [tuple(map(int, text.split())) for text in rows["choices"]]
        return cls(dict(zip(keys, ((reward - mean) / deviation).tolist(), strict=True)), mean, deviation)


def search_rows(search: Search, seed: int, pool: Pool, scorer: Scorer) -> Iterator[Row]:
    """One search, a row at each mark."""
    if search.testbed == "synthetic":
        land, noise = Landscape(SPACE.decisions, FIRST_SEED + seed), random.Random(FIRST_SEED + seed)
        strategy = make_strategy(search.strategy, SPACE.decisions, seed=FIRST_SEED + seed)
        yield from trace(search, strategy, lambda choices: (land.evaluate(choices, noise), land.truth(choices)))
    elif search.testbed == "pool":
        order = list(pool.rewards)
        random.Random(seed).shuffle(order)
        yield from trace(search, Drawn(order), lambda choices: (pool.rewards[choices],) * 2)
    else:

        def measure(choices: Choices) -> tuple[float, float]:
            reward = scorer.score(choices)["measurement"]["reward"]
            value = -np.inf if reward is None else (reward - pool.mean) / pool.deviation
            return value, value

        yield from trace(search, make_strategy(search.strategy, SPACE.decisions, seed=seed), measure)


def tau_rows(pool: Pool, seed: int) -> Iterator[Row]:
    """Kendall's tau of every predictor on candidates that it has not seen, by the number that it has."""
    land, noise = Landscape(SPACE.decisions, TAU_SEED + seed), random.Random(TAU_SEED + seed)
    rng = random.Random(seed)
    drawn = [tuple(rng.randrange(decision.choices) for decision in SPACE.decisions) for _ in range(max(SIZES) + 200)]
    noisy, true = [land.evaluate(choices, noise) for choices in drawn], [land.truth(choices) for choices in drawn]
    yield from _taus("synthetic", drawn, noisy, true, ("ridge", "pairs", "hamming"))
    order = list(pool.rewards)
    rng.shuffle(order)
    real = [pool.rewards[choices] for choices in order]
    yield from _taus("pool", order, real, real, tuple(WIDTHS))


def _taus(
    testbed: str, drawn: list[Choices], rewards: list[float], truth: list[float], kernels: tuple[str, ...]
) -> Iterator[Row]:
    held = np.array(truth[max(SIZES) :])
    for kernel in kernels:
        read = np.stack([encoded(kernel, choices) for choices in drawn])
        for size in SIZES:
            begin, predictor = time.process_time(), Predictor(kernel)
            predictor.fit(read[:size], rewards[:size])
            found = predictor.predict(read[max(SIZES) :])
            seconds = time.process_time() - begin
            what = {"testbed": testbed, "measure": "tau", "strategy": "", "filter": kernel}
            yield {**what, "evaluations": size, "value": round(tau_b(found, held), 4), "seconds": round(seconds, 4)}


def parts(pool: Pool, scorer: Scorer) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """Name and work of every part; the rows of a part say what they are of."""
    for seed in range(10):
        yield f"tau-{seed}", lambda seed=seed: [{**row, "seed": seed} for row in tau_rows(pool, seed)]
    for search in PLAN:
        for seed in range(search.seeds):
            what = {"testbed": search.testbed, "measure": "best", "strategy": search.strategy, "filter": search.filter}
            name = "-".join(map(str, [*what.values(), seed])).replace(" ", "_")
            yield (
                name,
                lambda search=search, seed=seed, what=what: [
                    {**what, **row, "seed": seed} for row in search_rows(search, seed, pool, scorer)
                ],
            )


@cache
def ceiling(path: Path = RESULTS / "prefilter_pool.csv") -> float:
    """Tau of the pool's score to itself with another seed."""
    rows = pd.read_csv(path).pivot_table(index="number", columns="seed", values="reward").dropna()
    return tau_b(rows[0].to_numpy(), rows[1].to_numpy())


def run(out: Path) -> None:
    """Do what is not done, then write both CSVs."""
    torch.set_num_threads(1)
    scorer = Scorer(out / "pool")
    rows = list(pool_rows(scorer))
    write_csv(RESULTS / "prefilter_pool.csv", rows)
    table = pd.read_csv(RESULTS / "prefilter_pool.csv")
    pool, each = Pool.of(table), round(float(table["cpu_seconds"].median()), 4)
    made = {"command": command(), "commit": commit(), "device": describe_device(torch.device("cpu"))}
    found: list[Row] = []
    for name, work in parts(pool, scorer):
        path = out / "parts" / f"{name}.json"
        if not path.exists():
            begin = time.process_time()
            write_atomically(path, json.dumps([{**row, **made} for row in work()]), durable=False)
            print(f"{name} {time.process_time() - begin:.1f} s", flush=True)
        found += json.loads(path.read_text())
    tau = {"testbed": "pool", "measure": "tau", "strategy": "", "filter": "the score, another seed", "seed": 1}
    found.append({**tau, "evaluations": 0, "value": round(ceiling(), 4), "seconds": 0.0, **made})
    print(write_csv(RESULTS / "prefilter.csv", [{**row, "evaluation_seconds": each} for row in found]))


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--out", type=Path, default=Path("runs/prefilter"))
    given = parser.parse_args()
    if given.what == "run":
        run(given.out)
    from prefilter_table import prefilter_section

    print(prefilter_section())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
