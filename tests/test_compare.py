"""The loop of a comparison, with a task that trains nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from nasneck import NeckGraph, necks
from nasneck.compare import FILE_NAME, Training, compare
from nasneck.errors import ConfigError, StudyError
from nasneck.proxy import ProxyTask
from nasneck.study.lock import FolderLock
from nasneck.trial import Measurement, State

GRAPHS = {"fpn": necks.fpn(), "panet": necks.panet()}


class FakeTask:
    """Notes what is evaluated; ``measure`` says what comes out."""

    def __init__(self, measure: Callable[[str, int], Measurement] | None = None) -> None:
        self.calls: list[tuple[str, int]] = []
        self.measure = measure or (lambda name, seed: Measurement(State.OK, reward=0.5, ap=0.5, seed=seed))

    def prepare(self, progress: Any = None, *, seed: int, steps: int | None) -> None: ...

    def cache_key(self, graph: NeckGraph, *, seed: int, split: str, steps: int | None) -> str:
        return f"{graph.key()} {seed} {split} {steps}"

    def evaluate(self, graph: NeckGraph, *, seed: int, split: str, steps: int | None) -> Measurement:
        self.calls.append((graph.name, seed))
        return self.measure(graph.name, seed)


def run(task: FakeTask, out: Path, **more: Any) -> list[dict[str, Any]]:
    return compare(cast(ProxyTask, task), GRAPHS, out, **{"seeds": (4, 5), **more})


def test_seeds_are_the_outer_loop_and_necks_of_the_rows(tmp_path: Path) -> None:
    task, events = FakeTask(), list[Training]()
    rows = run(task, tmp_path / "c", on_event=events.append)
    assert task.calls == [("fpn", 4), ("panet", 4), ("fpn", 5), ("panet", 5)]
    assert [(r["neck"], r["seed"]) for r in rows] == [("fpn", 4), ("fpn", 5), ("panet", 4), ("panet", 5)]
    assert [r["graph_key"] for r in rows] == [GRAPHS[r["neck"]].key() for r in rows]
    assert [(e.name, e.seed, e.done, e.total, e.measurement is None, e.remembered) for e in events] == [
        step
        for i, (name, seed) in enumerate(task.calls)
        for step in ((name, seed, i, 4, True, False), (name, seed, i + 1, 4, False, False))
    ]


def test_what_is_finished_is_remembered(tmp_path: Path) -> None:
    def stop(name: str, seed: int) -> Measurement:
        if (name, seed) == ("fpn", 5):
            raise KeyboardInterrupt
        return Measurement(State.OK, reward=0.25, ap=0.25, seed=seed)

    with pytest.raises(KeyboardInterrupt):
        run(FakeTask(stop), tmp_path)
    task, events = FakeTask(), list[Training]()
    rows = run(task, tmp_path, on_event=events.append)
    assert task.calls == [("fpn", 5), ("panet", 5)]
    assert [r["ap"] for r in rows] == [0.25, 0.5, 0.25, 0.5]
    assert [(e.name, e.seed) for e in events if e.remembered] == [("fpn", 4), ("panet", 4)]
    for more, calls in (({"split": "reward"}, 4), ({"steps": 9}, 4), ({"seeds": (4, 5, 6)}, 2), ({}, 0)):
        task = FakeTask()
        run(task, tmp_path, **more)
        assert len(task.calls) == calls, more


def test_failures_are_rows_and_tried_again(tmp_path: Path) -> None:
    def fail(name: str, seed: int) -> Measurement:
        good = Measurement(State.OK, reward=0.5, ap=0.5, seed=seed)
        return good if name == "fpn" else Measurement(State.OOM, seed=seed, text="out of memory")

    rows = run(FakeTask(fail), tmp_path)
    assert [(r["state"], r["text"]) for r in rows] == [("ok", "")] * 2 + [("oom", "out of memory")] * 2
    task = FakeTask()
    assert [r["state"] for r in run(task, tmp_path)] == ["ok"] * 4
    assert task.calls == [("panet", 4), ("panet", 5)]


@pytest.mark.parametrize(
    "line",
    ['{"key": "cut', "", "[]", "3", '{"key": "k"}', '{"key": "k", "measurement": {}}', '{"key": [], "measurement": 3}'],
)
def test_lines_that_are_none_of_ours_are_passed_over(tmp_path: Path, line: str) -> None:
    run(FakeTask(), tmp_path)
    path = tmp_path / FILE_NAME
    lines = path.read_text().splitlines()
    path.write_bytes("\n".join([lines[0], line, *lines[1:]]).encode() + b"\n\xff\n")
    task = FakeTask()
    run(task, tmp_path)
    assert task.calls == []


def test_lines_are_complete_in_themselves(tmp_path: Path) -> None:
    run(FakeTask(), tmp_path)
    for line in (tmp_path / FILE_NAME).read_text().splitlines():
        data = json.loads(line)
        assert set(data) == {"key", "measurement", "made"}
        assert Measurement.from_dict(data["measurement"]).ap == 0.5


def test_folder_is_locked_and_given_free(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(StudyError, match="in use by process"):
        run(FakeTask(), tmp_path)
    lock.release()

    def fail(name: str, seed: int) -> Measurement:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run(FakeTask(fail), tmp_path)
    run(FakeTask(), tmp_path)


def test_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one neck and one seed"):
        compare(cast(ProxyTask, FakeTask()), {}, tmp_path / "c", seeds=(1,))
    with pytest.raises(ConfigError, match="at least one neck and one seed"):
        run(FakeTask(), tmp_path / "c", seeds=())
    assert not (tmp_path / "c").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="file: cannot be made a folder"):
        run(FakeTask(), tmp_path / "file")
