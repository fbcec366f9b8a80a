"""Commands as processes, with their output and their exit status; see ``zygote``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EXPERIMENT = """\
schema = "nasneck.experiment/1"
[data]
root = "{root}"
reward_fraction = 0.3
[neck]
channels = 8
[space]
name = "nas_fpn"
repeats = 1
[proxy]
canvas = 64
amp = "off"
[proxy.backbone]
width = 8
[proxy.augment]
views = 1
[proxy.train]
steps = 2
batch_size = 4
[proxy.backbone_train]
steps = 2
batch_size = 4
[strategy]
name = "random"
[search]
trials = 3
"""


@dataclass(frozen=True)
class Ended:
    """A command that has ended; ``code`` is minus the signal if one ended it."""

    code: int
    out: str
    err: str


@dataclass
class Running:
    """A command that may still run."""

    pid: int
    out: Path
    err: Path
    ask: Callable[[dict[str, object]], dict[str, int]]

    def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait for ``condition``."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.err.read_text() or self.out.read_text()
            time.sleep(0.005)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> Ended:
        code = self.ask({"wait": self.pid})["status"]
        return Ended(code, self.out.read_text(), self.err.read_text())


class Cli:
    """Runs ``nasneck ARGS`` in ``cwd``."""

    def __init__(self, zygote: subprocess.Popen[str], cwd: Path) -> None:
        self._zygote = zygote
        self._count = 0
        self.cwd = cwd

    def __call__(self, *args: object) -> Ended:
        return self.start(*args).wait()

    def start(self, *args: object) -> Running:
        self._count += 1
        out, err = (self.cwd.parent / f".{self.cwd.name}-{self._count}.{kind}" for kind in ("out", "err"))
        request = {"args": [str(arg) for arg in args], "cwd": str(self.cwd), "out": str(out), "err": str(err)}
        return Running(self._ask(request)["pid"], out, err, self._ask)

    def good(self, *args: object) -> str:
        """The output of a command that has to succeed."""
        ended = self(*args)
        assert (ended.code, ended.err) == (0, ""), (ended.out, ended.err)
        return ended.out

    def bad(self, *args: object) -> str:
        """The message of a command that has to fail as every mistake does: one line, status 2, no traceback."""
        ended = self(*args)
        assert ended.code == 2, (ended.out, ended.err)
        assert ended.err.startswith("nasneck: error: "), ended.err
        assert ended.err.count("\n") == 1 and ended.err.endswith("\n"), ended.err
        return ended.err

    def _ask(self, request: dict[str, object]) -> dict[str, int]:
        assert self._zygote.stdin is not None and self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(request) + "\n")
        self._zygote.stdin.flush()
        return json.loads(self._zygote.stdout.readline())
