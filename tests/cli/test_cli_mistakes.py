"""Wrong input: one line that says what, where and what would be right; status 2; nothing half-written."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_process import EXPERIMENT, Cli


def tree(folder: Path) -> dict[str, bytes]:
    """All files but those that SQLite keeps beside a database that is read."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def refused(cli: Cli, *args: object, match: str) -> None:
    """The command fails as it should, its message matches, and no file has come, gone or changed."""
    before = tree(cli.cwd)
    message = cli.bad(*args)
    assert re.search(match, message), message
    assert tree(cli.cwd) == before


# -- the command line itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["serach"], "No such command 'serach'.*did you mean.*search"),
        (["show", "fpn", "--bogus"], "No such option: --bogus"),
        (["show"], "[Mm]issing argument 'neck'"),
        (["search", "tiny.toml"], "[Mm]issing option '--out'"),
        (["show", "fpn", "--repeats", "many"], "'--repeats'.*integer"),
        (["export", "fpn", "--in-channels", "3:8", "--out", "n.py", "--norm", "layer"], "'layer'.*'batch'.*'frozen'"),
        (["compare", "fpn", "--out", "c", "--split", "train"], "'train'.*'test'.*'reward'"),
        (["show", "fpn", "--inputs", "3..5"], r"'3\.\.5' is not a range of levels, such as 3-5"),
        (["show", "fpn", "--levels", "7-3"], r"levels=\(7, 3\) is not a first and a last level"),
        (["show", "fpn", "--levels", "2-6"], r"finest level P2 has no features: the backbone gives C3\.\.C5"),
        (["show", "fpn", "--out", "fpn.png"], r"fpn\.png: the name should end in \.svg, \.json or \.txt"),
        (["show", "fpnn"], "'fpnn' is not a fixed neck, a run folder or a graph file; did you mean 'fpn'"),
        (["show", "bifpn:repeat=3"], "unknown option 'repeat' of bifpn; did you mean 'repeats'"),
        (["show", "bifpn:repeats"], "an option is written name=value, not 'repeats'"),
        (["show", "bifpn:repeats=0"], "repeats.*0"),
        (["show", "bifpn:repeats=-2"], "repeats.*-2"),
        (["show", "bifpn:repeats=two"], "repeats.*two"),
        (["show", "bifpn:fusion=most"], "most"),
        (["show", "nowhere/q"], "'nowhere/q' is not a fixed neck, a run folder or a graph file"),
        (["show", "nowhere/q#3"], "nowhere/q: holds no study"),
        (["show", "nothing.json"], "nothing.json: cannot be read .No such file"),
        (["show", "."], "holds no study"),
        (["export", "fpn", "--in-channels", "a:b", "--out", "n.py"], "'a:b' is not a list of levels and widths"),
        (["export", "fpn", "--in-channels", "3:8,3:9", "--out", "n.py"], "is not a list of levels and widths"),
        (["export", "fpn", "--in-channels", "3:0", "--levels", "3", "--out", "n.py"], "C3 has width 0"),
        (["export", "fpn", "--in-channels", "3:8,4:8", "--inputs", "3-5", "--out", "n.py"], "reads C3, C4, C5"),
        (["export", "fpn", "--in-channels", "3:8,4:8,5:8", "--channels", "-3", "--out", "n.py"], "channels=-3"),
        (["export", "fpn", "--in-channels", "3:8,4:8,5:8", "--out", "n.txt"], r"n\.txt: the name should end in \.py"),
        (["compare", "fpn", "--out", "c"], "none of the necks comes from a study; say with --experiment"),
        (["data", "shapes", "d", "--images", "0"], "0 images"),
        (["data", "shapes", "d", "--images", "-4"], "-4 images"),
        (["data", "shapes", "d", "--seed", "-1"], "seed -1 must be 0 or more"),
        (["data", "shapes", "d", "--size", "8"], "smallest shapes would have"),
        (["data", "check", "nowhere"], "nowhere does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments(cli: Cli, args: list[str], match: str) -> None:
    refused(cli, *args, match=f"(?i){match}")


# -- graphs --------------------------------------------------------------------------------------------


def node(name: str, level: int, *inputs: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "level": level, "op": "sum", "inputs": [{"from": i, "ops": []} for i in inputs], **more}


C3 = {"name": "c3", "level": 3, "op": "input"}


@pytest.mark.parametrize(
    ("nodes", "output", "match"),
    [
        ([C3, node("a", 3, "c3", "b"), node("b", 3, "a")], "b", "cycle"),
        ([C3, node("a", 3, "c3", "zz")], "a", "'zz'"),
        ([C3, node("a", 3, "c3")], "zz", "'zz'"),
        ([C3, node("a", 3, "c3", op="blend")], "a", "'blend'.*known.*sum"),
        ([C3, node("a", 3, "c3", layers=["conw"])], "a", "'conw'.*conv"),
        ([C3, node("a", 4, "c3")], "a", "level"),
        ([C3, {"name": "a"}], "a", "'level' is missing"),
        ([C3, C3], "c3", "c3"),
        ([node("a", 3)], "a", "a"),
    ],
    ids=["cycle", "dangling input", "dangling output", "op", "layer", "levels", "no level", "twice", "no input"],
)
def test_graphs(cli: Cli, nodes: list[dict[str, Any]], output: str, match: str) -> None:
    graph = {"schema": "nasneck.graph/1", "name": "mine", "nodes": nodes, "outputs": {"3": output}}
    (cli.cwd / "mine.json").write_text(json.dumps(graph))
    refused(cli, "show", "mine.json", "--out", "mine.svg", match=rf"mine\.json: .*{match}")
    refused(cli, "export", "mine.json", "--in-channels", "3:8", "--out", "n.py", match=rf"mine\.json: .*{match}")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"schema": ', "not JSON .line 1, column 12"),
        ("[1, 2]", "not a neck graph"),
        ('{"schema": "nasneck.graph/9"}', "schema 'nasneck.graph/9' is not 'nasneck.graph/1'"),
        ('{"images": [], "annotations": []}', "not a neck graph"),
        ("\x80\x81", "cannot be read|not JSON"),
        ("", "not JSON"),
    ],
)
def test_graph_files(cli: Cli, text: str, match: str) -> None:
    (cli.cwd / "mine.json").write_bytes(text.encode("latin-1"))
    refused(cli, "show", "mine.json", match=rf"mine\.json: .*({match})")


