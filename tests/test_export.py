"""Exported necks: they need torch alone, load the state_dict, and give the same bits."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from nasneck import NeckGraph, Node, compile_neck, load_space, necks
from nasneck.errors import CompileError
from nasneck.export import neck_source
from nasneck.graph import Edge, Norm, PixelWeighted, SqueezeExcite, input_node
from nasneck.neck import Neck

WIDTHS = {3: 8, 4: 12, 5: 16}
SPACE = load_space("nas_fpn", repeats=2)

GRAPHS = {
    "fpn": necks.fpn(),
    "fpn_pool_norm": necks.fpn(levels=(3, 6), extra="pool", norm=True),
    "panet": necks.panet(),
    "bifpn": necks.bifpn(repeats=2),
    "bifpn_same_softmax": necks.bifpn(repeats=1, padding="same", fusion="softmax"),
    "nas_fpn": necks.nas_fpn(repeats=2),
    "nas_fpn_mmdet": necks.nas_fpn(repeats=1, dialect="mmdet"),
    "carafe": necks.carafe_fpn(compressed=4),
    "libra": necks.libra(),
    "mlfpn": necks.mlfpn((3, 5), (3, 6), tums=2, sfam=True, valid=False),
    "nas_fcos": necks.nas_fcos(),
    "mnasfpn": necks.mnasfpn(repeats=1),
    "searched": SPACE.decode(SPACE.sample(random.Random(7))),
    "asff": NeckGraph(
        [
            input_node(3),
            input_node(4),
            input_node(5),
            *(Node(f"p{i}", i, "sum", (Edge(f"c{i}", ("project",)),)) for i in (3, 4, 5)),
            Node("mix", 4, PixelWeighted(squeeze=4), ("p3", "p4", "p5"), (SqueezeExcite("input/4"), "conv")),
            Node("again", 4, "max", (Edge("mix", ("conv", Norm())), Edge("p4", ())), shares=None),
        ],
        outputs={4: "again"},
        name="asff",
    ),
}


def load(source: str, folder: Path) -> nn.Module:
    path = folder / "exported.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("exported", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Neck()


def features(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {3: (19, 27), 4: (10, 14), 5: (5, 7)}
    return [torch.randn(2, WIDTHS[level], *size, generator=generator) for level, size in sizes.items()]


@pytest.mark.parametrize("norm", ["batch", "group", "frozen"])
@pytest.mark.parametrize("name", GRAPHS)
def test_same_state_dict_and_same_bits(name: str, norm: str, tmp_path: Path) -> None:
    neck = compile_neck(GRAPHS[name], WIDTHS, 8, norm=norm)  # type: ignore[arg-type]
    exported = load(neck_source(neck), tmp_path)
    exported.load_state_dict(neck.state_dict())
    assert {name: type(m).__name__ for name, m in exported.body.named_modules() if name} == {  # type: ignore[union-attr]
        name: type(m).__name__ for name, m in neck.body.named_modules() if name
    }
    for train in (False, True):
        neck.train(train), exported.train(train)
        ours, theirs = neck(features()), exported(features())
        assert len(ours) == len(theirs) == len(neck.out_channels)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert [p.requires_grad for p in exported.parameters()].count(False) == [
        p.requires_grad for p in neck.parameters()
    ].count(False)
    assert exported.out_channels == neck.out_channels


def test_mapping_keeps_names(tmp_path: Path) -> None:
    neck = compile_neck(GRAPHS["fpn_pool_norm"], WIDTHS, 8)
    exported = load(neck_source(neck), tmp_path)
    given = OrderedDict(zip(["0", "1", "2"], features(), strict=True))
    assert list(exported(given)) == list(neck(given)) == ["0", "1", "2", "pool"]


def test_needs_torch_alone(tmp_path: Path) -> None:
    source = neck_source(compile_neck(GRAPHS["bifpn"], WIDTHS, 8), comment="Found on a Tuesday.")
    assert "Found on a Tuesday." in source
    (tmp_path / "exported.py").write_text(source)
    code = (
        "import sys; sys.modules.update(nasneck=None, torchvision=None, networkx=None)\n"
        "import torch, exported\n"
        "neck = exported.Neck().eval()\n"
        "outs = neck(tuple(torch.zeros(1, c, s, s) for c, s in ((8, 16), (12, 8), (16, 4))))\n"
        "print(type(outs).__name__, [tuple(o.shape) for o in outs])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("tuple [(1, 8, 16, 16), (1, 8, 8, 8)")


def test_initial_weights_have_the_same_spread(tmp_path: Path) -> None:
    """An exported neck is trained by the user, so it must start as ours does, not as torch's defaults."""
    neck = compile_neck(GRAPHS["bifpn"], {3: 64, 4: 64, 5: 64}, 32)
    exported = load(neck_source(neck), tmp_path)
    ours = dict(neck.named_parameters())
    for name, theirs in exported.named_parameters():
        if name.endswith("pointwise.weight"):
            bound = (6 / (32 + 32)) ** 0.5  # Xavier uniform of a 1x1 convolution from 32 to 32 channels
            assert theirs.abs().max() <= bound and theirs.abs().max() > 0.9 * bound
        assert theirs.shape == ours[name].shape


def test_weight_sharing_is_kept(tmp_path: Path) -> None:
    nodes = [
        input_node(3),
        Node("a", 3, "sum", (Edge("c3", ("project",)),)),
        Node("b", 3, "sum", ("a",), ("conv", Norm())),
        Node("c", 3, "sum", ("b",), ("conv", Norm()), shares="b"),
    ]
    neck = compile_neck(NeckGraph(nodes, outputs={3: "c"}), [8], 8)
    exported = load(neck_source(neck), tmp_path)
    exported.load_state_dict(neck.state_dict())
    assert sum(p.numel() for p in exported.parameters()) == sum(p.numel() for p in neck.parameters())
    x = [features()[0]]
    assert torch.equal(exported(x)[0], neck(x)[0])


def test_refuses_what_it_cannot_write() -> None:
    neck = compile_neck(GRAPHS["fpn"], WIDTHS, 8)
    neck.body.p3.conv = nn.ConvTranspose2d(8, 8, 3)  # type: ignore[union-attr]
    with pytest.raises(CompileError, match=r"cannot export 'p3\.conv': .*ConvTranspose2d"):
        neck_source(neck)
    graph = GRAPHS["fpn"]
    aux: Neck = compile_neck(NeckGraph(graph.nodes, outputs=graph.outputs, aux=("td3",)), WIDTHS, 8, aux=True)
    with pytest.raises(CompileError, match="auxiliary outputs"):
        neck_source(aux)
