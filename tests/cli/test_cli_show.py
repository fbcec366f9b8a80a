"""Commands that train nothing: list, show, data, export."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from cli_process import Cli

from nasneck import NeckGraph, compile_neck, necks
from nasneck.draw.words import levels_words
from nasneck.necks import NECKS
from nasneck.necks.sizes import SETTING
from nasneck.resources import resource_names
from nasneck.strategy import STRATEGIES


def test_list_names_everything(cli: Cli) -> None:
    lines = cli.good("list").splitlines()
    titles = [line for line in lines if not line.startswith(" ")]
    assert titles == ["fixed necks:", "search spaces:", "strategies:", "experiments:"]
    entries = [line.split(maxsplit=1) for line in lines if line.startswith("  ")]
    fixed = ["name", *NECKS, "(parameters"]
    wanted = [*fixed, *resource_names("search_spaces"), *STRATEGIES, *resource_names("experiments")]
    assert [entry[0] for entry in entries] == wanted
    assert all(len(entry) == 2 and len(entry[1]) > 10 for entry in entries), "each with a line that says what it is"
    # written out, as asking the strategies takes torch
    told = dict(entry for entry in entries if entry[0] in STRATEGIES)
    assert told == {name: strategy.description for name, strategy in STRATEGIES.items()}


def test_list_is_a_table(cli: Cli) -> None:
    lines = cli.good("list").splitlines()[1 : 3 + len(NECKS)]
    head, *rows, setting = lines
    start = head.index("paper")
    assert all(line[start - 2 : start] == "  " and line[start] != " " for line in rows), "columns stand in line"
    assert rows[0].split()[1:8] == ["2017", "C3-5", "->", "P3-7", "3.87", "M", "4.16"]
    assert rows[0].endswith("  Lin et al., Feature Pyramid Networks for Object Detection")
    assert "C2 -> P3-7" in next(row for row in rows if row.startswith("  spinenet "))
    assert SETTING in setting


def test_list_does_not_wait_for_torch() -> None:
    code = "import sys\nsys.modules['torch'] = None\nfrom nasneck.cli import main\nmain(['list'])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "") and "experiments:" in ended.stdout


@pytest.mark.parametrize("name", NECKS)
def test_show_every_neck(cli: Cli, name: str) -> None:
    """Without levels it is shown at its own."""
    graph = NECKS[name]()
    text = cli.good("show", name)
    first = text.splitlines()[0]
    assert first.startswith(f"{name}: {levels_words(graph)}, {len(graph.nodes)} nodes") and graph.key() in first
    assert cli.good("show", name, "--out", "a/neck.svg") == "a/neck.svg\n"
    drawing = ET.fromstring((cli.cwd / "a/neck.svg").read_text())
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    cli.good("show", name, "--out", "a/neck.json")
    assert NeckGraph.from_json((cli.cwd / "a/neck.json").read_text()).key() == graph.key()
    cli.good("show", name, "--out", "a/neck.txt")
    assert (cli.cwd / "a/neck.txt").read_text() == text
    # what was written is read back, under the name of its file
    assert cli.good("show", "a/neck.json").splitlines()[2:] == text.splitlines()[2:]


def test_show_other_levels_and_options(cli: Cli) -> None:
    for args, graph in (
        (["fpn", "--inputs", "2-5", "--levels", "2-5"], necks.fpn((2, 5), (2, 5))),
        (["panet", "--inputs", "4-5", "--levels", "4-8"], necks.panet((4, 5), (4, 8))),
        (["fpn:extra=pool,norm=true", "--levels", "3-6"], necks.fpn((3, 5), (3, 6), extra="pool", norm=True)),
        (["bifpn:repeats=5,fusion=softmax"], necks.bifpn(repeats=5, fusion="softmax")),
        (["bifpn", "--repeats", "2"], necks.bifpn(repeats=2)),
        (["bifpn:repeats=1", "--repeats", "2"], necks.bifpn(repeats=1)),
        (["fpn", "--repeats", "2"], necks.fpn()),
        (["asff"], necks.asff((3, 5), (3, 5))),
        (["asff", "--levels", "3-7"], necks.asff((3, 5), (3, 7))),
        (["mlfpn:tums=2", "--inputs", "3-4"], necks.mlfpn((3, 4), (3, 8), tums=2)),
        (["efficientdet:model=d7x"], necks.efficientdet(levels=(3, 8), model="d7x")),
    ):
        cli.good("show", *args, "--out", "neck.json")
        assert NeckGraph.from_json((cli.cwd / "neck.json").read_text()).key() == graph.key(), args


def test_show_levels_that_do_not_fit(cli: Cli) -> None:
    assert "its finest level P3 has no features" in cli.bad("show", "fpn", "--inputs", "4-5")
    assert "spinenet: it reads C2" in cli.bad("show", "spinenet", "--inputs", "3-5")
    assert "'' is not a range of levels" in cli.bad("show", "fpn", "--levels", "")


def test_show_all_repeats_draws_more(cli: Cli) -> None:
    cli.good("show", "bifpn", "--out", "short.svg")
    cli.good("show", "bifpn", "--all-repeats", "--out", "long.svg")
    assert (cli.cwd / "long.svg").stat().st_size > 1.5 * (cli.cwd / "short.svg").stat().st_size


def test_show_a_run(cli: Cli, study: Path) -> None:
    best = NeckGraph.from_json((study / "best.json").read_text())
    assert best.key() in cli.good("show", study)
    assert best.key() in cli.good("show", study / "study.sqlite")
    shown = [cli.good("show", f"{study}#{number}").splitlines()[0] for number in range(3)]
    assert len({line.partition("key ")[2] for line in shown}) == 3, "three trials, three graphs"
    assert sum(best.key() in line for line in shown) == 1
    deeper = cli.good("show", study, "--repeats", 3)
    assert best.key() not in deeper
    assert int(deeper.split(" nodes")[0].split()[-1]) >= len(best.nodes) + 2 * 7, "seven more cells each"


def test_shapes_twice(cli: Cli) -> None:
    args = ["data", "shapes", "a/d", "--images", 10, "--size", 80, "--seed", 3]
    assert cli.good(*args) == "a/d: 8 training and 2 test images of 80 px\n"
    files = {path: path.stat().st_mtime_ns for path in (cli.cwd / "a/d").rglob("*")}
    assert sum(path.suffix == ".png" for path in files) == 10
    assert cli.good(*args) == "a/d: 8 training and 2 test images of 80 px (there already)\n"
    assert {path: path.stat().st_mtime_ns for path in (cli.cwd / "a/d").rglob("*")} == files
    assert "seed = 3, not 4" in cli.bad(*args[:-1], 4)
    (cli.cwd / "other").mkdir()
    (cli.cwd / "other/mine.txt").touch()
    assert "is not empty" in cli.bad("data", "shapes", "other", "--images", 10)
    assert sorted(path.name for path in cli.cwd.iterdir()) == ["a", "other"], "no temporary files"


def test_check(cli: Cli, shapes: Path) -> None:
    out = cli.good("data", "check", shapes)
    content = json.loads((shapes / "annotations/instances_val.json").read_text())
    boxes = len(content["annotations"])
    counts = [line.split()[:4] for line in out.splitlines()[:3]]
    assert [count[0] for count in counts] == ["train", "reward", "test"]
    assert [int(count[1]) for count in counts] == [19, 5, 6]  # a fifth of 24 is held out
    assert counts[2] == ["test", "6", "images", str(boxes)]
    assert f"classes {', '.join(c['name'] for c in content['categories'])}" in out
    alone = cli.good("data", "check", shapes, "--test", "")
    assert [line.split()[0] for line in alone.splitlines()] == ["train", "reward", "classes"]
    swapped = ["--train", "annotations/instances_val.json", "--test", "annotations/instances_train.json"]
    assert "test        24 images" in cli.good("data", "check", shapes, *swapped)


CHECK = """\
import sys
sys.modules.update(nasneck=None, torchvision=None, networkx=None, pycocotools=None, numpy=None)
import torch, {module}
neck = {module}.Neck()
print(sum(p.numel() for p in neck.parameters()))
print([tuple(x.shape) for x in neck.eval()([torch.zeros(1, w, s, s) for w, s in {features}])])
"""


def run_alone(folder: Path, modules: dict[str, list[tuple[int, int]]]) -> list[str]:
    """Import exported files where there is nothing but torch, one process for all."""
    code = "\n".join(CHECK.format(module=name, features=features) for name, features in modules.items())
    args = [sys.executable, "-W", "ignore", "-c", code]
    ended = subprocess.run(args, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_export(cli: Cli, study: Path) -> None:
    widths = {3: 8, 4: 12, 5: 16}
    args = ["--in-channels", "3:8,4:12,5:16", "--channels", 8]
    said = cli.good("export", study, *args, "--out", "best.py")
    assert said.startswith("best.py: class Neck, 0.0") and said.endswith("gives P3 8, P4 8, P5 8, P6 8, P7 8\n")
    assert "From q#" in (cli.cwd / "best.py").read_text()
    cli.good("export", f"{study}#2", *args, "--out", "second.py", "--norm", "group")
    cli.good("export", study, *args, "--out", "deep.py", "--repeats", 3)
    cli.good("export", "bifpn:repeats=2", *args, "--out", "deeper/bifpn.py")
    (cli.cwd / "deeper/bifpn.py").rename(cli.cwd / "bifpn.py")
    said = cli.good("export", "channel_mapper", "--in-channels", "3:8,4:8", "--channels", 8, "--out", "unused.py")
    assert said.endswith("gives P3 8, P4 8, P5 8, P6 8, P7 8\n"), "the neck's own levels"
    said = cli.good("export", "ssh", *args, "--out", "unused.py")
    assert said.endswith("gives P3 8, P4 8, P5 8\n"), "likewise"
    cli.good("export", "fpn", "--in-channels", "c4:12,c5:16", "--levels", "4-6", "--channels", 8, "--out", "fpn.py")
    three, two = [(8, 17), (12, 9), (16, 5)], [(12, 9), (16, 5)]
    out = run_alone(cli.cwd, {"best": three, "second": three, "deep": three, "bifpn": three, "fpn": two})
    sizes = {name: int(out[2 * i]) for i, name in enumerate(("best", "second", "deep", "bifpn", "fpn"))}

    def parameters(graph: NeckGraph, widths: dict[int, int]) -> int:
        return sum(p.numel() for p in compile_neck(graph, widths, 8).parameters())

    best = NeckGraph.from_json((study / "best.json").read_text())
    assert sizes["best"] == parameters(best, widths) < sizes["deep"]
    assert sizes["bifpn"] == parameters(necks.bifpn(repeats=2), widths)
    assert sizes["fpn"] == parameters(necks.fpn((4, 5), (4, 6)), {4: 12, 5: 16})
    assert out[1] == str([(1, 8, s, s) for s in (17, 9, 5, 3, 2)])
    assert out[9] == str([(1, 8, s, s) for s in (9, 5, 3)])