# -- experiments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("proxy.steps", r"--set 'proxy\.steps': table\.key=value is wanted"),
        ("=3", "table.key=value is wanted"),
        ("seed.x=3", "seed"),
        ("neck.channels.x=3", "'channels' is a setting, not a table"),
        ("proxi.steps=3", "unknown table or setting 'proxi'; did you mean 'proxy'"),
        ("proxy.stepz=3", r"tiny\.toml: \[proxy\]: unknown setting 'stepz'"),
        ("proxy.train.lr=3", r"\[proxy\].*train: unknown setting 'lr'"),
        ("proxy.steps=0", "steps 0 must be at least 1"),
        ("proxy.steps=-5", "steps -5 must be at least 1"),
        ("proxy.steps=many", "'many' is not a whole number"),
        ("proxy.steps=2.5", "2.5 is not a whole number"),
        ("proxy.preset=quik", "unknown preset 'quik'; did you mean 'quick'"),
        ("proxy.canvas=-64", "canvas -64"),
        ("proxy.reward=auc", "'auc' is not one of 'ap', 'loss'"),
        ("proxy.fidelity=cashed", "'cashed' is not one of"),
        ("proxy.amp=maybe", "'maybe' is not one of"),
        ("proxy.detector.kind=yolo", "'yolo' is not one of"),
        ("proxy.backbone.name=resnet11", "resnet11.*resnet10"),
        ("proxy.backbone.name=timm:resnetty", "resnetty"),
        ("proxy.backbone.width=0", "width"),
        ("proxy.backbone.weights=nowhere.pt", "nowhere.pt"),
        ("proxy.train.learning_rate=-1", "learning_rate -1.0 must be above 0"),
        ("proxy.memory_limit_mb=0", "memory_limit_mb"),
        ("proxy=3", r"\[proxy\]: expected a table"),
        ("neck.channels=0", "channels 0 must be at least 1"),
        ("neck.channels=-8", "channels -8 must be at least 1"),
        ("neck.norm=layer", "'layer' is not one of 'batch', 'group', 'frozen'"),
        ("neck.inputs=[5, 3]", r"inputs \[5, 3\]"),
        ("neck.levels=[2, 6]", "finest level P2 has no features: the backbone gives C3..C5"),
        ("neck.inputs=[3, 9]", "9"),
        ("space.name=nas_fpm", "no search space 'nas_fpm'.*did you mean 'nas_fpn'"),
        ("space.name=nowhere:space", "module 'nowhere' cannot be imported"),
        ("space.name=json:space", "module 'json' has no 'space'"),
        ("space.name=json:dumps", "json:dumps"),
        ("space.repeats=0", "repeats"),
        ("space.ops=[]", "ops"),
        ('space.ops=["sum", "blend"]', "blend"),
        ("space.levels=[2, 6]", "level 7 is not one of"),
        ("augment=3", "unknown table or setting 'augment'"),
        ("proxy.augment.jitter=[1.2, 0.8]", r"jitter \[1.2, 0.8\] is no range of scales"),
        ("proxy.detector.size_factor=-1", "size_factor -1.0 must be above 0"),
        ("seed=99999999999999999999", "must lie in 0..2147483647"),
        ("space.levels=[3, 8]", r"levels \[3, 4, 5, 6, 7, 8\], the experiment's necks .*\[3, 4, 5, 6, 7\]"),
        ("space=nas_fpn", "a table with a name is wanted"),
        ("strategy.name=controler", "unknown strategy 'controler'; did you mean 'controller'"),
        ("strategy.temperature=2", "'random'.*unknown setting 'temperature'"),
        ("strategy={}", "a table with a name is wanted"),
        ("search.trials=0", "trials 0 must be at least 1"),
        ("search.trials=-1", "trials -1 must be at least 1"),
        ('search.warm=["fpnn"]', "unknown neck 'fpnn'; did you mean 'fpn'"),
        ('search.warm=["fpn"]', "'fpn' is not a neck that repeats, so it is not in the space"),
        ('search.warm=["bifpn"]', "bifpn|space"),
        ("data.root=", "root is empty"),
        ("data.root=nowhere", "nowhere does not exist"),
        ("data.train=nothing.json", r"nothing\.json does not exist"),
        ("data.test=nothing.json", r"nothing\.json does not exist; set test to ''"),
        ("data.test_images=nowhere", "nowhere"),
        ("data.reward_fraction=1.5", "reward_fraction 1.5 must lie between 0 and 1"),
        ("data.reward_images=24", "leaves none of the 24 images"),
        ("data.train_limit=-1", "train_limit -1 must be at least 1"),
        ("compare.seeds=0", "seeds 0"),
        ("seed=lucky", "seed = 'lucky' is not a whole number"),
        ("device=tpu", "device 'tpu' is not one of auto, cpu, cuda, cuda:N"),
        ("schema=nasneck.experiment/9", "'nasneck.experiment/9'"),
    ],
)
def test_settings(cli: Cli, experiment: str, change: str, match: str) -> None:
    refused(cli, "search", experiment, "--out", "runs/q", "--set", change, match=match)
    assert not (cli.cwd / "runs").exists()


