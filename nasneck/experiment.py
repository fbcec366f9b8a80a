"""An experiment: everything that a search or a comparison depends on, from one TOML file.

    schema = "nasneck.experiment/1"
    [data]      where the images are          nasneck.data.DataConfig
    [neck]      levels, width, norm           nasneck.proxy.NeckConfig
    [space]     name, and its settings        nasneck.space.load_space
    [proxy]     preset, and what differs      nasneck.proxy.ProxyConfig
    [strategy]  name, and its options         nasneck.strategy.make_strategy
    [search]    trials, warm starts
    [objective] several objectives, limits    nasneck.objective.ObjectiveConfig
    [halving]   rungs at which hopeless candidates are stopped
    [confirm]   the last stage: the best, trained longer with several seeds
    [resources] workers, cluster, CPUs and GPUs per trial
    [compare]   seeds, steps

``[proxy] steps`` is short for ``[proxy.train] steps``.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nasneck.data import DataConfig
from nasneck.errors import ConfigError
from nasneck.objective import ObjectiveConfig
from nasneck.proxy import NeckConfig, ProxyConfig, proxy_config
from nasneck.resources import find_resource, resource_names
from nasneck.settings import build, did_you_mean

SCHEMA = "nasneck.experiment/1"


@dataclass(frozen=True, slots=True)
class Choice:
    """Something chosen by name, with options of its own: a search space or a strategy."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """How long to search.

    Args:
        trials: Candidates to measure; duplicates do not count.
        max_duplicates: So many duplicates in a row end the search.
        warm: Fixed necks in the space, such as ``nas_fpn``, that are measured first.
    """

    trials: int = 24
    max_duplicates: int = 100
    warm: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("trials", "max_duplicates"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)} must be at least 1")


@dataclass(frozen=True, slots=True)
class ResourcesConfig:
    """Where candidates are measured; it decides how fast, not what comes out.

    Args:
        workers: Candidates measured at once. One is measured in the process itself, more on Ray Tune; 0 takes
            as many as the cluster at ``address`` has room for.
        address: Of a running Ray cluster, ``host:port`` or ``auto``; empty starts Ray on this machine if there
            are several workers.
        cpus_per_trial: CPUs, and threads, of each worker.
        gpus_per_trial: GPUs of each; below 1 a share of one and of its memory. Null takes one each if there
            are as many, else an equal share; none where there are none or ``device`` is ``cpu``.
        together: Candidates that a search in the process itself trains in turns, a step each, in batches of so many.
            The ``frozen`` fidelity makes the features of a step once for all of them; others gain nothing. They share
            the memory of a GPU: what has no room beside the others is trained with half of the batch, and says so.
    """

    workers: int = 1
    address: str = ""
    cpus_per_trial: float = 1.0
    gpus_per_trial: float | None = None
    together: int = 1

    def __post_init__(self) -> None:
        if self.workers < 0 or (self.workers == 0 and not self.address):
            raise ConfigError(f"workers {self.workers} must be at least 1")
        if not 0 < self.cpus_per_trial < math.inf:
            raise ConfigError(f"cpus_per_trial {self.cpus_per_trial:g} must be above 0")
        gpus = self.gpus_per_trial
        if gpus is not None and not (0 <= gpus <= 1 or (gpus < math.inf and gpus == int(gpus))):
            raise ConfigError(f"gpus_per_trial {gpus:g} must be a whole number or a part of one GPU, such as 0.5")
        if self.together < 1:
            raise ConfigError(f"together {self.together} must be at least 1")
        if self.together > 1 and self.distributed:
            raise ConfigError(
                f"together {self.together} is for a search in one process; set it to 1, or workers to 1 without address"
            )

    @property
    def distributed(self) -> bool:
        """Whether Ray is needed."""
        return self.workers > 1 or bool(self.address)


@dataclass(frozen=True, slots=True)
class HalvingConfig:
    """Successive halving.

    Args:
        steps: Training steps at which a candidate has to be among the better ones, by its early loss, to go on; empty
            trains all to the end. All below ``proxy.train.steps``.
        reduction: One in this many goes on.
    """

    steps: tuple[int, ...] = ()
    reduction: float = 3.0

    def __post_init__(self) -> None:
        if list(self.steps) != sorted(set(self.steps)) or any(step < 1 for step in self.steps):
            raise ConfigError(f"steps {list(self.steps)} must be rising numbers of training steps, such as [30, 60]")
        if not 1 < self.reduction < math.inf:
            raise ConfigError(f"reduction {self.reduction:g} must be above 1")


@dataclass(frozen=True, slots=True)
class ConfirmConfig:
    """The last stage of a search: its best candidates and fixed necks, trained longer and with several seeds.

    Args:
        top: Candidates of the search.
        necks: Fixed necks beside them.
        seeds: Trainings of each.
        steps: Of each training; null takes twice the proxy's.
    """

    top: int = 5
    necks: tuple[str, ...] = ("fpn", "panet", "bifpn", "nas_fpn")
    seeds: int = 3
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("top", self.top), ("seeds", self.seeds), ("steps", self.steps)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} {value} must be at least 1")


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """How necks are compared.

    Args:
        seeds: Trainings of each neck.
        steps: Of each training; null takes the proxy's.
    """

    seeds: int = 2
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.seeds < 1 or (self.steps is not None and self.steps < 1):
            raise ConfigError(f"seeds {self.seeds} and steps {self.steps} must be at least 1")


@dataclass(frozen=True, slots=True)
class Experiment:
    """A resolved experiment.

    Args:
        data, neck, space, proxy, strategy, search, objective, halving, resources, confirm, compare: See the module.
        seed: Of the strategy, and of every candidate's weights and batches.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        name: Name of the file.
    """

    data: DataConfig
    neck: NeckConfig = field(default_factory=NeckConfig)
    space: Choice = field(default_factory=lambda: Choice("nas_fpn"))
    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    strategy: Choice = field(default_factory=lambda: Choice("controller"))
    search: SearchConfig = field(default_factory=SearchConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    halving: HalvingConfig = field(default_factory=HalvingConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    confirm: ConfirmConfig = field(default_factory=ConfirmConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    seed: int = 0
    device: str = "auto"
    name: str = "experiment"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; :func:`experiment_from_dict` reads it back."""
        return {"schema": SCHEMA, **asdict(self)}


