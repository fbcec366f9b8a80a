"""Writing files so that a reader, or a crash, never finds half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from nasneck.errors import ConfigError


def check_folder(path: str | Path) -> None:
    """Find out early, without a trace, whether ``path`` is or can be made a folder to write in.

    Raises:
        ConfigError: a file is in its place or in its way, or it may not be written.
    """
    for place in (Path(path).absolute(), *Path(path).absolute().parents):
        if place.is_dir():
            if not os.access(place, os.W_OK | os.X_OK):
                raise ConfigError(f"{path}: cannot be written (no permission for {place})")
            return
        if os.path.lexists(place):
            raise ConfigError(f"{path}: cannot be made a folder ({place} is a file)")


def write_atomically(path: str | Path, text: str, *, durable: bool = True) -> Path:
    """Write ``text`` to ``path`` through a temporary file beside it; folders are made.

    Args:
        path: Of the file.
        text: All of it.
        durable: Wait until it is on the disk. Without, it survives the end of any process, but after a loss of power
            the file may be empty.

    Raises:
        ConfigError: the place cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                file.write(text)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def append_line(path: str | Path, line: str) -> None:
    """Append ``line`` to ``path`` and wait until it is on the disk.

    A line that an earlier crash left unfinished is closed first, so that it stays apart.

    Raises:
        ConfigError: the place cannot be written.
    """
    path = Path(path)
    try:
        with path.open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None