def test_compare_checks_its_settings_as_well(cli: Cli, experiment: str) -> None:
    given = ["compare", "fpn", "--experiment", experiment, "--out", "runs/c"]
    refused(cli, *given, "--seeds", 0, match="seeds 0 must be at least 1")
    refused(cli, *given, "--set", "device=tpu", match="'tpu'")
    refused(cli, *given, "--set", "data.test=", match="no test images; --split reward")
    refused(cli, *given, "--set", "proxy.steps=0", match="steps 0")
    refused(cli, "compare", "fpn", *given[1:], match="'fpn' is named twice")
    refused(cli, "compare", "fpn", "nas_fpn:repeats=0", *given[2:], match="repeats.*0")
    assert not (cli.cwd / "runs").exists()


def test_necks_for_other_levels_are_not_compared(cli: Cli, experiment: str) -> None:
    cli.good("show", "fpn", "--levels", "3-6", "--out", "short.json")
    match = r"short: .*levels \(3, 6\) are not the experiment's .*\(3, 7\)"
    refused(cli, "compare", "short.json", "--experiment", experiment, "--out", "c", match=match)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_no_such_gpu(cli: Cli, experiment: str, device: str) -> None:
    import torch

    if torch.cuda.is_available() and device != "cuda:7":
        pytest.skip("there is a GPU")
    refused(cli, "search", experiment, "--out", "q", "--set", f"device={device}", match=f"device '{device}'.*GPU|only")
    given = ["compare", "fpn", "--experiment", experiment, "--set", f"device={device}"]
    refused(cli, *given, "--out", "c", match=f"device '{device}'")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("schema = ", r"mine\.toml: not TOML"),
        ("", "schema is None; an experiment has schema = 'nasneck.experiment/1'"),
        ('schema = "nasneck.space/1"', "schema is 'nasneck.space/1'"),
        ('schema = "nasneck.experiment/1"', r"mine\.toml: \[data\] is missing"),
        ('schema = "nasneck.experiment/1"\ndata = 3', r"mine\.toml: \[data\]: expected a table"),
        ('schema = "nasneck.experiment/1"\n[date]\n', "unknown table or setting 'date'; did you mean 'data'"),
        ('schema = "nasneck.experiment/1"\n[data]\nroots = "d"', r"\[data\]: unknown setting 'roots'.*'root'"),
        ('schema = "nasneck.experiment/1"\n[data]\nroot = 3', r"\[data\]: root: 3 is not a string"),
        ('schema = "nasneck.experiment/1"\n[data]\nroot = "d"\n[proxy]\ntrain = 3\nsteps = 3', r"\[proxy\]"),
        ("\xff\xfe", r"mine\.toml: not TOML"),
    ],
)
def test_experiment_files(cli: Cli, text: str, match: str) -> None:
    (cli.cwd / "mine.toml").write_bytes(text.encode("latin-1"))
    refused(cli, "search", "mine.toml", "--out", "q", match=match)
    refused(cli, "compare", "fpn", "--experiment", "mine.toml", "--out", "c", match=match)


