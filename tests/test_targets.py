"""What a user may name where a neck is wanted; studies are named in the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasneck import NeckGraph, necks
from nasneck.errors import ConfigError, GraphError, StudyError
from nasneck.targets import resolve


@pytest.mark.parametrize(
    ("text", "graph"),
    [
        ("fpn", necks.fpn()),
        ("fpn:", necks.fpn()),
        ("fpn:extra=pool", necks.fpn(extra="pool")),
        ("fpn:extra='pool'", necks.fpn(extra="pool")),
        ("fpn:norm=true", necks.fpn(norm=True)),
        ("fpn:norm=True, extra=input", necks.fpn(norm=True, extra="input")),
        ("fpn:extra_relu=false", necks.fpn(extra_relu=False)),
        ("bifpn:repeats=2,fusion=sum,separable=false", necks.bifpn(repeats=2, fusion="sum", separable=False)),
        ("nas_fpn:dialect=mmdet,repeats=2", necks.nas_fpn(dialect="mmdet", repeats=2)),
    ],
)
def test_fixed_necks(text: str, graph: NeckGraph) -> None:
    target = resolve(text)
    assert target.graph.key() == graph.key()
    assert (target.name, target.study) == (text, None)


def test_levels_and_repeats() -> None:
    assert resolve("fpn", inputs=(2, 4), levels=(2, 5)).graph.key() == necks.fpn((2, 4), (2, 5)).key()
    assert resolve("bifpn", repeats=4).graph.key() == necks.bifpn(repeats=4).key()
    assert resolve("bifpn:repeats=2", repeats=4).graph.key() == necks.bifpn(repeats=2).key(), "what is stated wins"
    assert resolve("panet", repeats=4).graph.key() == necks.panet().key(), "it has none"


def test_a_file(tmp_path: Path) -> None:
    graph = necks.bifpn(repeats=1)
    path = tmp_path / "mine.json"
    path.write_text(graph.to_json())
    target = resolve(str(path), inputs=(4, 5), levels=(4, 6), repeats=7)  # the file says all of this itself
    assert (target.name, target.graph.key()) == ("mine", graph.key())
    bare = tmp_path / "bifpn"
    bare.write_text(graph.to_json())
    assert resolve(str(bare)).graph.key() == graph.key(), "any file that is there"


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("fnp", ConfigError, r"'fnp' is not a fixed neck, a run folder or a graph file; did you mean 'fpn'\?"),
        ("fnp:repeats=3", ConfigError, "'fnp:repeats=3' is not a fixed neck"),
        ("fpn:inputs=3", ConfigError, "'fpn:inputs=3': unknown option 'inputs' of fpn"),
        ("fpn:repeats=3", ConfigError, "unknown option 'repeats' of fpn .known: extra, extra_relu, norm"),
        ("bifpn:repeats", ConfigError, "an option is written name=value, not 'repeats'"),
        ("bifpn:repeats=", (ConfigError, GraphError), "repeats"),
        ("bifpn:repeats=1.5", (ConfigError, GraphError), "repeats"),
        ("fpn:extra=3", (ConfigError, GraphError), "extra"),
        ("gone.json", GraphError, r"gone\.json: cannot be read \(No such file or directory\)"),
        ("gone#1", StudyError, "gone: holds no study"),
        ("gone/study.sqlite", StudyError, "gone: holds no study"),
        ("fpn#1", StudyError, "fpn: holds no study"),
    ],
)
def test_what_names_nothing(text: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        resolve(text)


def test_a_folder_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"holds no study \(there is no study\.sqlite\)"):
        resolve(str(tmp_path))
