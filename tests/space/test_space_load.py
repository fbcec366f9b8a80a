"""Search spaces by name, from files and from functions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nasneck.errors import SpaceError
from nasneck.resources import find_resource, resource_names
from nasneck.space import MergingCellSpace, SearchSpace, load_space

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.toml"))
HEAD = 'schema = "nasneck.space/1"\nkind = "merging_cells"\n'


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_space_loads(path):
    space = load_space(path)
    assert space == load_space(path.stem) == load_space(str(path))
    assert space.name == path.stem and space.size() > 1
    assert space.decode([0] * len(space.decisions)).output_levels
    last = [decision.choices - 1 for decision in space.decisions]
    assert space.decode(last).output_levels


def test_shipped_spaces_are_found_by_name():
    assert resource_names("search_spaces") == [path.stem for path in SHIPPED]
    assert SHIPPED and find_resource("search_spaces", "search_spaces/nas_fpn.toml") is not None
    assert find_resource("search_spaces", "elsewhere/nas_fpn.toml") is None


def test_the_shipped_nas_fpn():
    space = load_space("nas_fpn")
    assert space == MergingCellSpace(intermediate_levels=(4, 5, 6, 7))
    assert space.repeats == 3 and space.loose


def test_settings_may_be_overridden():
    assert load_space("nas_fpn", repeats=7).repeats == 7  # type: ignore[attr-defined]
    with pytest.raises(SpaceError, match=r"nas_fpn.toml: unknown setting 'repeat'; did you mean 'repeats'"):
        load_space("nas_fpn", repeat=7)


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(HEAD + "levels = [3, 5]\nintermediate = 1\n")
    space = load_space(file)
    assert space.name == "mine" and space.levels == (3, 5)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("levels = [", "not TOML"),
        ("", "schema is None; a search space has schema = 'nasneck.space/1'"),
        ('schema = "other/1"', "schema is 'other/1'"),
        ('schema = "nasneck.space/1"', r"unknown kind None \(known: bidirectional, merging_cells\)"),
        (
            'schema = "nasneck.space/1"\nkind = "merging_cell"',
            "unknown kind 'merging_cell'; did you mean 'merging_cells'",
        ),
        ('schema = "nasneck.space/1"\nkind = ["merging_cells"]', "unknown kind"),
        (HEAD + "level = [3, 7]", r"unknown setting 'level'; did you mean 'levels'\?"),
        (HEAD + 'levels = "3-7"', "levels: '3-7' is not"),
        (HEAD + "levels = [3, 4, 5]", "has 3 items; 2 are wanted"),
        (HEAD + 'ops = ["summ"]', r"unknown op 'summ'; did you mean 'sum'"),
        (HEAD + "ops = []", "at least one name"),
        (HEAD + "intermediate_levels = [2]", "intermediate level 2 is not one of"),
        (HEAD + "repeats = 0", "cannot be decoded: .*repeats=0"),
        (HEAD + "repeats = true", "repeats: True is not a whole number"),
        (HEAD + 'dialect = "google"', "dialect: 'google' is not one of 'reference', 'mmdet'"),
        (HEAD + "inputs = [5, 3]", r"cannot be decoded: .*inputs=\(5, 3\) is not a first and a last level"),
    ],
)
def test_files_that_are_wrong(tmp_path, text, message):
    file = tmp_path / "broken.toml"
    file.write_text(text)
    with pytest.raises(SpaceError, match=message) as caught:
        load_space(file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path):
    file = tmp_path / "image.toml"
    file.write_bytes(b"\x89PNG\xff")
    with pytest.raises(SpaceError, match=r"image.toml: not TOML"):
        load_space(file)


def test_names_that_are_unknown(tmp_path):
    with pytest.raises(
        SpaceError, match=r"no search space 'nas_fnp': .*did you mean 'nas_fpn'\? \(known: bifpn, nas_fpn"
    ):
        load_space("nas_fnp")
    with pytest.raises(SpaceError, match=r"no search space '.*none.toml': not a file"):
        load_space(tmp_path / "none.toml")
    with pytest.raises(SpaceError, match="no search space"):
        load_space(tmp_path)


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_spaces_for_test.py").write_text(
        "from nasneck.space import MergingCellSpace\n"
        "def small(repeats=1):\n"
        "    return MergingCellSpace(name='small', levels=(3, 4), intermediate=0, repeats=repeats)\n"
        "def nothing():\n    return 3\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_spaces_for_test"
    sys.modules.pop("my_spaces_for_test", None)


def test_a_function_may_stand_for_a_file(module):
    space = load_space(f"{module}:small", repeats=2)
    assert isinstance(space, SearchSpace) and space.name == "small"
    assert len(space.decode([0] * len(space.decisions)).outputs) == 2
    assert space.repeats == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_at_all:f", "module 'no_such_module_at_all' cannot be imported"),
        ("{}:large", "module '{}' has no 'large'"),
        ("{}:nothing", "returned int, not a SearchSpace"),
        ("{}:number", "not callable"),
        (":small", "search space ':small': not a file, and not 'module:function'"),
        ("{}:", "not a file, and not 'module:function'"),
        ("no/such/file:f", "not a file, and not 'module:function'"),
    ],
)
def test_functions_that_are_wrong(module, name, message):
    with pytest.raises(SpaceError, match=message.format(module)):
        load_space(name.format(module))


def test_wrong_arguments_of_a_function(module):
    with pytest.raises(SpaceError, match="unexpected keyword argument 'repeat'"):
        load_space(f"{module}:small", repeat=2)
