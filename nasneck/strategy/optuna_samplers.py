"""Optuna's samplers by name: which of them fit a space of choices, and how they are made from plain settings."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasneck.decision import Decision
from nasneck.errors import ConfigError
from nasneck.settings import convert, did_you_mean
from nasneck.strategy.optuna_tools import quiet, require_optuna

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

CLASSES: Mapping[str, str] = {
    "brute_force": "BruteForceSampler",
    "gp": "GPSampler",
    "grid": "GridSampler",
    "nsgaii": "NSGAIISampler",
    "nsgaiii": "NSGAIIISampler",
    "random": "RandomSampler",
    "tpe": "TPESampler",
}

# Vectors of choices that an exhaustive sampler goes through at most. Measured on one core: the grid keeps all
# of them in a list that it makes and shuffles first, 0.05 s and 10 MB for 100,000 (0.2 s and 100 MB for a
# million), and then asks in 0.2 ms. Brute force builds a tree of all earlier trials for every decision of an
# ask, so that time grows with the square: all of 1,000 vectors (3 decisions) take 2 s, 2,000 of 12 decisions
# 45 s, 4,000 of them three minutes, and a resume asks it all again. A grid is the better choice there.
LIMITS: Mapping[str, int] = {"grid": 100_000, "brute_force": 2_000}

_SPELLINGS = {name.replace("_", ""): name for name in CLASSES} | {"nsga2": "nsgaii", "nsga3": "nsgaiii"}
_NOT_CATEGORICAL = ("cmaes", "qmc")

# Settings of a sampler that are ours: the seed is the strategy's, the grid is the space, and what
# avoid_premature_stop is for (no vector left out, none twice) holds anyway.
_OURS = ("self", "seed", "search_space", "avoid_premature_stop")

# As Optuna annotates its plain settings; the others want objects of Python.
_PLAIN: Mapping[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "int | None": int | None,
    "float | None": float | None,
    "bool | None": bool | None,
}


def sampler_name(name: str) -> str:
    """The key of ``CLASSES`` that ``name`` means: ``NSGAIISampler``, ``nsga-ii`` and ``nsgaii`` are the same.

    Raises:
        ConfigError: an unknown sampler, or one that cannot search a space of choices.
    """
    short = name.lower().replace("-", "").replace("_", "").replace(" ", "").removesuffix("sampler")
    if short in _NOT_CATEGORICAL:
        raise ConfigError(
            f"sampler {name!r} does not handle categorical choices: it would draw each of them independently,"
            " which is random search under another name; use 'tpe', 'gp' or 'nsgaii' instead"
        )
    if short not in _SPELLINGS:
        raise ConfigError(f"unknown sampler {name!r}{did_you_mean(name, CLASSES)}")
    return _SPELLINGS[short]


def make_sampler(name: str, decisions: Sequence[Decision], *, seed: int, settings: Mapping[str, Any]) -> BaseSampler:
    """A fresh sampler.

    Args:
        name: Key of ``CLASSES``.
        decisions: The space.
        seed: Any integer; Optuna gets its lowest 32 bits, as its generators take no more.
        settings: Arguments of the sampler's constructor.

    Raises:
        ConfigError: Optuna (or what the sampler needs besides) is missing, a setting that does not fit, or a
            space that is too large to go through.
    """
    require_optuna()
    import optuna

    if name == "gp" and importlib.util.find_spec("scipy") is None:
        raise ConfigError("sampler 'gp' needs scipy, which is not installed: pip install scipy")
    size = math.prod(decision.choices for decision in decisions)
    if size > LIMITS.get(name, size):
        other = "'grid'" if size <= LIMITS["grid"] else "'tpe' or 'random'"
        raise ConfigError(
            f"sampler {name!r} goes through all of a space, at most {LIMITS[name]:,} vectors of choices, but"
            f" this one has {size:,}; use {other} instead"
        )
    cls = getattr(optuna.samplers, CLASSES[name])
    arguments = _checked(name, settings, inspect.signature(cls.__init__).parameters)
    if name == "grid":
        arguments["search_space"] = {decision.name: list(range(decision.choices)) for decision in decisions}
    try:
        with quiet():
            return cls(seed=seed % 2**32, **arguments)
    except (TypeError, ValueError) as error:
        given = ", ".join(settings) or "none"
        raise ConfigError(f"sampler {name!r}: settings ({given}): {' '.join(str(error).split())}") from None


def _checked(name: str, settings: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    # Optuna's constructors do not check types: a wrong one would end the search at some later ask.
    known = [key for key in parameters if key not in _OURS]
    checked: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "seed":
            raise ConfigError(f"sampler {name!r}: 'seed' is no setting here; the search's seed is used")
        if key not in known:
            raise ConfigError(f"sampler {name!r}: unknown setting {key!r}{did_you_mean(key, known)}")
        annotation = parameters[key].annotation
        text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
        if text in _PLAIN:
            checked[key] = convert(_PLAIN[text], value, where=f"sampler {name!r}: {key}")
        elif isinstance(value, bool | int | float | str | list | tuple | Mapping):
            raise ConfigError(f"sampler {name!r}: {key}: {value!r} is not an object of Python ({text})")
        else:
            checked[key] = value
    if checked.get("n_ei_candidates", 1) < 1:
        raise ConfigError(f"sampler {name!r}: n_ei_candidates: {checked['n_ei_candidates']!r} is less than 1")
    return checked
