"""Dataclasses from tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from nasneck.errors import ConfigError
from nasneck.settings import build, convert, did_you_mean


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    steps: int = 10


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    flag: bool = False
    sizes: tuple[int, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    kind: Literal["a", "b", 3] = "a"
    maybe: int | None = None
    either: int | Literal["auto"] = "auto"
    many: tuple[Inner, ...] = ()
    table: dict[int, str] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    anything: Any = None
    hidden: int = field(default=0, init=False)


def make(**table) -> Outer:
    return build(Outer, {"name": "n", **table}, where="x.toml: [outer]")


def test_everything_that_fits():
    got = make(
        inner={"rate": 1, "steps": 3},
        flag=True,
        sizes=[1, 2],
        pair=[3, 4],
        kind=3,
        maybe=5,
        either=7,
        many=[{"steps": 1}, {}],
        table={"3": "c", "-4": "d"},
        scale={"x": 2},
        anything=[1],
    )
    assert got == Outer(
        "n",
        Inner(1.0, 3),
        True,
        (1, 2),
        (3, 4.0),
        3,
        5,
        7,
        (Inner(steps=1), Inner()),
        {3: "c", -4: "d"},
        {"x": 2.0},
        [1],
    )
    assert type(got.inner.rate) is float and type(got.pair[1]) is float and type(got.scale["x"]) is float
    assert type(got.sizes) is tuple


def test_defaults():
    assert make() == Outer("n")


def test_a_value_that_is_one_already_stays():
    inner = Inner(steps=2)
    assert make(inner=inner).inner is inner


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"nmae": 1}, r"x.toml: \[outer\]: unknown setting 'nmae'; did you mean 'name'\? \(known: anything, either, "),
        ({"zzz": 1}, r"unknown setting 'zzz' \(known: "),
        ({"hidden": 1}, "unknown setting 'hidden'"),
        ({"name": 3}, r"\[outer\]: name: 3 is not a string"),
        ({"flag": 1}, "flag: 1 is not true or false"),
        ({"flag": "yes"}, "flag: 'yes' is not true or false"),
        ({"inner": 3}, r"\[outer\]: inner: expected a table of settings, got 3"),
        ({"inner": {"setps": 3}}, "inner: unknown setting 'setps'; did you mean 'steps'"),
        ({"inner": {"steps": 1.0}}, "inner: steps: 1.0 is not a whole number"),
        ({"inner": {"steps": True}}, "inner: steps: True is not a whole number"),
        ({"inner": {"rate": True}}, "inner: rate: True is not a number"),
        ({"inner": {"rate": "0.1"}}, "inner: rate: '0.1' is not a number"),
        ({"sizes": 3}, "sizes: 3 is not tuple"),
        ({"sizes": "12"}, "sizes: '12' is not tuple"),
        ({"sizes": [1, "2"]}, r"sizes\[1\]: '2' is not a whole number"),
        ({"pair": [1]}, r"pair: \[1\] has 1 items; 2 are wanted"),
        ({"pair": [1, "x"]}, r"pair\[1\]: 'x' is not a number"),
        ({"kind": "c"}, "kind: 'c' is not one of 'a', 'b', 3"),
        ({"kind": 3.0}, "kind: 3.0 is not one of"),
        ({"kind": ["a"]}, "is not one of"),
        ({"maybe": "x"}, "maybe: 'x' is not a whole number"),
        ({"maybe": False}, "maybe: False is not a whole number"),
        ({"either": "x"}, "either: 'x' is not int | "),
        ({"many": [{"steps": "x"}]}, r"many\[0\]: steps: 'x' is not a whole number"),
        ({"table": {"x": "y"}}, "table: 'x' is not a whole number"),
        ({"table": {"--3": "y"}}, "table: '--3' is not a whole number"),
        ({"table": {"²": "y"}}, "table: '²' is not a whole number"),
        ({"table": {"3": 4}}, "table.3: 4 is not a string"),
        ({"table": [3]}, r"table: \[3\] is not dict"),
    ],
)
def test_what_does_not_fit(table, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make(**table)
    assert "\n" not in str(caught.value)


def test_what_is_missing():
    with pytest.raises(ConfigError, match=r"^x.toml: setting 'name' is missing$"):
        build(Outer, {}, where="x.toml")


def test_no_table():
    with pytest.raises(ConfigError, match=r"x.toml: expected a table of settings, got \[\]"):
        build(Outer, [], where="x.toml")  # type: ignore[arg-type]


def test_true_is_not_one():
    assert convert(Literal[1, 2], 1, where="x") == 1
    with pytest.raises(ConfigError, match="True is not one of 1, 2"):
        convert(Literal[1, 2], True, where="x")
    assert convert(Literal[True], True, where="x") is True


def test_other_types_are_taken_as_they_are():
    assert convert(Path, Path("x"), where="x") == Path("x")
    with pytest.raises(ConfigError, match="'x' is not"):
        convert(Path, "x", where="x")


def test_an_error_of_the_class_itself_says_where():
    @dataclass(frozen=True)
    class Picky:
        steps: int

        def __post_init__(self) -> None:
            if self.steps < 1:
                raise ConfigError(f"steps={self.steps} is not positive")

    with pytest.raises(ConfigError, match=r"^x.toml: steps=0 is not positive$"):
        build(Picky, {"steps": 0}, where="x.toml")


def test_did_you_mean():
    assert did_you_mean("conv", ["pool", "cnov"]) == "; did you mean 'cnov'? (known: cnov, pool)"
    assert did_you_mean("x", ["pool"]) == " (known: pool)"
    assert did_you_mean("x", []) == ""
