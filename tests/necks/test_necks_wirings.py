"""The fixed necks' wirings against what was published, written out by hand."""

from __future__ import annotations

import pytest

from nasneck import necks
from nasneck.errors import GraphError
from nasneck.graph import Act, Attention, Conv, Edge, FastNormalized, NeckGraph, Norm, Pool, Project, Resample, Sum

LATERAL = (Project(),)


def up(to: str) -> tuple[Resample, ...]:
    return (Resample("auto", to=to),)


def wiring(graph: NeckGraph) -> dict[str, tuple]:
    """Name -> level, inputs with what happens on the way, layers."""
    return {
        node.name: (node.level, {edge.source: edge.ops for edge in node.inputs}, node.layers)
        for node in graph.nodes
        if node.inputs
    }


def sources(graph: NeckGraph, name: str) -> list[str]:
    return [edge.source for edge in graph[name].inputs]


# -- FPN ---------------------------------------------------------------------------------------------


def test_fpn_3_to_7():
    graph = necks.fpn()
    assert wiring(graph) == {
        "td5": (5, {"c5": LATERAL}, ()),
        "td4": (4, {"c4": LATERAL, "td5": up("c4")}, ()),
        "td3": (3, {"c3": LATERAL, "td4": up("c3")}, ()),
        "p3": (3, {"td3": ()}, (Conv(3),)),
        "p4": (4, {"td4": ()}, (Conv(3),)),
        "p5": (5, {"td5": ()}, (Conv(3),)),
        "p6": (6, {"p5": (Conv(3, stride=2),)}, ()),
        "p7": (7, {"p6": (Act("relu"), Conv(3, stride=2))}, ()),
    }
    assert dict(graph.outputs) == {3: "p3", 4: "p4", 5: "p5", 6: "p6", 7: "p7"}
    assert all(isinstance(graph[name].op, Sum) for name in wiring(graph))


def test_fpn_2_to_6_pooled():
    graph = necks.fpn((2, 5), (2, 6), extra="pool")
    assert wiring(graph) == {
        "td5": (5, {"c5": LATERAL}, ()),
        "td4": (4, {"c4": LATERAL, "td5": up("c4")}, ()),
        "td3": (3, {"c3": LATERAL, "td4": up("c3")}, ()),
        "td2": (2, {"c2": LATERAL, "td3": up("c2")}, ()),
        "p2": (2, {"td2": ()}, (Conv(3),)),
        "p3": (3, {"td3": ()}, (Conv(3),)),
        "p4": (4, {"td4": ()}, (Conv(3),)),
        "p5": (5, {"td5": ()}, (Conv(3),)),
        "pool": (6, {"p5": (Pool("max", kernel=1, stride=2, padding=0),)}, ()),
    }


@pytest.mark.parametrize(("extra", "source"), [("output", "p5"), ("input", "c5"), ("lateral", "td5"), ("pool", "p5")])
def test_fpn_where_the_extra_levels_come_from(extra, source):
    graph = necks.fpn(extra=extra)
    assert sources(graph, "p6") == [source] and sources(graph, "p7") == ["p6"]


def test_fpn_without_relu_and_with_norm():
    plain = necks.fpn(extra_relu=False)
    assert plain["p7"].inputs[0].ops == (Conv(3, stride=2),)
    normed = necks.fpn((3, 5), (3, 5), norm=True)
    assert normed["td5"].inputs[0].ops == (Project(bias=False, norm=Norm()),)
    assert normed["p5"].layers == (Conv(3, bias=False), Norm())


# -- PANet -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("feed", "below"), [("out", "p4"), ("sum", "bu4")])
def test_panet_3_to_7(feed, below):
    graph = necks.panet(feed=feed)

    def down(to: str) -> tuple:
        return Conv(3, stride=2), Resample("nearest", to=to)

    assert wiring(graph) == {
        "td5": (5, {"c5": LATERAL}, ()),
        "td4": (4, {"c4": LATERAL, "td5": up("c4")}, ()),
        "td3": (3, {"c3": LATERAL, "td4": up("c3")}, ()),
        "fpn3": (3, {"td3": ()}, (Conv(3),)),
        "fpn4": (4, {"td4": ()}, (Conv(3),)),
        "fpn5": (5, {"td5": ()}, (Conv(3),)),
        "p3": (3, {"fpn3": ()}, ()),
        "bu4": (4, {"fpn4": (), "p3": down("c4")}, ()),
        "p4": (4, {"bu4": ()}, (Conv(3),)),
        "bu5": (5, {"fpn5": (), below: down("c5")}, ()),
        "p5": (5, {"bu5": ()}, (Conv(3),)),
        "p6": (6, {"p5": (Conv(3, stride=2),)}, ()),
        "p7": (7, {"p6": (Act("relu"), Conv(3, stride=2))}, ()),
    }
    assert dict(graph.outputs) == {level: f"p{level}" for level in range(3, 8)}


