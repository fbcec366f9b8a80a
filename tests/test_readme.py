"""The README's code runs, its commands exist, and its tables and drawings are what the scripts write."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nasneck.necks import NECKS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Fenced blocks of a language ("" for those that name none)."""
    fenced = README.split("```")[1::2]
    return [text.partition("\n")[2] for text in fenced if text.partition("\n")[0] == language]


def test_python_blocks_run_one_after_the_other() -> None:
    found = blocks("python")
    assert len(found) >= 2
    scope: dict[str, object] = {}
    for block in found:
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["neck"].out_channels == {3: 64, 4: 64, 5: 64, 6: 64, 7: 64}  # type: ignore[attr-defined]
    assert [tuple(x.shape) for x in scope["outs"]] == [(2, 64, s, s) for s in (40, 20, 10, 5, 3)]  # type: ignore[attr-defined]


def commands() -> list[list[str]]:
    lines = [line.split("  #")[0].strip() for block in blocks("") for line in block.splitlines()]
    return [shlex.split(re.sub(r"\[(.*?)\]", r"\1", line)) for line in lines if line.startswith("nasneck ")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_and_their_options_exist(words: list[str]) -> None:
    """Each command with the README's options, but asked for help, so that nothing runs."""
    options = [word for word in words if word.startswith("--")]
    path = words[1:3] if words[1] == "data" else words[1:2]
    run = subprocess.run(
        [sys.executable, "-m", "nasneck", *path, "--help"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    for option in options:
        assert option in run.stdout


def test_named_files_exist() -> None:
    for name in set(re.findall(r"(?:experiments|nasneck|search_spaces)/[\w./]+\.(?:toml|py)", README)):
        assert (ROOT / name).is_file(), name


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_ci_runs_the_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", ["tables", "gallery"])
def test_what_scripts_write_is_up_to_date(script: str) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / f"{script}.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"run python experiments/{script}.py\n{run.stdout}{run.stderr}"


def test_the_gallery_shows_every_neck() -> None:
    """With a picture that is there, and says so where less is drawn."""
    section = README.partition("<!-- gallery: begin -->")[2].partition("<!-- gallery: end -->")[0]
    shown = re.findall(r"<b>(\w+)</b>", section)
    assert sorted(shown) == sorted(NECKS)
    pictures = re.findall(r'<img src="([^"]+)"', section)
    assert len(set(pictures)) == len(NECKS) and all((ROOT / path).is_file() for path in pictures)
    cells = dict(zip(shown, section.split("<td")[1:], strict=True))
    for name, cell in cells.items():
        drawn = (ROOT / "experiments" / "gallery" / f"{name}.svg").read_text(encoding="utf-8")
        options = re.search(rf"<title>{name}:(\S+)</title>", drawn)
        assert ("drawn with" in cell) == (options is not None)
        assert options is None or options[1] in cell
        repeats = re.search(r"repeat 1 of (\d+), all alike", drawn)
        assert ("one of" in cell) == (repeats is not None)
        assert repeats is None or f"one of {repeats[1]} repeats" in cell
