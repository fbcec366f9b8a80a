"""Equal files are found without reading the others; digests follow content."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasneck.data import files
from nasneck.errors import DataError


def _write(folder: Path, contents: dict[str, bytes]) -> dict[Path, int]:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {folder / name: len(content) for name, content in contents.items()}


def test_same_files_by_content_and_by_path(tmp_path: Path) -> None:
    tail = b"x" * 10_000
    left = _write(tmp_path / "l", {"a": b"1" + tail, "b": tail + b"1", "c": b"unique", "d": b""})
    right = _write(tmp_path / "r", {"e": tail + b"2", "f": tail + b"1", "g": b"unique!", "h": b"1" + tail})
    shared = _write(tmp_path / "s", {"z": b"shared"})
    pairs = files.same_files({**left, **shared}, {**shared, **right})
    name = tmp_path
    assert pairs == [
        (name / "s" / "z", name / "s" / "z"),
        (name / "l" / "b", name / "r" / "f"),
        (name / "l" / "a", name / "r" / "h"),
    ]


@given(st.lists(st.binary(max_size=2), max_size=8), st.lists(st.binary(max_size=2), max_size=8))
def test_same_files_finds_what_brute_force_finds(
    tmp_path_factory: pytest.TempPathFactory, left: list[bytes], right: list[bytes]
) -> None:
    root = tmp_path_factory.mktemp("files")
    ours = _write(root / "l", {str(n): content for n, content in enumerate(left)})
    theirs = _write(root / "r", {str(n): content for n, content in enumerate(right)})
    found = {pair[1].name for pair in files.same_files(ours, theirs)}
    assert found == {str(n) for n, content in enumerate(right) if content in left}


def test_only_files_of_equal_size_are_opened(tmp_path: Path) -> None:
    gone = {tmp_path / "a": 5, tmp_path / "b": 6}
    assert files.same_files(gone, {tmp_path / "c": 7, tmp_path / "d": 8}) == []


def test_missing_images_are_named_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    source = Path("x.json")
    assert files.file_sizes(tmp_path, ["a"], source=source) == {"a": 1}
    with pytest.raises(DataError, match=r"image .*b and 1 more of x\.json does not exist"):
        files.file_sizes(tmp_path, ["a", "b", "folder"], source=source)
    with pytest.raises(DataError, match=r"image folder .*none of x\.json does not exist"):
        files.file_sizes(tmp_path / "none", ["a"], source=source)


def test_the_digest_follows_content_below_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, {"a": b"12", "b": b"3"})
    sizes = {"a": 2, "b": 1}
    before = files.images_digest(tmp_path, sizes)
    assert files.images_digest(tmp_path, dict(reversed(sizes.items()))) == before
    (tmp_path / "a").write_bytes(b"21")
    assert files.images_digest(tmp_path, sizes) != before
    monkeypatch.setattr(files, "CONTENT_LIMIT", 2)
    large = files.images_digest(tmp_path, sizes)
    (tmp_path / "a").write_bytes(b"12")
    assert files.images_digest(tmp_path, sizes) == large
    assert files.images_digest(tmp_path, {"a": 3, "b": 1}) != large
