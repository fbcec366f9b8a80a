"""Texts of the command line as values."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nasneck.errors import ConfigError

if TYPE_CHECKING:
    from nasneck.experiment import ConfirmConfig


def parse_range(text: str) -> tuple[int, int]:
    """``3-5`` as (3, 5), ``4`` as (4, 4).

    Raises:
        ConfigError: anything else.
    """
    match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", text)
    if match is None:
        raise ConfigError(f"{text!r} is not a range of levels, such as 3-5")
    first = int(match[1])
    return first, int(match[2]) if match[2] else first


def parse_channels(text: str) -> dict[int, int]:
    """``3:512,4:1024,5:2048`` as {3: 512, 4: 1024, 5: 2048}.

    Raises:
        ConfigError: anything else.
    """
    widths: dict[int, int] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*[cC]?(\d+)\s*[:=]\s*(\d+)\s*", part)
        if match is None or int(match[1]) in widths:
            raise ConfigError(f"{text!r} is not a list of levels and widths, such as 3:512,4:1024,5:2048")
        widths[int(match[1])] = int(match[2])
    return dict(sorted(widths.items()))


def changed_confirm(
    settings: ConfirmConfig, *, top: int | None, necks: str | None, seeds: int | None, steps: int | None
) -> ConfirmConfig:
    """``settings`` with what was given on the command line; None keeps what is there.

    Raises:
        ConfigError: a number below 1.
    """
    given: dict[str, Any] = {"top": top, "seeds": seeds, "steps": steps}
    changes = {name: value for name, value in given.items() if value is not None}
    if necks is not None:
        changes["necks"] = tuple(_outside_options(necks))
    try:
        return replace(settings, **changes)
    except ConfigError as error:
        raise ConfigError(f"--{error}") from None


def _outside_options(text: str) -> list[str]:
    """``fpn,bifpn:repeats=3,fusion=softmax`` as its two necks: what has an ``=`` belongs to the neck before it."""
    necks: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name = part.partition(":")[0]
        if necks and "=" in name:
            necks[-1] += f",{part}"
        else:
            necks.append(part)
    return necks
