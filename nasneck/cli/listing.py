"""What ``nasneck list`` prints. No torch, so that it comes at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasneck.draw.words import levels_words
from nasneck.necks import NECKS
from nasneck.necks.papers import PAPERS
from nasneck.necks.sizes import SETTING, NeckSize, load_sizes
from nasneck.resources import find_resource, resource_names

# The strategies' own descriptions; asking them would import torch.
STRATEGIES = {
    "random": "every decision uniform at random; the baseline",
    "controller": "LSTM controller trained by PPO on the rank of each candidate's reward",
    "evolution": "regularised evolution: mutants of tournament winners, the oldest member dies",
    "optuna": "a sampler of Optuna: tpe, gp, nsgaii, nsgaiii, random, brute_force or grid",
}
_HEAD = ("name", "year", "levels", "params", "GMACs", "paper")
_TO_THE_RIGHT = ("params", "GMACs")


def listing() -> str:
    """Fixed necks with their papers and sizes, search spaces, strategies and experiments."""
    sizes = load_sizes()
    lines = ["fixed necks:", *_table([_HEAD, *(_neck(name, sizes[name]) for name in NECKS)])]
    lines.append(f"  (parameters and multiply-adds: {SETTING})")
    sections = {
        "search spaces": _shipped("search_spaces"),
        "strategies": STRATEGIES,
        "experiments": _shipped("experiments"),
    }
    for title, entries in sections.items():
        lines.append(f"{title}:")
        lines += [f"  {name:<14} {text}" for name, text in entries.items()]
    return "\n".join(lines)


def _neck(name: str, size: NeckSize) -> tuple[str, ...]:
    paper = PAPERS[name]
    return (name, str(paper.year), levels_words(NECKS[name]()), *size.words, f"{paper.authors}, {paper.short_title}")


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines: list[str] = []
    for row in rows:
        cells = [
            f"{cell:>{width}}" if column in _TO_THE_RIGHT else f"{cell:<{width}}"
            for cell, width, column in zip(row, widths, _HEAD, strict=True)
        ]
        lines.append(f"  {'  '.join(cells)}".rstrip())
    return lines


def _shipped(kind: str) -> dict[str, str]:
    return {name: _comment(find_resource(kind, name)) for name in resource_names(kind)}


def _comment(path: Path | None) -> str:
    """The first line of a TOML file, if it is a comment."""
    if path is None:
        return ""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
