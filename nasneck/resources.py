"""Shipped files: search spaces and experiments, from a checkout or from an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries the folders inside the package; in a checkout they lie beside it.
_PLACES = (_PACKAGE / "_shipped", _PACKAGE.parent)


def find_resource(kind: str, name: str) -> Path | None:
    """Return the TOML file called ``name``, or None.

    Args:
        kind: The folder, ``search_spaces`` or ``experiments``.
        name: A path, which goes first, or the name of a shipped file with or without folder and ``.toml``.
    """
    if Path(name).is_file():
        return Path(name)
    wanted = Path(name)
    if wanted.parent not in (Path(), Path(kind)):
        return None
    for place in _PLACES:
        path = place / kind / f"{wanted.name.removesuffix('.toml')}.toml"
        if path.is_file():
            return path
    return None


def resource_names(kind: str) -> list[str]:
    """Names of the shipped files of a kind."""
    return sorted({path.stem for place in _PLACES for path in (place / kind).glob("*.toml")})