def test_panet_2_to_6_pooled():
    graph = necks.panet((2, 5), (2, 6), extra="pool")
    assert [name for name in wiring(graph) if name.startswith("bu")] == ["bu3", "bu4", "bu5"]
    assert sources(graph, "p2") == ["fpn2"] and sources(graph, "bu3") == ["fpn3", "p2"]
    assert sources(graph, "pool") == ["p5"] and graph.outputs[6] == "pool"


# -- BiFPN -------------------------------------------------------------------------------------------

# id: level <- ids, the inputs being 0, 1, ... from the finest level up (google/automl and effdet)
BIFPN = {
    (3, 7): [
        (6, [3, 4]),
        (5, [2, 5]),
        (4, [1, 6]),
        (3, [0, 7]),
        (4, [1, 7, 8]),
        (5, [2, 6, 9]),
        (6, [3, 5, 10]),
        (7, [4, 11]),
    ],
    (2, 6): [
        (5, [3, 4]),
        (4, [2, 5]),
        (3, [1, 6]),
        (2, [0, 7]),
        (3, [1, 7, 8]),
        (4, [2, 6, 9]),
        (5, [3, 5, 10]),
        (6, [4, 11]),
    ],
    (3, 5): [(4, [1, 2]), (3, [0, 3]), (4, [1, 3, 4]), (5, [2, 5])],
    (3, 4): [(3, [0, 1]), (4, [1, 2])],
}


@pytest.mark.parametrize("levels", BIFPN)
def test_bifpn_has_the_published_nodes(levels):
    inputs = (2, 5) if levels[0] == 2 else (3, 5)
    graph = necks.bifpn(inputs, levels, repeats=3)
    current = [f"c{level}" if level <= 5 else f"p{level}" for level in range(levels[0], levels[1] + 1)]
    for repeat in range(3):
        ids = list(current)
        nodes = [node for node in graph.nodes if node.name.startswith(f"r{repeat}_")]
        found = []
        for node in nodes:
            found.append((node.level, [ids.index(edge.source) for edge in node.inputs]))
            ids.append(node.name)
        assert found == BIFPN[levels]
        current = [node.name for node in nodes[-len(current) :]]
    assert list(graph.outputs.values()) == current
    cells = [node for node in graph.nodes if node.name.startswith("r")]
    assert {node.op for node in cells} == {FastNormalized(1e-4)}
    norm = Norm(eps=1e-3, momentum=0.01)
    assert {node.layers for node in cells} == {(Act("silu"), Conv(3, separable=True, bias=False, init="glorot"), norm)}


def test_bifpn_edges():
    graph = necks.bifpn(repeats=2)
    project = Project(bias=False, norm=Norm(eps=1e-3, momentum=0.01), when="if_different", init="glorot")
    pool = Pool("max", kernel=3, stride=2, padding=1)
    assert graph["p6"].inputs == (Edge("c5", (project, pool)),)
    assert graph["p7"].inputs == (Edge("p6", (pool,)),)
    assert graph["r0_p5_td"].inputs == (Edge("c5", (project,)), Edge("r0_p6_td", (Resample("nearest", to="c5"),)))
    assert graph["r0_p5"].inputs == (
        Edge("c5", (project,)),
        Edge("r0_p5_td", ()),
        Edge("r0_p4", (pool, Resample("nearest", to="c5"))),
    )
    assert graph["r1_p5"].inputs[0] == Edge("r0_p5", ())
    same = necks.bifpn(padding="same", bias=True, fusion="softmax", separable=False)
    assert same["p7"].inputs[0].ops == (Pool("max", kernel=3, stride=2, padding="same"),)
    assert same["p6"].inputs[0].ops[0].bias and same["r0_p3"].layers[1] == Conv(3, init="glorot")


# -- NAS-FPN -----------------------------------------------------------------------------------------

