"""Scalars for TensorBoard: what TensorBoard itself reads from the files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from search_fakes import FakeGraph, FakeSpace, Listed, cache_key, reward, run

from nasneck.errors import ConfigError
from nasneck.runner import Desk
from nasneck.runner.board import Board
from nasneck.strategy import Strategy, make_strategy
from nasneck.study import Study, resume
from nasneck.trial import Measurement, State

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

SPACE = FakeSpace(4, 5, 6, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Study.create(tmp_path, experiment={}, seed=0).close()
    return tmp_path


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> steps and values, as TensorBoard shows them."""
    found = accumulator.EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def measured(graph: FakeGraph) -> Measurement:
    return Measurement(State.OK, reward=reward(graph), seconds=3.0, parameters=7, macs=10**9)


def strategy() -> Strategy:
    return make_strategy("random", SPACE.decisions, seed=0)


def search(
    folder: Path, trials: int, evaluate: Callable[[FakeGraph], Measurement] = measured, *, board: bool = True
) -> None:
    """Search, or go on with it, and show it."""
    with Study.open(folder) as study, Board(folder) as listener:
        made = resume(study, strategy).strategy
        run(study, made, SPACE, evaluate, cache_key, trials=trials, **({"on_event": listener} if board else {}))
        if board:
            listener.finish()


def test_every_trial_by_number(folder: Path) -> None:
    kinds = {
        0: Measurement(State.OK, reward=0.25, seconds=3.0, parameters=7, macs=10**9, latency_ms=1.5, rung=2),
        1: Measurement(State.OOM, seconds=2.0, parameters=8),
        2: Measurement(State.OK, reward=0.5, seconds=4.0, parameters=9, rung=2),
        3: Measurement(State.PRUNED, reward=-3.0, reward_kind="loss", seconds=1.0, rung=1),
    }
    space = FakeSpace(6, 1, 2)
    choices = [(0, 0, 0), (1, 0, 0), (0, 0, 1), (3, 0, 0), (5, 0, 0), (3, 0, 1), (2, 0, 0)]

    def refuse(graph: FakeGraph) -> Measurement | None:
        return Measurement(State.REJECTED, parameters=99, text="too large") if graph.numbers[0] == 5 else None

    with Study.open(folder) as study, Board(folder) as board:
        run(
            study,
            Listed(space, choices),
            space,
            lambda graph: kinds[graph.numbers[0]],
            cache_key,
            trials=4,
            on_event=board,
            refuse=refuse,
            values=lambda m: () if m.reward is None else (2 * m.reward,),
        )
        assert [str(trial.state) for trial in study.trials()] == [
            "ok",
            "oom",
            "cached",
            "pruned",
            "rejected",
            "cached",
            "ok",
        ]
        board.finish()
    assert scalars(folder) == {
        "trial/reward": [(0, 0.25), (2, 0.25), (6, 0.5)],  # not the early loss of what was stopped, nor of its double
        "trial/objective": [(0, 0.5), (2, 0.5), (6, 1.0)],
        "trial/seconds": [(0, 3.0), (1, 2.0), (3, 1.0), (6, 4.0)],
        "trial/parameters": [(0, 7), (1, 8), (2, 7), (4, 99), (6, 9)],
        "trial/macs": [(0, 1e9), (2, 1e9)],
        "trial/latency_ms": [(0, 1.5), (2, 1.5)],
        "search/best_reward": list(enumerate([0.25] * 6 + [0.5])),
        "search/measured": list(enumerate([1, 2, 2, 3, 3, 3, 4])),
        "search/failed": list(enumerate([0, 1, 1, 1, 1, 1, 1])),
        "search/cached": list(enumerate([0, 0, 1, 1, 1, 2, 2])),
        "search/rejected": list(enumerate([0, 0, 0, 0, 1, 1, 1])),
        "search/pruned": list(enumerate([0, 0, 0, 1, 1, 1, 1])),
    }


