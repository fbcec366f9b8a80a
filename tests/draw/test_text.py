"""Graphs as text."""

from __future__ import annotations

import pytest

from nasneck import necks
from nasneck.draw import draw_text
from nasneck.graph import NeckGraph

from .graphs import DRAWN, everything

FPN = """\
fpn: C3-5 -> P3-7, 11 nodes, key {key}

backbone
  C3  c3
  C4  c4
  C5  c5

neck
  P5  td5 = conv1x1(c5)
  P4  td4 = conv1x1(c4) + up2(td5)
  P3  td3 = conv1x1(c3) + up2(td4)
  P3  p3  = td3 -> conv3x3
  P4  p4  = td4 -> conv3x3
  P5  p5  = td5 -> conv3x3
  P6  p6  = conv3x3/2(p5)
  P7  p7  = conv3x3/2(relu(p6))

outputs: P3 = p3, P4 = p4, P5 = p5, P6 = p6, P7 = p7
"""


def test_fpn() -> None:
    graph = necks.fpn()
    assert draw_text(graph) == FPN.format(key=graph.key())


def test_cells_of_the_published_network() -> None:
    text = draw_text(necks.nas_fpn(repeats=1))
    for line in (
        "  P6  p6          = down2(p5)",
        "  P4  r0_mid0     = attention(p4, gate up4(p6)) -> relu, conv3x3, norm",
        "  P5  r0_p5_merge = attention(down4(r0_p3), gate down2(r0_p4))",
        "  P5  r0_p5       = r0_p5_merge + p5 -> relu, conv3x3, norm",
        "project: conv1x1 + norm, only where the width changes",
    ):
        assert line in text.splitlines()


def test_repeats_are_written_once_unless_asked() -> None:
    graph = necks.nas_fpn(repeats=3)
    once, all_of_them = draw_text(graph), draw_text(graph, all_repeats=True)
    assert "repeat 1 of 3" in once and "x 3: all repeats are wired alike" in once
    assert "r1_mid0" not in once and "outputs: P3 = r2_p3" in once
    assert "repeat 3 of 3" in all_of_them and "r2_mid0" in all_of_them


def test_bifpn_pools_after_projecting() -> None:
    text = draw_text(necks.bifpn(repeats=1))
    assert "p6       = maxpool3x3/2(project(c5))" in text
    assert "fast_normalized(p7, maxpool3x3/2(r0_p6)) -> silu, sepconv3x3, norm" in text


def test_everything() -> None:
    lines = draw_text(everything()).splitlines()
    text = "\n".join(lines)
    assert lines[0].startswith('a <b> & "c": C2-5 -> P3-5, ')
    assert "auxiliary outputs: twin, context, m" in lines
    assert "[weights of p5]" in text and "= max(lat3, s)  [no output reads it]" in text
    assert "conv1x1(globalavg(lat5)) -> relu" in text
    assert "= gate(cat, gate context)" in text


@pytest.mark.parametrize(
    ("graph", "line"),
    [
        (necks.carafe_fpn(), "  P6  td6  = lat6 + carafe_up2(lat7)"),
        (necks.libra(), "  P5  n2_balanced = mean(max_down4(p3), max_down2(p4), p5, up2(p6), up4(p7)) -> nonlocal"),
        (necks.mlfpn(tums=1, sfam=True), "  P3  joined3 = t0_p3 -> se"),
        (necks.mlfpn(tums=1), "  P8  t0_e8   = relu(norm(conv3x3_valid(t0_e7)))"),
        (necks.nas_fcos(), "  P5  f5   = concat(relu(norm(conv3x3(f3))), a5) -> norm, relu, grpconv1x1"),
        (necks.yolox_pafpn(), "  P4  td4_main   = td4_in -> conv1x1[c4*0.5], norm, silu"),
        (necks.asff(), "project: conv1x1 + norm + leaky_relu, only where the width changes"),
        (necks.hrfpn(), "  P6  size6  = maxpool1x1/2(c5)  [only its size is read]"),
        (necks.hrfpn(), "  P6  p6     = avgpool8x8/8(joined) -> conv3x3"),
        (necks.spinenet(), "  P7  b13        = b13_body + b13_in -> relu"),
    ],
)
def test_words_of_the_necks(graph: NeckGraph, line: str) -> None:
    assert line in draw_text(graph).splitlines()


def test_a_title() -> None:
    assert draw_text(necks.fpn(), title="mine").startswith("mine: C3-5 -> P3-7, ")


@pytest.mark.parametrize("graph", [*DRAWN.values(), everything()], ids=[*DRAWN, "everything"])
def test_every_node_has_its_line_and_lines_fit(graph: NeckGraph) -> None:
    text = draw_text(graph, all_repeats=True)
    assert all(len(line) <= 110 for line in text.splitlines())
    heads = [line.split() for line in text.splitlines() if line.startswith("  ") and line[2] != " "]
    assert [head[1] for head in heads] == [node.name for node in graph.nodes]
    wanted = ["off" if n.level is None else f"{'P' if n.inputs else 'C'}{n.level}" for n in graph.nodes]
    assert [head[0] for head in heads] == wanted
    assert text == draw_text(graph, all_repeats=True)
