"""Experiments: shipped ones, changes, round trip. What is refused is tested through the command line as well."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nasneck.errors import ConfigError
from nasneck.experiment import (
    FREE,
    SCHEMA,
    Choice,
    CompareConfig,
    Experiment,
    SearchConfig,
    experiment_from_dict,
    load_experiment,
)
from nasneck.proxy import ProxyConfig
from nasneck.resources import find_resource, resource_names
from nasneck.search_space import build_space
from nasneck.strategy import make_strategy
from nasneck.study.experiment import differences

SHIPPED = resource_names("experiments")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(f'schema = "{SCHEMA}"\n[data]\nroot = "somewhere"\n[proxy]\nsteps = 7\ncanvas = 64\n')
    return path


def test_shipped_ones_are_there() -> None:
    assert {"quickstart", "folder", "nas_fpn_coco"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_ones_fit_together(name: str) -> None:
    """Each names a space and a strategy that exist, with settings that they take."""
    experiment = load_experiment(name, ["data.root=somewhere"])
    assert experiment.name == name
    space = build_space(experiment.space, experiment.neck)
    make_strategy(experiment.strategy.name, space.decisions, seed=0, options=experiment.strategy.options)
    path = find_resource("experiments", name)
    assert path is not None and path.read_text().startswith("# "), "the first line says what it is"
    assert load_experiment(path, ["data.root=somewhere"]) == experiment
    assert load_experiment(f"experiments/{name}.toml", ["data.root=somewhere"]) == experiment


@pytest.mark.parametrize("name", SHIPPED)
def test_round_trip(name: str) -> None:
    experiment = load_experiment(name, ["data.root=somewhere", "proxy.detector.nms_threshold=0.4"])
    stored = json.loads(json.dumps(experiment.to_dict()))
    assert experiment_from_dict(stored, where="study") == experiment
    assert differences(stored, json.loads(json.dumps(experiment.to_dict()))) == []


def test_defaults() -> None:
    experiment = experiment_from_dict({"schema": SCHEMA, "data": {"root": "d"}}, where="here")
    assert experiment == Experiment(data=experiment.data)
    assert experiment.data.root == "d"
    assert (experiment.space, experiment.strategy) == (Choice("nas_fpn"), Choice("controller"))
    assert (experiment.search, experiment.compare) == (SearchConfig(), CompareConfig())


def test_a_file(file: Path) -> None:
    experiment = load_experiment(file)
    assert experiment.name == "mine"
    assert (experiment.proxy.train.steps, experiment.proxy.canvas) == (7, 64)
    assert experiment.proxy.backbone_train == ProxyConfig().backbone_train, (
        "the short form is of the candidates' training alone"
    )


def at(experiment: Experiment, path: str) -> Any:
    value: Any = experiment
    for name in path.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("proxy.canvas=96", "proxy.canvas", 96),
        ("proxy.canvas = 96", "proxy.canvas", 96),
        ("proxy.steps=9", "proxy.train.steps", 9),
        ("proxy.train.steps=9", "proxy.train.steps", 9),
        ("proxy.backbone_train.steps=9", "proxy.backbone_train.steps", 9),
        ("proxy.train.learning_rate=1", "proxy.train.learning_rate", 1.0),
        ("proxy.train.learning_rate=1e-4", "proxy.train.learning_rate", 1e-4),
        ("proxy.augment.jitter=[0.5, 2]", "proxy.augment.jitter", (0.5, 2.0)),
        ("proxy.train.drops=[0.5]", "proxy.train.drops", (0.5,)),
        ("neck.norm=group", "neck.norm", "group"),
        ('neck.norm="group"', "neck.norm", "group"),
        ("data.root=a/b c", "data.root", "a/b c"),
        ("data.root='a=b'", "data.root", "a=b"),
        ("data.root=~/x=y", "data.root", "~/x=y"),
        ("data.test=", "data.test", ""),
        ("data.shapes.images=50", "data.shapes.images", 50),
        ("data.shapes={images = 50, seed = 4}", "data.shapes.seed", 4),
        ('search.warm=["nas_fpn"]', "search.warm", ("nas_fpn",)),
        ("strategy.normalise=false", "strategy.options.normalise", False),
        ("strategy.name=random", "strategy.name", "random"),
        ("space.loose=true", "space.options.loose", True),
        ("space.levels=[3, 6]", "space.options.levels", [3, 6]),
        ("proxy.backbone.name=timm:resnet18", "proxy.backbone.name", "timm:resnet18"),
        ("seed=4", "seed", 4),
        ("device=cuda:1", "device", "cuda:1"),
        ("name=other", "name", "other"),
    ],
)
def test_changes(tmp_path: Path, change: str, path: str, value: object) -> None:
    file = tmp_path / "mine.toml"
    named = '[space]\nname = "nas_fpn"\n[strategy]\nname = "controller"\n'
    file.write_text(f'schema = "{SCHEMA}"\n[data]\nroot = "somewhere"\n{named}')
    before, after = load_experiment(file), load_experiment(file, [change])
    assert at(after, path) == value
    if not isinstance(value, bool):
        assert type(at(after, path)) is type(value)
    stored, changed = (json.loads(json.dumps(e.to_dict())) for e in (before, after))
    differing = [text.split()[0] for text in differences(stored, changed)]
    assert [name for name in differing if not path.startswith(name) and not name.startswith("data.shapes")] == []


def test_steps_have_two_names_and_the_last_one_wins(file: Path) -> None:
    for changes, steps in (
        (["proxy.steps=1"], 1),
        (["proxy.train.steps=1"], 1),
        (["proxy.steps=1", "proxy.train.steps=2"], 2),
        (["proxy.train.steps=2", "proxy.steps=1"], 1),
        (["proxy.steps=1", "proxy.steps=3"], 3),
    ):
        assert load_experiment(file, changes).proxy.train.steps == steps
    file.write_text(f'schema = "{SCHEMA}"\n[data]\n[proxy]\nsteps = 7\ntrain.steps = 8\n')
    with pytest.raises(ConfigError, match=r"mine\.toml: \[proxy\]: steps is short for train\.steps"):
        load_experiment(file)
    assert load_experiment(file, ["proxy.steps=9"]).proxy.train.steps == 9


def test_changes_over_a_preset(file: Path) -> None:
    experiment = load_experiment(file, ["proxy.preset=nas_fpn", "proxy.train.batch_size=8"])
    assert (experiment.proxy.train.batch_size, experiment.proxy.train.optimizer) == (8, "sgd")
    assert experiment.proxy.canvas == 64, "what the file says beside the preset stays"


@pytest.mark.parametrize("change", ["proxy", "", "=1", " = 1"])
def test_changes_that_are_none(file: Path, change: str) -> None:
    with pytest.raises(ConfigError, match=r"--set .*: table\.key=value is wanted, such as proxy\.steps=100"):
        load_experiment(file, [change])


def test_changes_of_odd_files(file: Path) -> None:
    file.write_text(f'schema = "{SCHEMA}"\nproxy = 3\n[data]\nroot = "x"\n')
    for change in ("proxy.steps=3", "proxy.train.steps=3"):
        with pytest.raises(ConfigError, match="'proxy' is a setting, not a table"):
            load_experiment(file, [change])
    file.write_text(f'schema = "{SCHEMA}"\n[data]\n[proxy]\ntrain = 3\n')
    with pytest.raises(ConfigError, match="train"):
        load_experiment(file, ["proxy.steps=3"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"surch": {}}, r"here: unknown table or setting 'surch'; did you mean 'search'\?"),
        ({"search": {"trails": 3}}, r"here: \[search\]: unknown setting 'trails'; did you mean 'trials'\?"),
        ({"search": 3}, r"here: \[search\]: expected a table of settings, got 3"),
        ({"search": {"trials": 0}}, r"here: \[search\]: trials 0 must be at least 1"),
        ({"compare": {"seeds": 0}}, r"here: \[compare\]: seeds 0"),
        ({"compare": {"steps": 0}}, r"here: \[compare\]: .*steps 0"),
        ({"space": "nas_fpn"}, r"here: \[space\]: a table with a name is wanted, not 'nas_fpn'"),
        ({"strategy": {"batch": 3}}, r"here: \[strategy\]: a table with a name is wanted"),
        ({"seed": 1.5}, "here: seed = 1.5 is not a whole number"),
        ({"seed": True}, "here: seed = True is not a whole number"),
        ({"device": 0}, "here: device = 0 is not text"),
        ({"schema": "nasneck.experiment/2"}, "here: schema is 'nasneck.experiment/2'; an experiment has schema ="),
    ],
)
def test_tables_that_do_not_fit(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment_from_dict({"schema": SCHEMA, "data": {}, **table}, where="here")


def test_what_may_change_on_resume_exists() -> None:
    """A renamed setting must not become free, or bound, by accident."""
    table = experiment_from_dict({"schema": SCHEMA, "data": {}}, where="here").to_dict()
    for name in FREE:
        value: Any = table
        for key in name.split("."):
            assert key in value, name
            value = value[key]


def test_toml_of_the_docstring_has_the_tables() -> None:
    """Every table that the module's text names is one."""
    import nasneck.experiment as module

    assert module.__doc__ is not None
    lines = [line.strip() for line in module.__doc__.splitlines()]
    tables = [line.split("]")[0][1:] for line in lines if line.startswith("[")]
    fields = set(Experiment.__dataclass_fields__)
    assert set(tables) == fields - {"seed", "device", "name"}
    assert tomllib.loads(next(line for line in lines if line.startswith("schema"))) == {"schema": SCHEMA}