def test_no_such_experiment(cli: Cli) -> None:
    refused(cli, "search", "quickstat", "--out", "q", match="no experiment 'quickstat'.*did you mean 'quickstart'")
    refused(cli, "search", "my/quick.toml", "--out", "q", match="no experiment 'my/quick.toml'")
    refused(cli, "search", ".", "--out", "q", match="no experiment '.'")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("kind", "not TOML"),
        ('schema = "nasneck.experiment/1"', "schema is 'nasneck.experiment/1'; a search space has"),
        ('schema = "nasneck.space/1"\nkind = "merging_cell"', "unknown kind 'merging_cell'; did you mean"),
        ('schema = "nasneck.space/1"\nkind = "merging_cells"\ncells = 7', "unknown setting 'cells'"),
        ('schema = "nasneck.space/1"\nkind = "merging_cells"\nintermediate = -1', "intermediate"),
        ('schema = "nasneck.space/1"\nkind = "merging_cells"\nintermediate_levels = [9]', "9"),
    ],
)
def test_space_files(cli: Cli, experiment: str, text: str, match: str) -> None:
    (cli.cwd / "mine.toml").write_text(text)
    change = "space.name=mine.toml"
    refused(cli, "search", experiment, "--out", "q", "--set", change, match=rf"mine\.toml: .*{match}")