# id, level, op, the two inputs, loose maps added; ids 0..4 are P3..P7
NAS_FPN = [
    (5, 4, "attention", [1, 3], []),
    (6, 4, "sum", [1, 5], []),
    (7, 3, "sum", [0, 6], []),
    (8, 4, "sum", [6, 7], []),
    (9, 5, "attention", [7, 8], [2]),
    (10, 7, "attention", [6, 9], [4]),
    (11, 6, "attention", [9, 10], []),
]


@pytest.mark.parametrize("finest", [3, 2])
@pytest.mark.parametrize("dialect", ["reference", "mmdet"])
def test_nas_fpn_has_the_published_cells(finest, dialect):
    graph = necks.nas_fpn((finest, 5), (finest, finest + 4), repeats=2, dialect=dialect)
    shift = finest - 3
    attention = Attention() if dialect == "reference" else Attention("finer", "avg")
    current = [f"p{level}" for level in range(finest, finest + 5)]
    for repeat in range(2):
        ids = list(current)
        outputs = {}
        cells = [n for n in graph.nodes if n.name.startswith(f"r{repeat}_") and n.layers]
        for cell, (number, level, op, pair, loose) in zip(cells, NAS_FPN, strict=True):
            assert cell.level == level + shift
            assert [type(layer).__name__ for layer in cell.layers] == ["Act", "Conv", "Norm"]
            fusion = cell
            if loose and op == "attention":
                assert isinstance(cell.op, Sum)
                merge, *added = (edge.source for edge in cell.inputs)
                assert added == [ids[i] for i in loose] and not graph[merge].layers
                fusion = graph[merge]
                assert fusion.level == cell.level
            assert fusion.op == (attention if op == "attention" else Sum())
            assert [edge.source for edge in fusion.inputs] == [ids[i] for i in pair]
            ids.append(cell.name)
            if number >= 7:
                outputs[cell.level] = cell.name
        current = [outputs[level] for level in sorted(outputs)]
    assert list(graph.outputs.values()) == current
    assert len([n for n in graph.nodes if n.name.startswith("r")]) == 2 * 9


def test_nas_fpn_layers_and_inputs():
    graph = necks.nas_fpn(repeats=1)
    norm = Norm(eps=1e-3, momentum=0.01)
    assert graph["r0_p3"].layers == (Act("relu"), Conv(3), norm)
    assert graph["p5"].inputs == (Edge("c5", (Project(bias=False, norm=norm, when="if_different"),)),)
    assert graph["p6"].inputs == (Edge("p5", (Resample("auto"),)),)
    assert graph["p7"].inputs == (Edge("p6", (Resample("auto"),)),)
    c5 = necks.nas_fpn(repeats=1, extra_from="c5")
    assert [edge.source for name in ("p6", "p7") for edge in c5[name].inputs] == ["c5", "c5"]
    assert c5["p6"].inputs[0].ops[0] == Resample("auto") and isinstance(c5["p7"].inputs[0].ops[1], Project)
    mmdet = necks.nas_fpn(repeats=1, dialect="mmdet")
    assert mmdet["r0_p3"].layers == (Act("relu"), Conv(3), Norm())
    assert mmdet["p6"].inputs[0].ops == (Project(bias=False, norm=Norm()), Pool("max", 2, 2, 0, ceil=True))
    assert necks.nas_fpn(separable=True, bias=False)["r0_p3"].layers[1] == Conv(3, separable=True, bias=False)


# -- all of them -------------------------------------------------------------------------------------


# Levels with features that a neck needs, where that is more than two.
NEED = {"nas_fcos": 3, "opanas": 3, "mnasfpn": 3}


@pytest.mark.parametrize("name", sorted(set(necks.NECKS) - {"spinenet"}))
@pytest.mark.parametrize(
    ("inputs", "levels"),
    [
        ((3, 5), (3, 7)),
        ((2, 5), (2, 6)),
        ((2, 5), (3, 7)),
        ((3, 6), (3, 7)),
        ((3, 7), (3, 7)),
        ((2, 4), (3, 7)),
        ((1, 3), (1, 5)),
        ((3, 8), (3, 7)),
    ],
)
def test_any_levels(name, inputs, levels):
    if inputs[1] - levels[0] + 1 < NEED.get(name, 1):
        with pytest.raises(
            GraphError, match=f"^{name}: .*needs features on {NEED[name]} levels .C3..C5., and has C2..C4"
        ):
            necks.NECKS[name](inputs=inputs, levels=levels)
        return
    graph = necks.NECKS[name](inputs=inputs, levels=levels)
    assert graph.input_levels == tuple(range(inputs[0], inputs[1] + 1))
    assert graph.output_levels == tuple(range(levels[0], levels[1] + 1))
    assert graph.name == ("bifpn" if name == "efficientdet" else name)


