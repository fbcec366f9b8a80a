"""Finding a search space: a shipped one by name, a TOML file, or a Python function as ``module:function``."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasneck.errors import ConfigError, NasneckError, SpaceError
from nasneck.resources import find_resource, resource_names
from nasneck.settings import build, did_you_mean
from nasneck.space.base import SearchSpace
from nasneck.space.bidirectional import BidirectionalSpace
from nasneck.space.merging_cells import MergingCellSpace

SCHEMA = "nasneck.space/1"

# What ``kind`` in a file may say.
KINDS: dict[str, type[SearchSpace]] = {"bidirectional": BidirectionalSpace, "merging_cells": MergingCellSpace}


def load_space(name: str | Path, **overrides: Any) -> SearchSpace:
    """Return a search space.

    Args:
        name: A shipped space (``"nas_fpn"``), the path of a TOML file, or ``"module:function"``, a function
            that returns a :class:`SearchSpace`.
        overrides: Settings in place of the file's, or keyword arguments of the function.

    Raises:
        SpaceError: no such file or function, or settings that make no space.

    Example:
        >>> load_space("nas_fpn", repeats=1).size()
        1931334451200000
    """
    text = str(name)
    if ":" in text and not Path(text).exists():
        return _from_function(text, overrides)
    path = find_resource("search_spaces", text)
    if path is None:
        known = resource_names("search_spaces")
        raise SpaceError(f"no search space {text!r}: not a file, and none shipped{did_you_mean(text, known)}")
    return _from_file(path, overrides)


def _from_file(path: Path, overrides: Mapping[str, Any]) -> SearchSpace:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path}: not TOML ({error})") from None
    except OSError as error:
        raise SpaceError(f"{path}: cannot be read ({error.strerror})") from None
    schema, kind = table.pop("schema", None), table.pop("kind", None)
    if schema != SCHEMA:
        raise SpaceError(f"{path}: schema is {schema!r}; a search space has schema = {SCHEMA!r}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise SpaceError(f"{path}: unknown kind {kind!r}{did_you_mean(str(kind), KINDS)}")
    try:
        return build(KINDS[kind], {"name": path.stem, **table, **overrides}, where=str(path))
    except ConfigError as error:
        raise SpaceError(str(error)) from None
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from None


def _from_function(name: str, overrides: Mapping[str, Any]) -> SearchSpace:
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        raise SpaceError(f"search space {name!r}: not a file, and not 'module:function'")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module does as it is imported
        raise SpaceError(f"search space {name!r}: module {module_name!r} cannot be imported ({error})") from None
    function = getattr(module, function_name, None)
    if function is None:
        raise SpaceError(f"search space {name!r}: module {module_name!r} has no {function_name!r}")
    try:
        space = function(**overrides)
    except NasneckError:
        raise
    except Exception as error:
        raise SpaceError(f"search space {name!r}: {type(error).__name__}: {error}") from None
    if not isinstance(space, SearchSpace):
        raise SpaceError(f"search space {name!r} returned {type(space).__name__}, not a SearchSpace")
    return space
