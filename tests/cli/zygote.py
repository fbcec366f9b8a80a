"""Runs commands of nasneck in processes of their own without importing torch anew for each of them.

Reads one JSON request a line and answers each with one:

    {"args": [...], "cwd": "...", "out": file, "err": file}    forks; {"pid": ...}
    {"wait": pid}                                              {"status": exit status, or minus the signal}

Each command has its own memory, files, signals and exit status, as if the shell had started it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

import torch

# Everything that the commands import when they run; none of these starts a thread.
MODULES = ("cli.display", "compile", "cost", "draw", "experiment", "export", "search", "comparison", "targets")


def command(request: dict[str, Any]) -> NoReturn:
    """Become ``nasneck ARGS``, in output and exit status like a process of the console script."""
    from nasneck.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, path in enumerate((os.devnull, request["out"], request["err"])):
        place = os.open(path, flags if number else os.O_RDONLY)
        os.dup2(place, number)
        os.close(place)
    sys.argv = ["nasneck", *request["args"]]
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # taking torch down in order takes a second


def serve() -> None:
    """Until standard input ends; what a failed test has left running ends with it."""
    running: set[int] = set()
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "wait" in request:
            answer = {"status": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
            running.discard(request["wait"])
        else:
            pid = os.fork()
            if pid == 0:
                command(request)
            answer = {"pid": pid}
            running.add(pid)
        print(json.dumps(answer), flush=True)
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in MODULES:
        importlib.import_module(f"nasneck.{name}")
    # What is imported late, by torch's optimizers and by typer.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        importlib.import_module("nasneck.cli").main(["show", "fpn"])
    serve()