def test_going_on_is_one_unbroken_line(folder: Path) -> None:
    search(folder, 4)
    first = scalars(folder)
    search(folder, 9)
    found = scalars(folder)
    with Study.read(folder) as study:
        count = study.next_number
    assert [step for step, _ in found["search/measured"]] == list(range(count))
    assert all(found[tag][: len(first[tag])] == first[tag] for tag in first)
    for _ in range(4):
        search(folder, 9)  # nothing is left to do
        assert scalars(folder) == found
    sizes = sorted(path.stat().st_size for path in (folder / "tensorboard").iterdir())
    assert sizes[:-1] == [0] and sizes[-1] > 0, "no heap of old files"


def test_a_search_that_was_not_watched_is_shown_whole(folder: Path) -> None:
    search(folder, 4, board=False)
    search(folder, 4)  # no event comes any more
    assert len(scalars(folder)["trial/reward"]) >= 4
    shutil.rmtree(folder / "tensorboard")
    search(folder, 6)
    steps = [step for step, _ in scalars(folder)["search/measured"]]
    assert steps == list(range(len(steps))) and len(steps) >= 6


def test_who_looks_on_meanwhile_forgets_the_old_files(folder: Path) -> None:
    """A TensorBoard that has read the files of the first run gets those of the second as well."""
    search(folder, 4)
    found = accumulator.EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    assert found.Scalars("search/measured")
    search(folder, 8)
    found.Reload()
    steps = [event.step for event in found.Scalars("search/measured")]
    assert steps == list(range(len(steps))) and len(steps) >= 8


def test_results_that_come_out_of_order_are_written_in_order(folder: Path) -> None:
    """TensorBoard forgets what stands before a smaller step."""
    space = FakeSpace(10, 1)
    with Study.open(folder) as study, Board(folder) as board:
        asked = Listed(space, [(i, 0) for i in range(6)])
        desk = Desk(study, asked, space, cache_key, trials=6, on_event=board)
        jobs = [desk.next() for _ in range(6)]
        for number in (2, 0, 4, 3):
            job = jobs[number]
            assert job is not None
            desk.finish(number, measured(job.graph))
        assert [step for step, _ in scalars(folder)["trial/reward"]] == [0], "1 is not known, and it is on the disk"
        board.finish()
    found = scalars(folder)
    assert [step for step, _ in found["trial/reward"]] == [0, 2, 3, 4]
    assert found["search/measured"] == [(0, 1), (2, 2), (3, 3), (4, 4)]
    with Study.open(folder) as study, Board(folder) as board:
        asked = Listed(space, [(i, 0) for i in range(6)])
        desk = Desk(study, resume(study, lambda: asked).strategy, space, cache_key, trials=6, on_event=board)
        while (job := desk.next()) is not None:
            desk.finish(job.number, measured(job.graph))
    assert scalars(folder)["search/measured"] == list(enumerate([1, 2, 3, 4, 5, 6]))


def test_nothing_is_written_before_the_search_begins(folder: Path) -> None:
    with Board(folder):
        pass
    with Board(folder / "new"):
        pass
    assert not (folder / "tensorboard").exists() and not (folder / "new").exists()


def test_a_folder_that_cannot_be_one(folder: Path) -> None:
    (folder / "tensorboard").write_text("mine")
    with pytest.raises(ConfigError, match="tensorboard: cannot be made a folder"):
        Board(folder)


def test_trouble_with_the_files_does_not_end_the_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def full(*args: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    with Study.open(folder) as study, Board(folder, on_warning=told.append) as board:
        monkeypatch.setattr(board, "_make", full)
        assert run(study, strategy(), SPACE, measured, cache_key, trials=3, on_event=board).measured == 3
        board.finish()
    assert told == [f"{folder}/tensorboard: no more scalars can be written (No space left on device)"]


@pytest.mark.parametrize("missing", ["tensorboard", "torch.utils.tensorboard"])
def test_without_the_package(folder: Path, missing: str) -> None:
    code = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"
        "from nasneck.errors import ConfigError\n"
        "from nasneck.runner.board import Board\n"
        "try:\n    Board(sys.argv[1])\nexcept ConfigError as error:\n    print(error)"
    )
    ended = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("TensorBoard is missing (") and ended.stdout.endswith("; pip install tensorboard\n")
