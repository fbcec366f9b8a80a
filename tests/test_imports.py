"""The direction of imports, the homes of what is optional, and what works without it.

Imports inside functions count as well; those for the type checker alone do not.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import networkx as nx
import pytest

import nasneck

ROOT = Path(nasneck.__file__).parent

# A part may import from the rows above its own, and from itself. Parts of one row do not know each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "provenance", "resources", "functional", "fused", "convs", "containers", "report", "ranking"),
    ("settings", "decision", "device", "files", "evaluate", "bind"),
    ("trial", "graph", "data", "backbone", "slot"),
    ("necks", "draw", "detector", "strategy", "rows", "cells", "objective"),
    ("plan",),
    ("sizes", "inference"),
    ("space", "study", "trace", "neck"),
    ("emit",),
    ("lower",),
    ("compile", "cost", "export", "runner", "peers"),
    ("proxy",),
    ("experiment", "compare"),
    ("search_space",),
    ("workplace",),
    ("search",),
    ("targets",),
    ("comparison", "confirm"),
    ("cli",),
    ("__main__",),
)

# Seams: parts that see less than their row would allow, and this is all that they see.
ONLY: Mapping[str, frozenset[str]] = {
    name: frozenset(seen.split())
    for name, seen in {
        "graph": "errors settings",
        "necks": "errors settings graph",
        "draw": "errors graph",
        "space": "errors settings resources decision graph necks",
        "data": "errors settings",
        "backbone": "errors settings",
        "detector": "errors settings backbone",
        "strategy": "errors settings decision trial device",
        "study": "errors decision trial strategy",
        "runner": "errors decision device files trial strategy study",
        "report": "",
        "ranking": "",
        "compile": "errors settings graph cells lower neck",
        "proxy": "errors settings device evaluate trial graph data backbone slot objective necks detector neck"
        " compile cost decision space",
    }.items()
}

# What is imported in one place only, if at all; the package works without it as far as the test below says.
HOMES: Mapping[str, frozenset[str]] = {
    "timm": frozenset({"backbone.timm_models"}),
    "faster_coco_eval": frozenset({"evaluate"}),
    "typer": frozenset({"cli.main", "cli.commands"}),
    "rich": frozenset({"cli.display"}),
    "pandas": frozenset({"report", "study.frame"}),
    "click": frozenset(),  # typer's own affair
    "ray": frozenset({"runner.asha", "runner.cluster", "runner.tune", "runner.worker"}),
    "optuna": frozenset(f"strategy.optuna_{x}" for x in ("samplers", "strategy", "tools"))
    | {"study.optuna_export", "study.optuna_file"},
    "torch.utils.tensorboard": frozenset({"runner.board"}),
    "tensorboard": frozenset(),  # torch's affair
    "matplotlib": frozenset(),
    "scipy": frozenset(),
}


def sources(root: Path) -> dict[str, ast.Module]:
    """Module name inside the package (``graph.node``; ``graph`` for its ``__init__``) -> syntax tree."""
    found = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(tree: ast.AST) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Modules that run as ``tree`` is imported or used, each with the names that are taken from it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports(ast.Module(node.orelse, []))
        elif isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "no relative imports"
            yield node.module or "", tuple(alias.name for alias in node.names)
        else:
            yield from imports(node)


def edges(trees: Mapping[str, ast.Module]) -> set[tuple[str, str]]:
    """(module, module of ours that it imports)."""
    found = set()
    for name, tree in trees.items():
        for module, names in imports(tree):
            top, _, inner = module.partition(".")
            if top != "nasneck":
                continue
            # ``from package import x`` means the module x if there is one
            targets = [f"{inner}.{n}".strip(".") if f"{inner}.{n}".strip(".") in trees else inner for n in names]
            found |= {(name, target) for target in targets or [inner] if target != name}
    return found


def part(module: str) -> str:
    return module.partition(".")[0]


def wrong_directions(trees: Mapping[str, ast.Module]) -> list[str]:
    row = {name: i for i, names in enumerate(LAYERS) for name in names}
    wrong = []
    for name, target in sorted(edges(trees)):
        here, there = part(name), part(target)
        if not here or here == there:
            continue
        allowed = there in ONLY[here] if here in ONLY else row.get(there, len(row)) < row.get(here, -1)
        if not allowed or row.get(there, len(row)) >= row.get(here, -1):
            wrong.append(f"{name} imports {target or 'nasneck'}")
    return wrong


def strays(trees: Mapping[str, ast.Module]) -> list[str]:
    return sorted(
        f"{name} imports {package}"
        for name, tree in trees.items()
        for module, _ in imports(tree)
        for package, homes in HOMES.items()
        if f"{module}.".startswith(f"{package}.") and name not in homes
    )


TREES = sources(ROOT)


def with_line(name: str, line: str) -> dict[str, ast.Module]:
    """The package as it would be with one more line at the end of a module."""
    return {**TREES, name: ast.parse(ast.unparse(TREES[name]) + "\n" + line)}


def test_every_part_has_a_row() -> None:
    listed = [name for row in LAYERS for name in row]
    assert len(listed) == len(set(listed))
    assert set(listed) == {part(name) for name in TREES} - {""}


def test_imports_go_one_way() -> None:
    assert wrong_directions(TREES) == []


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        ("graph.node", "import nasneck.necks", "graph.node imports necks"),
        ("graph.node", "from nasneck import necks", "graph.node imports necks"),
        ("graph.node", "def f():\n    from nasneck.necks.fpn import fpn", "graph.node imports necks.fpn"),
        ("strategy.controller", "from nasneck.graph import NeckGraph", "strategy.controller imports graph"),
        ("necks.fpn", "from nasneck.draw import draw_text", "necks.fpn imports draw"),
        ("runner.in_process", "from nasneck.space import load_space", "runner.in_process imports space"),
        ("proxy.task", "from nasneck.study import Study", "proxy.task imports study"),
        ("errors", "import nasneck", "errors imports nasneck"),
    ],
)
def test_a_wrong_import_is_found(module: str, line: str, found: str) -> None:
    assert set(wrong_directions(with_line(module, line))) - set(wrong_directions(TREES)) == {found}


def test_imports_for_the_type_checker_do_not_count() -> None:
    line = "if TYPE_CHECKING:\n    from nasneck.necks import fpn"
    assert wrong_directions(with_line("graph.node", line)) == wrong_directions(TREES)
    assert wrong_directions(with_line("graph.node", f"{line}\nelse:\n    import nasneck.necks")) != []


def circles(trees: Mapping[str, ast.Module]) -> list[set[str]]:
    return [group for group in nx.strongly_connected_components(nx.DiGraph(edges(trees))) if len(group) > 1]


def test_no_circles_between_files() -> None:
    # NeckGraph.from_json reads with the schema, which makes a NeckGraph: inside the method.
    known = {"graph.neck_graph", "graph.schema"}
    assert circles(TREES) == [known]
    assert len(circles(with_line("settings", "import nasneck.errors\nimport nasneck.settings"))) == 1
    assert {"errors", "settings"} in circles(with_line("errors", "def f():\n    import nasneck.settings"))


def test_optional_packages_stay_at_home() -> None:
    assert strays(TREES) == []
    assert strays(with_line("proxy.task", "def f():\n    import ray.tune")) == ["proxy.task imports ray"]
    assert strays(with_line("compare", "from pandas import DataFrame")) == ["compare imports pandas"]
    line = "from torch.utils.tensorboard import SummaryWriter"
    assert strays(with_line("search", line)) == ["search imports torch.utils.tensorboard"]


# -- at run time -------------------------------------------------------------------------------------------


def run(code: str) -> subprocess.CompletedProcess[str]:
    args = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(args, capture_output=True, text=True, check=False)


WITHOUT_TORCH = ("graph", "necks", "space", "draw", "decision", "trial", "settings", "rows", "report", "study")
WITHOUT_TORCH += ("cli", "cli.status", "cli.status_text", "targets")


def test_what_does_not_need_torch() -> None:
    """Describing necks is quick, and possible where torch is not installed."""
    lines = "".join(f"import nasneck.{name}\n" for name in WITHOUT_TORCH)
    use = "import nasneck\nprint(nasneck.load_space('nas_fpn').decode((0,) * 20).key() and nasneck.necks.fpn().name)\n"
    ended = run(f"import sys\nsys.modules['torch'] = None\n{lines}{use}")
    assert (ended.returncode, ended.stdout) == (0, "fpn\n"), ended.stderr


def test_what_does_need_torch_is_told_apart() -> None:
    ended = run("import sys\nsys.modules['torch'] = None\nimport nasneck\nnasneck.compile_neck")
    assert ended.returncode == 1 and "torch" in ended.stderr


def test_names_of_the_package() -> None:
    for name in ("Edge", "NeckGraph", "Node", "SearchSpace", "compile_neck", "load_space", "necks"):
        assert name in dir(nasneck)
        assert getattr(nasneck, name) is not None
    assert nasneck.necks.fpn is nasneck.necks.NECKS["fpn"]
    with pytest.raises(AttributeError, match="module 'nasneck' has no attribute 'compile_nek'"):
        nasneck.compile_nek  # noqa: B018  (the access is what is tested)


# Needed by no search: what the command line, reports, and other runners and strategies use.
BLOCKED = ("ray", "optuna", "matplotlib", "pandas", "typer", "click", "rich", "timm", "scipy", "pydantic")
BLOCKED += ("tensorboard", "faster_coco_eval")

SEARCH = """\
import sys
sys.modules.update(dict.fromkeys({blocked!r}))
import torch
torch.set_num_threads(1)
from nasneck.experiment import experiment_from_dict
from nasneck.search import search
train = dict(steps=1, batch_size=2)
proxy = dict(canvas=64, amp="off", backbone=dict(width=8), augment=dict(views=1), train=train, backbone_train=train)
table = dict(
    schema="nasneck.experiment/1",
    data=dict(root="{root}/shapes", shapes=dict(images=10, size=80)),
    neck=dict(channels=8),
    space=dict(name="nas_fpn", repeats=1),
    proxy=proxy,
    strategy=dict(name="controller"),
    search=dict(trials=1),
)
result = search(experiment_from_dict(table, where="here"), "{root}/q")
print(result.summary.measured, result.graph is not None)
"""


def test_a_search_needs_nothing_optional(tmp_path: Path) -> None:
    ended = run(SEARCH.format(blocked=BLOCKED, root=tmp_path))
    assert (ended.returncode, ended.stdout) == (0, "1 True\n"), ended.stderr
    assert (tmp_path / "q/trials.csv").exists()


def test_what_is_needed_is_missed(tmp_path: Path) -> None:
    """The test above would see an import of what is blocked."""
    ended = run(SEARCH.format(blocked=(*BLOCKED, "torchvision"), root=tmp_path))
    assert ended.returncode == 1 and "torchvision" in ended.stderr