def test_space_that_cannot_be_decoded(cli: Cli, experiment: str) -> None:
    (cli.cwd / "own_space.py").write_text(
        "from nasneck.decision import Decision\n"
        "from nasneck.errors import SpaceError\n"
        "from nasneck.space import SearchSpace\n"
        "class Own(SearchSpace):\n"
        "    name, decisions = 'own', (Decision('op', 2, 'op'),)\n"
        "    def decode(self, choices): raise SpaceError('nothing can be decoded here')\n"
        "    encode = decode\n"
    )
    change = "space={name = 'own_space:Own'}"
    refused(cli, "search", experiment, "--out", "q", "--set", change, match="nothing can be decoded here")


# -- data ----------------------------------------------------------------------------------------------


def annotations(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        path = root / "annotations/instances_train.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


def share_an_image(root: Path) -> None:
    copy = root / "images" / "000030.png"  # the last one, of the test images
    copy.write_bytes((root / "images" / "000001.png").read_bytes())


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (annotations(lambda c: c.update(categories=[])), "'categories' is empty"),
        (annotations(lambda c: c["annotations"][0].update(bbox=[60, 60, 90, 90])), "outside image"),
        (annotations(lambda c: c["annotations"][0].update(bbox=[1, 2, 3])), "four numbers"),
        (annotations(lambda c: c["annotations"][0].update(category_id=99)), "category_id 99"),
        (annotations(lambda c: c.update(annotations=[])), "at least one box"),
        (annotations(lambda c: c.update(images=[])), "'images' is empty"),
        (annotations(lambda c: c["images"][0].update(file_name="gone.png")), r"gone\.png"),
        (annotations(lambda c: c["images"][0].update(file_name="../a.png")), "leaves the image folder"),
        (annotations(lambda c: c["images"][0].update(width=33)), "33"),
        (lambda root: (root / "annotations/instances_train.json").write_text("{"), "is not valid JSON"),
        (lambda root: (root / "annotations/instances_train.json").write_text("{}"), "no COCO detection file"),
        (lambda root: (root / "annotations/instances_train.json").unlink(), r"instances_train\.json does not exist"),
        (lambda root: (root / "annotations/instances_val.json").unlink(), r"instances_val\.json does not exist"),
        (lambda root: (root / "images/000001.png").unlink(), r"000001\.png"),
        (share_an_image, "occurs in both"),
    ],
)
def test_data(cli: Cli, experiment: str, shapes: Path, damage: Callable[[Path], object], match: str) -> None:
    import shutil

    root = Path(shutil.copytree(shapes, cli.cwd / "mine"))
    damage(root)
    if match != "33":  # sizes are seen when an image is read
        refused(cli, "data", "check", "mine", match=match)
    refused(cli, "search", experiment, "--out", "runs/q", "--set", "data.root=mine", match=match)
    assert not (cli.cwd / "runs").exists()


def test_broken_image(cli: Cli, experiment: str, shapes: Path) -> None:
    import shutil

    root = Path(shutil.copytree(shapes, cli.cwd / "mine"))
    for path in (root / "images").iterdir():
        path.write_bytes(path.name.encode())
    refused(cli, "search", experiment, "--out", "q", "--set", "data.root=mine", match=r"\.png")


