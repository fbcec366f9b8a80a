"""Shipped files by name, and how results say where they come from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nasneck import provenance
from nasneck.resources import find_resource, resource_names

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("kind", ["search_spaces", "experiments"])
def test_every_shipped_file_is_found_from_anywhere(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = sorted(path.stem for path in (ROOT / kind).glob("*.toml"))
    assert resource_names(kind) == names and names
    for name in names:
        for way in (name, f"{name}.toml", f"{kind}/{name}", f"{kind}/{name}.toml"):
            assert find_resource(kind, way) == ROOT / kind / f"{name}.toml"


@pytest.mark.parametrize("name", ["nothing", "", ".", "..", "other/nas_fpn", "../search_spaces/nas_fpn", "/nas_fpn"])
def test_what_is_not_shipped(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_resource("search_spaces", name) is None


def test_a_file_of_the_user_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nas_fpn").write_text("mine")
    assert find_resource("search_spaces", "nas_fpn") == Path("nas_fpn")
    Path("search_spaces").mkdir()
    Path("search_spaces/nas_fpn.toml").write_text("mine")
    assert find_resource("search_spaces", "search_spaces/nas_fpn.toml") == Path("search_spaces/nas_fpn.toml")


def test_command(monkeypatch: pytest.MonkeyPatch) -> None:
    home = str(Path.home())
    monkeypatch.setattr(sys, "argv", ["/opt/bin/nasneck", "search", f"{home}/a b.toml", "--set=data.root=http://x"])
    assert provenance.command() == "nasneck search '~/a b.toml' --set=data.root=http://x"
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    monkeypatch.setattr(sys, "argv", ["nasneck", "show", "/data/q"])
    assert provenance.command() == "nasneck show /data/q"


def test_version_and_commit() -> None:
    assert provenance.version() not in ("", "unknown")
    assert provenance.commit() not in ("", "unknown")
