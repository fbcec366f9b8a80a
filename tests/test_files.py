"""No reader, and no crash, leaves or finds half a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nasneck.errors import ConfigError
from nasneck.files import append_line, check_folder, write_atomically


def test_write(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a/b/c.txt", "häßlich\n")
    assert path == tmp_path / "a/b/c.txt" and path.read_bytes() == "häßlich\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    write_atomically(str(path), "new")
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


class Broken(Exception):
    pass


@pytest.mark.parametrize("function", ["fsync", "rename"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Broken(), KeyboardInterrupt()])
def test_failure_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: BaseException
) -> None:
    """Whatever goes wrong on the way, the old file stays whole and nothing else is left."""
    path = write_atomically(tmp_path / "c.txt", "old")

    def fail(*args: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        if function == "fsync":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(Path, "replace", fail)
        wanted = ConfigError if isinstance(error, OSError) else type(error)
        match = r"c\.txt: cannot be written \(No space left" if wanted is ConfigError else None
        with pytest.raises(wanted, match=match):
            write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder/inner").mkdir(parents=True)
    for path in (tmp_path / "file/c.txt", tmp_path / "file/a/c.txt", tmp_path / "folder"):
        with pytest.raises(ConfigError, match="cannot be written"):
            write_atomically(path, "new")
    with pytest.raises(ConfigError, match="cannot be written"):
        append_line(tmp_path / "folder", "line")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "mine"


def test_append(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_line(path, "one")
    append_line(path, "zwölf")
    assert path.read_bytes() == "one\nzwölf\n".encode()


def test_append_after_a_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": ')
    append_line(path, '{"c": 3}')
    append_line(path, '{"d": 4}')
    assert path.read_bytes() == b'{"a": 1}\n{"b": \n{"c": 3}\n{"d": 4}\n'


def test_check_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for path in (tmp_path, tmp_path / "new", tmp_path / "new/deeper"):
        check_folder(path)
    for path in (tmp_path / "file", tmp_path / "file/deeper/still", tmp_path / "link"):
        with pytest.raises(ConfigError, match=r"cannot be made a folder \(.*(file|link) is a file\)"):
            check_folder(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"], "it leaves no trace"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_check_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="no permission for"):
        check_folder(tmp_path / "locked/new")
