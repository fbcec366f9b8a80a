"""Features are computed once: for a process, or in files for all that see them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from nasneck.errors import ConfigError
from nasneck.proxy.bank import FeatureBank
from nasneck.proxy.features import FeatureStore
from nasneck.proxy.views import Target

CPU = torch.device("cpu")
PLACES = [4, 7, 9]


def bank(folder: Path | None) -> FeatureBank:
    return FeatureBank(folder, CPU, memory_limit_mb=1, disk_limit_mb=2)


class Computed:
    """Features that say who computed them, and how often that was."""

    def __init__(self, value: float = 1.0) -> None:
        self.value = value
        self.times = 0

    def __call__(self) -> tuple[FeatureStore, Sequence[Target]]:
        self.times += 1
        maps = [torch.full((3, 4, 4, 2), self.value), torch.arange(12.0).view(3, 2, 2, 1)]
        targets = [{"boxes": torch.rand(n, 4), "labels": torch.arange(n)} for n in (2, 0, 1)]
        return FeatureStore(maps, CPU), targets


@pytest.mark.parametrize("kept", ["memory", "files"])
def test_what_was_computed_comes_back(tmp_path: Path, kept: str) -> None:
    compute = Computed()
    torch.manual_seed(0)
    found = bank(tmp_path / "deep" if kept == "files" else None).get("x", PLACES, compute)
    torch.manual_seed(0)
    store, targets = compute()
    assert found.row == {4: 0, 7: 1, 9: 2}
    for mine, theirs in zip(found.features.maps, store.maps, strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(found.targets, targets, strict=True):
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_files_are_computed_once(tmp_path: Path) -> None:
    first, second = Computed(1.0), Computed(2.0)
    bank(tmp_path).get("x", PLACES, first)
    found = bank(tmp_path).get("x", PLACES, second)
    assert (first.times, second.times) == (1, 0) and found.features.maps[0][0, 0, 0, 0] == 1
    for other, places in (("y", PLACES), ("x", [4, 9, 7]), ("x", [4, 7])):
        bank(tmp_path).get(other, places, second)
    assert second.times == 3, "of other weights, in another order, of other images"
    assert not list(tmp_path.glob(".*")), "no drafts are left"


def test_files_are_mapped_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "maps"
    with Path("/proc/self/maps").open() if Path("/proc/self/maps").exists() else pytest.skip("no /proc") as maps:  # type: ignore[union-attr]
        found = bank(path).get("x", PLACES, Computed())
        assert str(path) in maps.read()
    assert found.features.maps[0].sum() == 96


def test_a_broken_file_is_refused_by_name(tmp_path: Path) -> None:
    bank(tmp_path).get("x", PLACES, Computed())
    (file,) = tmp_path.glob("*.pt")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"features-.*\.pt cannot be read \(.*\); delete it to compute it anew"):
        bank(tmp_path).get("x", PLACES, Computed())


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(content: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ConfigError, match=r"features cannot be written .*No space left on device.*make room"):
        bank(tmp_path).get("x", PLACES, Computed())
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_limits() -> None:
    mib = 2**20
    bank(None).check(mib, 1, instead="fewer")
    with pytest.raises(ConfigError, match="features of 3 views need 3 MiB, more than memory_limit_mb 1; take fewer"):
        bank(None).check(mib, 3, instead="fewer")
    bank(Path("x")).check(mib, 2, instead="fewer")
    with pytest.raises(ConfigError, match="need 3 MiB, more than disk_limit_mb 2"):
        bank(Path("x")).check(mib, 3, instead="fewer")


class Slow(Computed):
    """Notes itself in a folder and takes a while."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __call__(self) -> tuple[FeatureStore, Sequence[Target]]:
        (self.folder / f"computed-{os.getpid()}").touch()
        time.sleep(0.5)
        return super().__call__()


def _get(folder: Path, notes: Path) -> None:
    bank(folder).get("x", PLACES, Slow(notes))


def test_one_process_computes_and_the_others_wait(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    folder, notes = tmp_path / "bank", tmp_path / "notes"
    notes.mkdir()
    processes = [context.Process(target=_get, args=(folder, notes)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(notes.iterdir())) == 1
