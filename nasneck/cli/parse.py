"""Texts of the command line as values."""

from __future__ import annotations

import re

from nasneck.errors import ConfigError


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
