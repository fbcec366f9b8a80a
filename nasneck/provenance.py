"""What made a result: version, commit, command, hardware. Every CSV says it in its rows."""

from __future__ import annotations

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
    git = ["git", "-C", str(here)]
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
            cwd=here.parent,
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
    name = Path(sys.argv[0]).name
    home = str(Path.home())
    words = (shlex.quote(word.replace(home, "~")) for word in sys.argv[1:])
    return " ".join(["nasneck" if name == "__main__.py" else name, *words])
