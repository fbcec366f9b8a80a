"""The installed command itself, without the shortcut of the other tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [str(Path(sys.executable).with_name("nasneck"))]
MODULE = [sys.executable, "-m", "nasneck"]


def run(command: list[str], *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *args], capture_output=True, text=True, check=False, env=env)


@pytest.mark.parametrize("command", [COMMAND, MODULE], ids=["nasneck", "python -m nasneck"])
def test_help_and_mistakes(command: list[str]) -> None:
    shown = run(command, "--help")
    assert shown.returncode == 0 and shown.stderr == ""
    for name in ("list", "show", "search", "status", "study", "compare", "export", "data"):
        assert f"\n  {name} " in shown.stdout
    assert "..." not in shown.stdout.partition("Commands:")[2], "descriptions that fit"
    wrong = run(command, "--wrong")
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (2, "", "nasneck: error: No such option: --wrong\n")


def test_nothing_shows_the_help() -> None:
    for args in ([], ["data"]):
        shown = run(COMMAND, *args)
        assert shown.returncode in (0, 2) and "Traceback" not in shown.stderr
        assert "Commands:" in shown.stdout + shown.stderr


@pytest.mark.parametrize("args", [["--help"], ["show", "bifpn"], ["show", "wrong"]], ids=" ".join)
def test_what_does_not_wait_for_torch(args: list[str]) -> None:
    code = (
        "import sys\nfrom nasneck.cli import main\n"
        f"try:\n    main({args!r})\nexcept SystemExit:\n    assert 'torch' not in sys.modules\n"
    )
    ended = run([sys.executable, "-c", code])
    assert ended.returncode == 0, ended.stderr


def test_show_is_what_the_shortcut_shows() -> None:
    shown = run(COMMAND, "show", "fpn")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("fpn: C3-5 -> P3-7, 11 nodes")


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    """``nasneck show nas_fpn | head -1`` says nothing of broken pipes."""
    reading, writing = os.pipe()
    with subprocess.Popen([*COMMAND, "show", "nas_fpn"], stdout=writing, stderr=subprocess.PIPE, text=True) as process:
        os.close(writing)
        os.close(reading)
        error = process.communicate()[1]
    assert error == "" and process.returncode in (0, 1)
