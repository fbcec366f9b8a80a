"""Every neck against a second implementation, plain torch modules with the public state dict layouts.

The weights go from there into ours by name, through ``load_peer_state`` where there is such a source. In double
precision: outputs and auxiliary outputs, the gradients of all inputs and weights, and running statistics, in
training and in evaluation mode.
"""

from __future__ import annotations

import re

import pytest
import torch
from plain_cases import CASES, WIDTHS, Case
from torch import Tensor, nn

from nasneck.compile import compile_neck
from nasneck.neck import Neck
from nasneck.peers import load_peer_state, peer_state


@pytest.mark.parametrize("name", CASES)
def test_equal(name: str) -> None:
    case = CASES[name]
    ours, theirs, names, shapes = build(case)
    draw = torch.Generator().manual_seed(7)
    features = [torch.randn(shape, dtype=torch.float64, generator=draw) for shape in shapes]
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        got, got_grads = run(ours, features)
        want, want_grads = run(theirs, features)
        assert len(got) == len(want) and all(out.requires_grad for out in got)
        for ours_out, theirs_out in zip(got, want, strict=True):
            close(ours_out, theirs_out)
        for ours_grad, theirs_grad in zip(got_grads, want_grads, strict=True):
            close(ours_grad, theirs_grad)
        gradients = {key: p.grad for key, p in ours.body.named_parameters()}
        for key, parameter in theirs.named_parameters():
            if parameter.grad is None:
                assert gradients[names[key]] is None, key
            else:
                close(gradients[names[key]], parameter.grad, key)
    state, buffers = ours.body.state_dict(), dict(theirs.named_buffers())
    for key, value in buffers.items():
        close(state[names[key]], value, key)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.source is not None])
def test_weights_go_there_and_back(name: str) -> None:
    case = CASES[name]
    ours, theirs, _, _ = build(case)
    given = theirs.state_dict()
    back = peer_state(ours, case.source)
    assert set(back) == set(given)
    assert all(torch.equal(back[key], value) for key, value in given.items())


def build(case: Case) -> tuple[Neck, nn.Module, dict[str, str], list[tuple[int, ...]]]:
    """Both, with equal random weights; our name of each of theirs; shapes of the features."""
    torch.manual_seed(11)
    widths = {level: case.widths.get(level, WIDTHS[level]) for level in case.ours.input_levels}
    theirs = case.theirs(list(widths.values()), case.channels).double()
    for key, value in theirs.state_dict().items():
        if not value.is_floating_point():
            continue
        if "var" in key:
            nn.init.uniform_(value, 0.5, 2.0)
        elif "norm" in key or "bn" in key or "Norm" in key:
            nn.init.normal_(value, mean=1.0 if key.endswith("weight") else 0.0, std=0.3)
        else:
            fan = max(1, value[0].numel())
            nn.init.normal_(value, std=fan**-0.5)
    ours = compile_neck(case.ours, widths, case.channels, aux=bool(case.ours.aux)).double()
    if case.source is not None:
        load_peer_state(ours, theirs.state_dict(), case.source)
        names = their_names(ours, case.source)
    else:
        pairs = {"mnasfpn": mnasfpn_names, "spinenet": spinenet_names}[case.ours.name](ours)
        state = theirs.state_dict()
        ours.body.load_state_dict({mine: state[other] for mine, other in pairs.items()})
        assert len(set(pairs.values())) == len(state)
        names = {other: mine for mine, other in pairs.items()}
    height, width = case.size
    shapes = [(2, c, -(-height // 2**level), -(-width // 2**level)) for level, c in widths.items()]
    return ours, theirs, names, shapes


def their_names(neck: Neck, source: str) -> dict[str, str]:
    """Their key -> ours, found by marking every tensor of ours with a number."""
    marked = {key: torch.full_like(v, i) for i, (key, v) in enumerate(neck.body.state_dict().items())}
    before = {key: value.clone() for key, value in neck.body.state_dict().items()}
    neck.body.load_state_dict(marked)
    keys = list(marked)
    found = {theirs: keys[int(value.flatten()[0])] for theirs, value in peer_state(neck, source).items()}
    neck.body.load_state_dict(before)
    return found


def run(module: nn.Module, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, auxiliary ones last, and the gradients of the features; those of the weights are left on them."""
    leaves = [x.clone().requires_grad_() for x in features]
    module.zero_grad()
    outs = module(leaves)
    if isinstance(outs[0], list | tuple):
        outs = [*outs[0], *outs[1]]
    draw = torch.Generator().manual_seed(8)
    loss = sum((out * torch.randn(out.shape, dtype=out.dtype, generator=draw)).sum() for out in outs)
    assert isinstance(loss, Tensor)
    loss.backward()
    return list(outs), [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]


def close(got: Tensor | None, want: Tensor, what: str = "") -> None:
    assert got is not None, what
    scale = max(1.0, float(want.detach().abs().max()))  # a bias before a norm has no gradient but noise
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9 * scale, msg=lambda text: f"{what}: {text}")


def mnasfpn_names(neck: Neck) -> dict[str, str]:
    """Our keys beside those of ``plain.mnasfpn``."""
    order = ("mid", "p3", "p4", "p5", "p6")
    found = {}
    for key in neck.body.state_dict():
        node, rest = key.split(".", 1)
        if node == "p6":
            found[key] = rest.replace("from_c5", "c6")
            continue
        repeat, short = node.removesuffix("_cell")[1:].split("_")
        base = f"cells.{repeat}.{order.index(short)}"
        if rest.startswith("from_"):
            rest = f"inputs.{place(neck, node, rest)}.{rest.split('.', 1)[1]}"
        found[key] = f"{base}.{rest.removeprefix('conv.')}"
    return found


def spinenet_names(neck: Neck) -> dict[str, str]:
    """Our keys beside those of ``plain.spinenet``."""
    keys = list(neck.body.state_dict())
    names = {node.name for node in neck.graph.nodes}
    found = {}
    for key in keys:
        node, rest = key.split(".", 1)
        match = re.fullmatch(r"(stem|b|p)(\d+)(_in)?(?:_(\d+))?(_body)?", node)
        assert match is not None, node
        kind, number, joins, repeat, body = match.groups()
        base = {"stem": f"stem.{number}", "b": f"blocks.{number}", "p": f"endpoints.{number}"}[kind]
        # the last of several blocks has the plain name
        last = sum(f"{kind}{number}_{i}" in names for i in range(9))
        which = last if repeat is None else int(repeat)
        op, nth, leaf = re.findall(r"(conv|norm)(?:_(\d))?\.(\w+)$", rest)[0]
        if kind == "p":
            found[key] = f"{base}.{op}.{leaf}"
        elif joins:
            edge = rest.split(".")[0]
            convs = {other for other in keys if other.startswith(f"{node}.{edge}.conv")}
            units = ["reduce", "expand"] if len(convs) == 2 else ["reduce", "down", "expand"]
            found[key] = f"{base}.inputs.{place(neck, node, rest)}.{units[int(nth or 1) - 1]}.{op}.{leaf}"
        else:
            unit = f"{base}.more.{which - 1}" if which else base
            part = f"{op}{nth or 1}" if body else {"conv": "shortcut", "norm": "shortcut_norm"}[op]
            found[key] = f"{unit}.{part}.{leaf}"
    return found


def place(neck: Neck, node: str, rest: str) -> int:
    """Which input of ``node`` the edge at the beginning of ``rest`` is."""
    source = rest.split(".")[0].removeprefix("from_")
    return [edge.source for edge in neck.graph[node].inputs].index(source)