def test_necks_in_a_chain():
    twice = necks.chain(necks.chain(necks.fpn(), necks.bfp()), necks.bfp(), necks.bifpn((3, 7)))
    assert twice.name == "fpn_bfp_bfp_bifpn" and "n2_balanced" in twice and "n3_balanced" in twice
    assert [edge.source for edge in twice["n3_balanced"].inputs] == [f"n2_p{level}" for level in range(3, 8)]
    assert dict(twice.outputs) == {level: f"n4_r2_p{level}" for level in range(3, 8)}
    assert necks.chain(necks.libra(), necks.bfp(), name="mine").name == "mine"
    laterals = necks.chain(necks.augfpn(), necks.augfpn((3, 7))).aux
    assert laterals == ("lat3", "lat4", "lat5", *(f"n2_lat{level}" for level in range(3, 8)))


@pytest.mark.parametrize("name", ["fpn", "panet", "bifpn"])
@pytest.mark.parametrize("levels", [(3, 4), (3, 5), (4, 5), (4, 9)])
def test_fewer_and_more_levels(name, levels):
    assert necks.NECKS[name]((3, 5), levels).output_levels == tuple(range(levels[0], levels[1] + 1))


@pytest.mark.parametrize("name", ["bifpn", "nas_fpn"])
def test_repeats_add_the_same_cells_again(name):
    sizes = [len(necks.NECKS[name](repeats=n)) for n in (1, 2, 5)]
    assert sizes[2] - sizes[1] == 3 * (sizes[1] - sizes[0]) > 0


