"""Fixtures: a small COCO set that tests bend to their needs, and real sets where there are some."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .sets import Content, content, many, write_set


@pytest.fixture
def coco() -> Content:
    return content()


@pytest.fixture
def coco_set(tmp_path: Path, coco: Content) -> Path:
    """Annotation file of the small set on disk; its images are in ``images`` beside its folder."""
    return write_set(tmp_path, "train", coco)


@pytest.fixture
def many_set(tmp_path: Path) -> Path:
    """Root of a set with 20 training and 5 test images, in the standard layout."""
    write_set(tmp_path, "train", many(20))
    write_set(tmp_path, "val", many(5, prefix="v"), shade=1)
    return tmp_path


@pytest.fixture
def rewrite() -> Callable[[Path, Callable[[Content], None]], None]:
    """Change an annotation file in place."""

    def change(path: Path, edit: Callable[[Content], None]) -> None:
        table = json.loads(path.read_text())
        edit(table)
        path.write_text(json.dumps(table))

    return change


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real sets, named by the environment; tests that need it are skipped without it."""
    folder = os.environ.get("NASNECK_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("NASNECK_DATA names no folder with real sets")
    return Path(folder)
