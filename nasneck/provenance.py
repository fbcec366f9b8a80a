"""What made a result: version, commit, command, hardware. Every CSV says it in its rows."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path


@cache
def commit() -> str:
    """Commit of the checkout that the package runs from, with ``+`` if files differ; else its version."""
    here = Path(__file__).resolve().parent
    git = ["git", "-C", str(here.parent)]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True)
        if Path(top.stdout.strip()).resolve() != here.parent:
            return version()  # installed inside somebody else's repository
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [
                *git,
                "status",
                "--porcelain",
                "--untracked-files=no",
                "--",
                "nasneck",
                "search_spaces",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return version()
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


@cache
def version() -> str:
    """Version of the installed package."""
    try:
        return metadata.version("nasneck")
    except metadata.PackageNotFoundError:
        return "unknown"


def command() -> str:
    """The command line of this process, without the paths of interpreter and home."""
    home = f"{Path.home()}{os.sep}"
    args = [arg.replace(home, "~/") if len(home) > 2 else arg for arg in sys.argv[1:]]
    name = Path(sys.argv[0]).name
    return shlex.join(["nasneck" if name == "__main__.py" else name, *args])