@pytest.mark.parametrize("name", sorted(set(necks.NECKS) - {"spinenet"}))
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"inputs": (3, 5), "levels": (2, 6)},
            r"its finest level P2 has no features: the backbone gives C3..C5",
        ),
        ({"inputs": (3, 5), "levels": (6, 10)}, "finest level P6 has no features"),
        ({"inputs": (5, 3)}, r"inputs=\(5, 3\) is not a first and a last level, such as \(3, 5\)"),
        ({"levels": (3,)}, r"levels=\(3,\) is not a first and a last level"),
        ({"levels": "37"}, "levels='37' is not a first and a last level"),
    ],
)
def test_levels_that_make_no_neck(name, options, message):
    with pytest.raises(GraphError, match=message):
        necks.NECKS[name](**options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: necks.fpn(extra="top"), "extra='top' is not one of 'output', 'input', 'lateral', 'pool'"),
        (lambda: necks.panet(feed="in"), "panet: feed='in' is not one of 'out', 'sum'"),
        (lambda: necks.bifpn(repeats=0), "repeats=0 is not a whole number of at least 1"),
        (lambda: necks.bifpn(fusion="max"), "bifpn: fusion='max' is not one of 'fast_normalized', 'softmax', 'sum'"),
        (lambda: necks.bifpn(padding="valid"), "padding='valid' is not"),
        (lambda: necks.bifpn((3, 5), (3, 3)), "bifpn: its paths need at least two levels, not P3 alone"),
        (lambda: necks.nas_fpn(levels=(3, 6)), r"joins five levels, such as \(3, 7\); levels=\(3, 6\) are 4"),
        (lambda: necks.nas_fpn(repeats=0), "repeats=0 is not a whole number of at least 1"),
        (lambda: necks.nas_fpn(dialect="google"), "nas_fpn: dialect='google' is not one of 'reference', 'mmdet'"),
        (lambda: necks.nas_fpn(extra_from="c4"), "nas_fpn: extra_from='c4' is not one of 'p5', 'c5'"),
        (lambda: necks.nas_fpn(rounding="floor"), "nas_fpn: rounding='floor' is mmdet's"),
        (lambda: necks.nas_fpn(dialect="mmdet", rounding="down"), "rounding='down' is not one of"),
        (lambda: necks.weighted_pan((3, 5), (4, 4)), "weighted_pan: its paths need at least two levels, not P4"),
        (lambda: necks.qufpn(padding="none"), "qufpn: padding='none' is not one of 'symmetric', 'same'"),
        (lambda: necks.efficientdet(model="d9"), "efficientdet: model='d9' is not one of 'd0', 'd1'"),
        (lambda: necks.efficientdet(weights="jax"), "efficientdet: weights='jax' is not one of"),
        (
            lambda: necks.mlfpn((3, 3), (3, 8)),
            r"mlfpn: it joins .* needs features on 2 levels \(C3..C4\), and has C3..C3",
        ),
        (lambda: necks.mlfpn(levels=(3, 4)), "mlfpn: a TUM needs at least three levels, not P3..P4"),
        (lambda: necks.mlfpn(tums=0), "mlfpn: tums=0 is not a whole number"),
        (lambda: necks.augfpn(extra="lateral"), "augfpn: extra='lateral' is not one of"),
        (lambda: necks.augfpn(ratios=(0.1, 2.0)), r"augfpn: ratios=\(0.1, 2.0\) are not numbers in \(0, 1\]"),
        (lambda: necks.nas_fcos((3, 5), (4, 7)), r"nas_fcos: .* 3 levels \(C4..C6\), and has C3..C5 for P4..P7"),
        (lambda: necks.mnasfpn(repeats=0), "mnasfpn: repeats=0"),
        (lambda: necks.spinenet((3, 5)), r"spinenet: it reads C2 .* inputs=\(3, 5\), levels=\(3, 7\) do not fit"),
        (lambda: necks.spinenet(levels=(3, 8)), "spinenet: it reads C2 and gives levels within P3..P7"),
        (lambda: necks.spinenet(padding="valid"), "spinenet: padding='valid'"),
        (lambda: necks.asff((3, 5), (5, 5)), r"asff: it joins levels; it needs features on 2 levels \(C5..C6\)"),
        (lambda: necks.yolox_pafpn((3, 3), (3, 3)), "yolox_pafpn: it joins neighbouring levels"),
        (lambda: necks.cspnext_pafpn(blocks=0), "cspnext_pafpn: blocks=0"),
        (
            lambda: necks.cspnext_pafpn(extra="lateral"),
            "cspnext_pafpn: extra='lateral' is not one of 'output', 'input'",
        ),
        (lambda: necks.hrfpn(pool="sum"), "hrfpn: pool='sum' is not one of 'avg', 'max'"),
        (lambda: necks.libra(refine="mlp"), "bfp: refine='mlp' is not one of 'non_local', 'conv', 'none'"),
        (lambda: necks.bfp((3, 7), at=8), "bfp: at=8 is not one of 3, 4, 5, 6, 7"),
        (lambda: necks.fpg(stacks=0), "fpg: stacks=0"),
        (lambda: necks.fpg(stacks=4), r"fpg: the finest level P3 would never join .* P3..P7 need at least 5"),
        (lambda: necks.fpn(norm="group"), "fpn: norm='group' is not true or false"),
        (lambda: necks.panet(relu=1), "panet: relu=1 is not true or false"),
        (lambda: necks.mlfpn(sfam="yes"), "mlfpn: sfam='yes' is not true or false"),
        (lambda: necks.augfpn(ratios=0.1), "augfpn: ratios=0.1 are not numbers"),
        (lambda: necks.augfpn(ratios=("a",)), "augfpn: ratios="),
        (lambda: necks.asff(squeeze=0), "asff: squeeze=0 is not a whole number of at least 1"),
        (lambda: necks.cspnext_pafpn(expand=0), "cspnext_pafpn: expand=0 is not a positive number"),
        (lambda: necks.cspnext_pafpn(eps=0), "norm: eps 0"),
        (lambda: necks.gfpn(width=-1), "gfpn: width=-1 is not a positive number"),
        (lambda: necks.spinenet(alpha=0), "spinenet: alpha=0 is not a positive number"),
        (lambda: necks.nas_fpn(dialect="mmdet", extra_from="c5"), "nas_fpn: mmdet makes its extra levels from P5"),
        (lambda: necks.gfpn(skip="all"), "gfpn: skip='all' is not one of 'log2n', 'dense'"),
        (
            lambda: necks.chain(necks.fpn(levels=(3, 5)), necks.bfp()),
            "bfp: it reads level 6, but the neck before it gives P3, P4, P5",
        ),
        (lambda: necks.chain(necks.fpn(), necks.yolox_pafpn()), "yolox_pafpn: width 'c4' of node .* backbone feature"),
    ],
)
def test_options_that_are_wrong(make, message):
    with pytest.raises(GraphError, match=message):
        make()