# What may change when a study goes on: it decides how much is measured, not what comes out. The images
# themselves are identified by the data digest that studies store, not by where they lie.
FREE = (
    "name",
    "search",
    "confirm",
    "compare",
    "resources",
    "data.root",
    "device",
    "proxy.timeout_s",
    "proxy.disk_limit_mb",
    "proxy.ap_backend",
    "proxy.cuda_graphs",
)


def load_experiment(name: str | Path, changes: Sequence[str] = ()) -> Experiment:
    """Read an experiment.

    Args:
        name: Path of a TOML file, or the name of a shipped experiment (``quickstart``).
        changes: Settings in place of the file's, each ``table.key=value`` with a TOML value; a value that is
            not TOML is taken as text.

    Raises:
        ConfigError: no such file, or a setting that does not fit, with where it stands.
    """
    path = find_resource("experiments", str(name))
    if path is None:
        known = resource_names("experiments")
        raise ConfigError(f"no experiment {str(name)!r}: not a file, and none shipped{did_you_mean(str(name), known)}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    for change in changes:
        _set(table, change)
    return experiment_from_dict({"name": path.stem, **table}, where=str(path))


def with_workers(experiment: Experiment, *, workers: int | None, address: str | None) -> Experiment:
    """``experiment`` with another number of workers or another cluster; None keeps what it says.

    An address without a number of workers takes all the room there is.

    Raises:
        ConfigError: a number below 1.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers} must be at least 1")
    changes: dict[str, Any] = {}
    if address is not None:
        if not address:
            raise ConfigError("--address is empty; give host:port or auto")
        changes["address"] = address
        changes["workers"] = 0
    if workers is not None:
        changes["workers"] = workers
    return replace(experiment, resources=replace(experiment.resources, **changes))


def experiment_from_dict(table: Mapping[str, Any], *, where: str) -> Experiment:
    """Check a table of settings, as a file or :meth:`Experiment.to_dict` gives it.

    Raises:
        ConfigError: with ``where``, table and key.
    """
    table = dict(table)
    schema = table.pop("schema", None)
    if schema != SCHEMA:
        raise ConfigError(f"{where}: schema is {schema!r}; an experiment has schema = {SCHEMA!r}")
    for key in ("space", "strategy"):
        if key in table:
            table[key] = _choice(table[key], where=f"{where}: [{key}]")
    if "proxy" in table:
        table["proxy"] = _proxy(table["proxy"], where=f"{where}: [proxy]")
    for key, cls in (
        ("data", DataConfig),
        ("neck", NeckConfig),
        ("search", SearchConfig),
        ("objective", ObjectiveConfig),
        ("halving", HalvingConfig),
        ("resources", ResourcesConfig),
        ("confirm", ConfirmConfig),
        ("compare", CompareConfig),
    ):
        if key in table:
            table[key] = build(cls, table[key], where=f"{where}: [{key}]")
    known = set(Experiment.__dataclass_fields__)
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}: unknown table or setting {key!r}{did_you_mean(key, known)}")
    if isinstance(table.get("seed"), int) and not 0 <= table["seed"] < 2**31:
        raise ConfigError(f"{where}: seed {table['seed']} must lie in 0..2147483647")
    if "data" not in table:
        raise ConfigError(f"{where}: [data] is missing; it says where the images are")
    for key, kind in (("seed", int), ("device", str), ("name", str)):
        if key in table and type(table[key]) is not kind:
            raise ConfigError(f"{where}: {key} = {table[key]!r} is not {'a whole number' if kind is int else 'text'}")
    experiment = Experiment(**table)
    _check_together(experiment, where=where)
    return experiment


def _check_together(experiment: Experiment, *, where: str) -> None:
    """What no single table can tell."""
    steps, objective = experiment.proxy.train.steps, experiment.objective
    if experiment.halving.steps and experiment.halving.steps[-1] >= steps:
        raise ConfigError(
            f"{where}: [halving]: steps {list(experiment.halving.steps)} must lie below the {steps} steps of a training"
        )
    if objective.soft is not None and experiment.proxy.reward == "loss":
        raise ConfigError(f"{where}: [objective]: soft needs a reward above 0, the AP, and [proxy] reward is 'loss'")


def _choice(table: Any, *, where: str) -> Choice:
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise ConfigError(f"{where}: a table with a name is wanted, not {table!r}")
    if set(table) == {"name", "options"} and isinstance(table["options"], Mapping):
        return Choice(table["name"], dict(table["options"]))  # the resolved form
    return Choice(table["name"], {key: value for key, value in table.items() if key != "name"})


def _proxy(table: Any, *, where: str) -> ProxyConfig:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: expected a table of settings, got {table!r}")
    table = dict(table)
    if "steps" in table:
        train = table.get("train", {})
        if not isinstance(train, Mapping) or "steps" in train:
            raise ConfigError(f"{where}: steps is short for train.steps; give one of them")
        table["train"] = {**train, "steps": table.pop("steps")}
    return proxy_config(table, where=where)


def _set(table: dict[str, Any], change: str) -> None:
    name, equals, text = change.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {change!r}: table.key=value is wanted, such as proxy.steps=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *parents, key = name.strip().split(".")
    if name.strip() in ("proxy.steps", "proxy.train.steps"):
        # The last one given wins, whichever of the two names it goes by.
        proxy = table.get("proxy")
        for place in (proxy, proxy.get("train") if isinstance(proxy, dict) else None):
            if isinstance(place, dict):
                place.pop("steps", None)
    at = table
    for parent in parents:
        at = at.setdefault(parent, {})
        if not isinstance(at, dict):
            raise ConfigError(f"--set {change!r}: {parent!r} is a setting, not a table")
    at[key] = value
