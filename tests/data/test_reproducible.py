"""Seeds mean the same in another process with another hash seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from . import other_process


def test_seeds_mean_the_same_in_another_process(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "77"}
    command = [sys.executable, other_process.__file__, str(tmp_path / "theirs")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    ours = json.loads(json.dumps(other_process.everything(tmp_path / "ours")))
    assert json.loads(run.stdout) == ours
    assert len(ours["shapes"]) == 20 + 3
