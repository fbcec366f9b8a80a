import stat
from pathlib import Path

import pytest
import torch

from nasneck.errors import ConfigError
from nasneck.proxy.config import BackboneConfig
from nasneck.proxy.store import load_state, save_state, state_digest
from nasneck.proxy.weights import make_backbone


def state() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}


def test_weights_come_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "backbone.pt"
    assert load_state(path, settings_digest="x") is None
    save_state(path, state(), settings_digest="x")
    back = load_state(path, settings_digest="x")
    assert back is not None and all(torch.equal(v, back[k]) for k, v in state().items())
    assert [p.name for p in path.parent.iterdir()] == ["backbone.pt"]


def test_the_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "backbone.pt"
    save_state(path, state(), settings_digest="old")

    def fail(content: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save_state(path, state(), settings_digest="new")
    assert [p.name for p in tmp_path.iterdir()] == ["backbone.pt"]
    assert load_state(path, settings_digest="old") is not None


def test_broken_and_changed_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "backbone.pt"
    path.write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match=r"backbone\.pt cannot be read .*; delete it"):
        load_state(path, settings_digest="x")
    save_state(path, state(), settings_digest="x")
    with pytest.raises(ConfigError, match=r"backbone\.pt was changed after it was written; delete it"):
        load_state(path, settings_digest="y")
    content = torch.load(path, weights_only=True)
    content["state"]["a"][0, 0] = 9
    torch.save(content, path)
    with pytest.raises(ConfigError, match="was changed after it was written"):
        load_state(path, settings_digest="x")


def test_files_are_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "backbone.pt"
    save_state(path, state(), settings_digest="x")
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_the_digest_sees_names_shapes_and_values() -> None:
    base = state_digest(state())
    assert state_digest(dict(reversed(state().items()))) == base
    changed = [
        {**state(), "b": torch.zeros(1)},
        {**state(), "a": torch.arange(6.0).view(3, 2)},
        {**state(), "a": torch.arange(6.0).view(2, 3) + 1e-6},
        {**state(), "a": torch.arange(6).view(2, 3)},
    ]
    assert len({base, *map(state_digest, changed)}) == 5


def test_random_backbones_follow_their_seed() -> None:
    before = torch.get_rng_state()
    config = BackboneConfig(width=8)
    first, again, other = (make_backbone(config, levels=(3, 5), seed=s).state_dict() for s in (1, 1, 2))
    assert state_digest(first) == state_digest(again) != state_digest(other)
    assert torch.equal(torch.get_rng_state(), before)
