"""Image files as bytes: do they exist, are two of them the same, what is their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from nasneck.errors import DataError

CONTENT_LIMIT = 256 * 2**20  # bytes; larger sets are identified by names and sizes instead of content
_HEAD = 8192


def file_sizes(folder: Path, names: Iterable[str], *, source: Path) -> dict[str, int]:
    """Size in bytes of every file, by name.

    Raises:
        DataError: a file is missing; the message names it, ``source`` and how many are missing.
    """
    if not folder.is_dir():
        raise DataError(f"image folder {folder} of {source} does not exist")
    sizes: dict[str, int] = {}
    missing: list[str] = []
    for name in names:
        try:
            path = folder / name
            sizes[name] = path.stat().st_size
            if not path.is_file():
                missing.append(name)
        except OSError:
            missing.append(name)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"image {folder / missing[0]}{more} of {source} does not exist")
    return sizes


def images_digest(folder: Path, sizes: Mapping[str, int]) -> str:
    """sha256 over names and contents, or over names and sizes for a set above ``CONTENT_LIMIT``."""
    digest = hashlib.sha256()
    whole = sum(sizes.values()) <= CONTENT_LIMIT
    for name in sorted(sizes):
        mark = _sha256(folder / name) if whole else str(sizes[name])
        digest.update(f"{name}\0{mark}\n".encode())
    return digest.hexdigest()


def same_files(left: Mapping[Path, int], right: Mapping[Path, int]) -> list[tuple[Path, Path]]:
    """Pairs of equal files, one of each side, by path or by content; in the order of ``right``.

    Cheap for large sets: only files of equal size are opened, only those with an equal head read in full.

    Args:
        left: Path -> size in bytes.
        right: Likewise.
    """
    pairs: list[tuple[Path, Path]] = []
    tests: tuple[Callable[[Path], object], ...] = (_head, _sha256)
    candidates = _match(left, right, lambda path: left[path] if path in left else right[path])
    for test in tests:
        candidates = [pair for group in candidates for pair in _match(group[0], group[1], test)]
    for group_left, group_right in candidates:
        pairs += [(group_left[0], path) for path in group_right]
    order = {path: position for position, path in enumerate(right)}
    return sorted(pairs, key=lambda pair: order[pair[1]])


def _match(
    left: Iterable[Path], right: Iterable[Path], key: Callable[[Path], object]
) -> list[tuple[list[Path], list[Path]]]:
    """Groups of paths with an equal key that have members on both sides."""
    groups: dict[object, tuple[list[Path], list[Path]]] = {}
    for side, paths in enumerate((left, right)):
        for path in paths:
            groups.setdefault(key(path), ([], []))[side].append(path)
    return [group for group in groups.values() if group[0] and group[1]]


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
