"""Comparison of two resolved experiments, setting by setting."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from nasneck.errors import ConfigError

_ABSENT = object()


def as_json(experiment: Mapping[str, Any]) -> str:
    """Return an experiment as JSON text; tuples become lists.

    Raises:
        ConfigError: a value that JSON cannot hold.
    """
    try:
        return json.dumps(experiment)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the experiment cannot be stored as JSON: {error}") from None


def flatten(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name; lists and empty tables are values."""
    flat: dict[str, Any] = {}
    for name, value in experiment.items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{name}.{inner}": item for inner, item in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any], *, free: Collection[str] = ()) -> list[str]:
    """Say of every setting that differs what it was and is, in order of the names.

    Args:
        old: As stored.
        new: As given now; both as JSON gives them back (no tuples).
        free: Dotted names of settings, or of whole tables, that may differ.
    """
    before, after = flatten(old), flatten(new)
    return [
        f"{name} was {_text(before.get(name, _ABSENT))}, is {_text(after.get(name, _ABSENT))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, _ABSENT) != after.get(name, _ABSENT)
        and not any(name == own or name.startswith(f"{own}.") for own in free)
    ]


def _text(value: Any) -> str:
    if value is _ABSENT:
        return "not set"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
