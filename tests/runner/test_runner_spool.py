"""Measurements between a worker and the study: whole or absent, and counted only where they belong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nasneck.decision import Choices
from nasneck.runner.spool import Spool, bring_home
from nasneck.study import Study
from nasneck.trial import Ask, Measurement, Outcome, State

DONE = Measurement(State.OK, reward=0.25, ap=0.25, ap_small=-1.0, latency_ms=1.5, device="cpu", seed=3)


def key_of(choices: Choices) -> str:
    return f"key of {choices}"


@pytest.fixture
def study(tmp_path: Path):
    """Trial 0 has a result, 1 and 2 are being measured."""
    with Study.create(tmp_path, experiment={}, seed=0) as study:
        for number in range(3):
            study.asked(Ask(number, (number, 7)), graph_key=f"g{number}")
        study.told(0, Outcome((0.5,)), Measurement(State.OK, reward=0.5), cache_key=key_of((0, 7)))
        yield study


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.create(tmp_path / "spool")


def test_put_and_get(spool: Spool) -> None:
    assert spool.get(1, "k") is None
    spool.put(1, (1, 7), "k", DONE)
    assert spool.get(1, "k") == DONE
    assert spool.get(1, "another key") is None
    spool.drop(1)
    spool.drop(1)
    assert spool.get(1, "k") is None


def test_only_the_driver_s_own_folder_is_used(spool: Spool) -> None:
    assert spool.shared
    assert not Spool(spool.folder, "of another run").shared
    assert not Spool(spool.folder / "elsewhere", spool.mark).shared
    (spool.folder / "mark").unlink()
    assert not spool.shared


def test_an_empty_spool_goes_away_and_one_with_results_stays(spool: Spool) -> None:
    spool.put(1, (1, 7), "k", DONE)
    spool.remove()
    assert spool.get(1, "k") == DONE
    spool.drop(1)
    spool.remove()
    assert not spool.folder.exists()


def test_orphans_are_committed(study: Study, spool: Spool) -> None:
    spool.put(1, (1, 7), key_of((1, 7)), DONE)
    spool.put(2, (2, 7), key_of((2, 7)), Measurement(State.OOM, text="full"))
    assert bring_home(study, spool.folder, key_of) == 2
    assert study.trial(1).measurement == DONE
    assert study.trial(2).state is State.OOM
    assert study.measured_as(key_of((1, 7))) == study.trial(1)
    assert not list(spool.folder.glob("*.json"))
    assert bring_home(study, spool.folder, key_of) == 0


def test_what_does_not_fit_is_not_committed(study: Study, spool: Spool) -> None:
    spool.put(0, (0, 7), key_of((0, 7)), DONE)  # has a result
    spool.put(1, (1, 8), key_of((1, 8)), DONE)  # other choices: of a study that was here before
    spool.put(2, (2, 7), "of other settings", DONE)
    spool.put(3, (3, 7), key_of((3, 7)), DONE)  # never asked
    (spool.folder / "4.json").write_text("{")
    (spool.folder / "5.json").write_text(json.dumps({"schema": "another/1"}))
    (spool.folder / "6.json").write_text("[]")
    (spool.folder / "mine.json").write_text("[]")
    assert bring_home(study, spool.folder, key_of) == 0
    assert study.trial(0).measurement == Measurement(State.OK, reward=0.5)
    assert [trial.number for trial in study.in_flight()] == [1, 2]
    assert [path.name for path in spool.folder.glob("*.json")] == ["mine.json"], "the others will never fit"


@pytest.mark.parametrize("result", [True, False])
def test_what_was_killed_in_the_middle_is_tidied_up(study: Study, spool: Spool, result: bool) -> None:
    """Half a measurement and half a mark, and Tune's own files of a driver that was killed."""
    for name in (".1.json.x7", ".mark.a_"):
        (spool.folder / name).write_text('{"schema": "nasn')
    spool.scratch.mkdir()
    (spool.scratch / "of_tune").touch()
    if result:
        spool.put(1, (1, 7), key_of((1, 7)), DONE)
    assert bring_home(study, spool.folder, key_of) == result
    assert not spool.folder.exists()


def test_a_file_that_cannot_be_taken_away_is_no_obstacle(study: Study, spool: Spool) -> None:
    spool.put(1, (1, 7), key_of((1, 7)), DONE)
    (spool.folder / "0.json").mkdir()
    spool.drop(0)
    assert bring_home(study, spool.folder, key_of) == 1
    spool.remove()
    assert [path.name for path in spool.folder.iterdir()] == ["0.json"]
    assert bring_home(study, spool.folder, key_of) == 0


def test_no_spool_at_all(study: Study, tmp_path: Path) -> None:
    assert bring_home(study, tmp_path / "none", key_of) == 0
