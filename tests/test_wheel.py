"""What is shipped beside the package comes along in a wheel and is found there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nasneck.necks import NECKS

ROOT = Path(__file__).resolve().parent.parent

CHECK = """\
import sys
sys.path.insert(0, sys.argv[1])
import nasneck
from nasneck.resources import find_resource, resource_names
from nasneck.space import load_space
assert nasneck.__file__.startswith(sys.argv[1]), nasneck.__file__
for kind in ("search_spaces", "experiments"):
    names = resource_names(kind)
    assert all(str(find_resource(kind, name)).startswith(sys.argv[1]) for name in names)
    print(kind, *names)
from nasneck.cli.listing import listing
from nasneck.necks import NECKS
print("listed", *[line.split()[0] for line in listing().splitlines() if line.startswith("  ")][1 : 1 + len(NECKS)])
print(load_space("nas_fpn").size())
"""


def uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


@pytest.mark.skipif(uv() is None, reason="wheels are built with uv")
def test_shipped_files_travel_in_the_wheel(tmp_path: Path) -> None:
    program = uv()
    assert program is not None
    built = subprocess.run(
        [program, "build", "--wheel", "--quiet", "--out-dir", str(tmp_path / "dist"), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("the build backend cannot be had here")
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")  # what an installation without dependencies does
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"nasneck"}, "nothing else is installed"
    assert not [name for name in names if "test" in name or "/runs/" in name or name.endswith(".pyc")]
    assert "nasneck/necks/sizes.json" in names
    drawn = [name for name in names if name.endswith((".svg", ".png", ".csv"))]
    assert drawn == [], "results and drawings stay in the repository"
    (tmp_path / "elsewhere").mkdir()
    ended = subprocess.run(
        [sys.executable, "-P", "-c", CHECK, str(tmp_path / "site")],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = {line.split()[0]: line.split()[1:] for line in ended.stdout.splitlines()}
    for kind in ("search_spaces", "experiments"):
        assert found[kind] == sorted(path.stem for path in (ROOT / kind).glob("*.toml"))
    assert found["listed"] == list(NECKS)
    assert list(found)[-1] == "1931334451200000"