def test_generated_data_do_not_overwrite(cli: Cli, shapes: Path) -> None:
    (cli.cwd / "mine").mkdir()
    (cli.cwd / "mine" / "thesis.txt").write_text("ten years")
    refused(cli, "data", "shapes", "mine", match="mine is not empty and holds no generated shapes")
    refused(cli, "data", "shapes", "mine/thesis.txt", match=r"thesis\.txt is a file; name a folder")
    refused(cli, "data", "shapes", shapes, "--images", 31, match="holds shapes with images = 30, not 31")


def test_one_pixel_maps_cannot_be_batch_normalised_alone(cli: Cli, experiment: str) -> None:
    """Every candidate fails: a row with the reason each, and no success."""
    ended = cli("search", experiment, "--out", "q", "--set", "proxy.train.batch_size=1", "--set", "search.trials=2")
    reason = "batch norm cannot train on one 1x1 map per channel"
    assert ended.code == 1 and ended.err == "no candidate could be measured; q/trials.csv says why\n"
    assert ended.out.count(f"error: nas_fpn: {reason}") == 2 and "Traceback" not in ended.out
    assert (cli.cwd / "q" / "trials.csv").read_text().count(reason) == 2
    assert not (cli.cwd / "q" / "best.json").exists()
    match = "q: no trial has been measured yet"
    refused(cli, "show", "q", match=match)
    refused(cli, "export", "q", "--in-channels", "3:8,4:8,5:8", "--out", "n.py", match=match)


def test_preparation_that_fails_leaves_no_study(cli: Cli, experiment: str) -> None:
    """A canvas whose features do not fit onto the disk is seen when the study exists already."""
    args = ["search", experiment, "--out", "q", "--set", "proxy.canvas=512"]
    refused(cli, *args, "--set", "proxy.disk_limit_mb=1", match="disk_limit_mb")
    assert not (cli.cwd / "q").exists()


# -- folders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["file", "file/deeper", "/proc/nasneck"])
def test_unwritable_folders(cli: Cli, experiment: str, study: Path, out: str) -> None:
    (cli.cwd / "file").write_text("mine")
    refused(cli, "search", experiment, "--out", out, match=f"{out}: cannot be")
    refused(cli, "compare", study, "--out", out, match=f"{out}: cannot be")
    refused(cli, "show", "fpn", "--out", f"{out}/fpn.svg", match="cannot be written")
    refused(cli, "export", "fpn", "--in-channels", "3:8,4:8,5:8", "--out", f"{out}/n.py", match="cannot be written")
    refused(cli, "data", "shapes", f"{out}/d", "--images", 30, match=f"{out}")


def test_a_file_in_place_of_a_study(cli: Cli, experiment: str) -> None:
    (cli.cwd / "q").mkdir()
    for content in (b"", b"hello", b"SQLite format 3\0" + bytes(200)):
        (cli.cwd / "q" / "study.sqlite").write_bytes(content)
        refused(cli, "show", "q", match=r"study\.sqlite")
    with sqlite3.connect(cli.cwd / "q" / "other.sqlite") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    (cli.cwd / "q" / "other.sqlite").rename(cli.cwd / "q" / "study.sqlite")
    refused(cli, "show", "q", match="a database, but not a study of nasneck")
    assert "not a study of nasneck" in cli.bad("search", experiment, "--out", "q", "--resume")


def test_trials_that_are_not_there(cli: Cli, study: Path) -> None:
    refused(cli, "show", f"{study}#99", match="trial 99 was never asked .3 asks so far")
    refused(cli, "show", f"{study}#best", match="the number of a trial is wanted after '#'")
    refused(cli, "show", f"{study}#-1", match="the number of a trial is wanted after '#'")


def test_the_experiment_of_the_tests_is_fine(cli: Cli, shapes: Path) -> None:
    """What is refused above is refused for the stated reason alone."""
    (cli.cwd / "tiny.toml").write_text(EXPERIMENT.format(root=shapes))
    cli.good("search", "tiny.toml", "--out", "q", "--set", "search.trials=1")
