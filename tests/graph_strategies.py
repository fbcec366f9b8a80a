"""Random neck graphs that use the whole vocabulary and that compile with ``IN_CHANNELS`` and ``CHANNELS``."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from nasneck.graph import (
    Act,
    AdaptivePool,
    Attention,
    Carafe,
    Concat,
    Conv,
    Edge,
    FastNormalized,
    Gate,
    GlobalPool,
    Max,
    Mean,
    NeckGraph,
    Node,
    NonLocal,
    Norm,
    Op,
    PixelWeighted,
    Pool,
    Project,
    Resample,
    Softmax,
    SqueezeExcite,
    Sum,
    input_node,
)

IN_CHANNELS = {3: 4, 4: 6, 5: 8}
CHANNELS = 8
WIDTHS = {"channels": 8, "channels/2": 4, 8: 8, "c4": 6, "c3*0.5": 2}

ACTS = ["relu", "relu6", "silu", "leaky_relu", "hard_swish", "hard_sigmoid", "sigmoid"]

fusions = st.one_of(
    st.just(Sum()),
    st.just(Mean()),
    st.just(Max()),
    st.just(Concat()),
    st.builds(Attention, gate=st.sampled_from(["coarser", "finer"]), pool=st.sampled_from(["max", "avg"])),
    st.builds(FastNormalized, eps=st.sampled_from([1e-4, 1e-3])),
    st.just(Softmax()),
    st.builds(
        PixelWeighted,
        normalize=st.sampled_from(["softmax", "sigmoid"]),
        squeeze=st.sampled_from([None, 2]),
        hidden=st.sampled_from([None, "channels/2", 3]),
        kernel=st.sampled_from([1, 3]),
    ),
    st.builds(Gate, complement=st.booleans()),
)
acts = st.builds(Act, kind=st.sampled_from(ACTS), slope=st.sampled_from([0.1, 0.2]))
norms = st.builds(
    Norm,
    kind=st.sampled_from([None, "batch", "group", "frozen"]),
    eps=st.sampled_from([1e-5, 1e-3]),
    momentum=st.sampled_from([0.1, 0.01]),
)
convs = st.one_of(
    st.builds(
        Conv,
        kernel=st.sampled_from([1, 3, 5]),
        dilation=st.sampled_from([1, 2]),
        groups=st.sampled_from([1, 2, "depthwise", "output"]),
        bias=st.booleans(),
        width=st.none(),
        padding=st.sampled_from(["same", "same_tf"]),
        init=st.sampled_from(["fan_in", "glorot"]),
    ),
    st.builds(Conv, kernel=st.just(3), separable=st.just(True), bias=st.booleans()),
)


@dataclass(frozen=True)
class Map:
    """A node so far: its name, level, width in channels, and whether it is a single cell."""

    name: str
    level: int | None
    width: int
    single: bool = False


@st.composite
def projects(draw: st.DrawFn, *, needed: bool) -> Project:
    """A projection; ``needed`` says that the width has to change."""
    when = draw(st.sampled_from(["always", "if_different"] + ([] if needed else ["never"])))
    norm = draw(st.none() | norms)
    return Project(bias=draw(st.booleans()), norm=norm, act=draw(st.none() | acts), when=when)


@st.composite
def edges(draw: st.DrawFn, source: Map, level: int | None, width: int, sized: dict[int, list[str]]) -> Edge:
    """An edge from ``source`` to a node of ``level`` whose convolutions give ``width`` channels."""
    ops: list[Op] = []
    if source.width != width or draw(st.integers(0, 3)) == 0:
        ops.append(draw(projects(needed=source.width != width)))
    if draw(st.integers(0, 4)) == 0:
        ops.append(draw(acts))
    if draw(st.integers(0, 4)) == 0:
        ops.append(draw(convs.filter(lambda conv: conv.groups == 1)))
    at = source.level
    if level is None:
        if at is not None:
            ops.append(draw(st.sampled_from([GlobalPool("avg"), GlobalPool("max"), AdaptivePool(0.5, "max")])))
        return Edge(source.name, ops)
    to = draw(st.sampled_from(sized[level])) if sized.get(level) else None
    fit = [] if to is None else [Resample("nearest", to=to)]
    if at is None:
        assert to is not None
        ops += draw(st.sampled_from([fit, [Resample("bilinear", to=to)]]))
    elif at > level:
        assert to is not None
        how: list[Op] = [Resample("auto", to=to), Resample("nearest", to=to), Resample("bilinear", to=to)]
        how.append(Carafe(to=to, kernel=draw(st.sampled_from([3, 5])), encoder=1, compressed="input/2"))
        ops.append(draw(st.sampled_from([*how, Resample("bilinear", to=to, align_corners=True)])))
    elif at < level:
        octaves = level - at
        step: list[list[Op]] = [
            [Conv(3, stride=2)] * octaves,
            [Conv(3, stride=2, padding="same_tf")] * octaves,
            [Resample(draw(st.sampled_from(["max", "avg"])), to=to)] if to else [Pool()] * octaves,
            [Conv(3, stride=2**octaves, bias=False), Norm()],
            [Pool()] * octaves,
            [Pool(padding="same"), *[Pool("avg", 2, 2, 0, ceil=True)] * (octaves - 1)],
            [Pool("avg", 3, 2, "same")] * octaves,
        ]
        down: list[list[Op]] = [[Resample("auto")], *([[Resample("auto", to=to)]] * 3 if to else [])]
        ops += draw(st.sampled_from([*down, *([*ops_, *fit] for ops_ in step)]))
    elif to is not None and draw(st.integers(0, 5)) == 0:
        ops += [Resample(draw(st.sampled_from(["auto", "nearest"])), to=to)]
    return Edge(source.name, ops)


@st.composite
def layer_lists(draw: st.DrawFn, *, given_: int, width: int) -> list[Op]:
    """Layers that turn ``given_`` channels into ``width``."""
    layers: list[Op] = []
    at = given_
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.integers(0, 3))
        if kind == 0:
            layers.append(draw(acts))
        elif kind == 1:
            layers.append(draw(norms))
        elif kind == 2 and at % 2 == 0:
            layers.append(draw(st.sampled_from([SqueezeExcite("input/2"), NonLocal("input/2"), NonLocal(3)])))
        else:
            layers.append(draw(convs))
            at = width
    if at != width:
        layers.append(Conv(1))
    # groups that do not divide what comes in become plain
    checked, at = [], given_
    for layer in layers:
        if isinstance(layer, Conv):
            groups = layer.groups if isinstance(layer.groups, int) else {"depthwise": at, "output": width}[layer.groups]
            if at % groups or width % groups:
                layer = Conv(3)
            at = width
        checked.append(layer)
    return checked


@st.composite
def nodes(draw: st.DrawFn, name: str, maps: list[Map], sized: dict[int, list[str]]) -> tuple[Node, Map]:
    """A further node that reads ``maps``."""
    width_text = draw(st.sampled_from(list(WIDTHS)))
    width = WIDTHS[width_text]
    if draw(st.integers(0, 6)) == 0:  # pooled context
        source = draw(st.sampled_from([m for m in maps if m.level is not None]))
        edge = draw(edges(source, None, width, sized))
        layers = draw(layer_lists(given_=width, width=width))
        if draw(st.integers(0, 3)) == 0:
            layers.insert(0, GlobalPool())
        single = any(isinstance(op, GlobalPool) for op in [*(edge.ops or ()), *layers])
        return Node(name, None, "sum", [edge], layers, width_text), Map(name, None, width, single)
    op = draw(fusions)
    level = draw(st.sampled_from(sorted(sized)))
    count = 2 if isinstance(op, Attention | Gate) else draw(st.integers(1, 3))
    inputs: list[Edge] = []
    anchored = False
    for i in range(count):
        source = draw(st.sampled_from(maps))
        if source.single and not isinstance(op, Concat | PixelWeighted) and (anchored or i < count - 1):
            ops = [] if source.width == width else [draw(projects(needed=True))]
            inputs.append(Edge(source.name, ops))
            if i == count - 2 and not anchored:
                source = next(m for m in maps if m.level is not None)
        else:
            inputs.append(draw(edges(source, level, width, sized)))
            anchored = True
    if not anchored:
        inputs[-1] = draw(edges(next(m for m in maps if m.level is not None), level, width, sized))
    given_ = width * count if isinstance(op, Concat) else width
    layers = draw(layer_lists(given_=given_, width=width))
    return Node(name, level, op, inputs, layers, width_text), Map(name, level, width)


@st.composite
def graphs(draw: st.DrawFn, *, max_nodes: int = 6, shares: bool = True, aux: bool = True) -> NeckGraph:
    """A valid graph over C3..C5 and, often, P6."""
    made: list[Node] = [input_node(level) for level in IN_CHANNELS]
    maps = [Map(f"c{level}", level, width) for level, width in IN_CHANNELS.items()]
    sized = {level: [f"c{level}"] for level in IN_CHANNELS}
    if draw(st.booleans()):
        step = draw(st.sampled_from([Resample("auto"), Pool("max", 1, 2, 0), Pool(padding="same")]))
        made.append(Node("x6", 6, "sum", [Edge("c5", [step])]))
        maps.append(Map("x6", 6, 8))
        sized[6] = ["x6"]
    for i in range(draw(st.integers(1, max_nodes))):
        node, described = draw(nodes(f"n{i}", maps, sized))
        made.append(node)
        maps.append(described)
        if described.level in IN_CHANNELS:
            sized[described.level].append(described.name)
        copied = [n for n in made if n.has_weights and n.shares is None]
        if shares and copied and draw(st.integers(0, 4)) == 0:
            owner = draw(st.sampled_from(copied))
            like = next(m for m in maps if m.name == owner.name)
            made.append(Node(f"s{i}", owner.level, owner.op, owner.inputs, owner.layers, owner.width, owner.name))
            maps.append(Map(f"s{i}", like.level, like.width, like.single))
    outputs: dict[int, str] = {}
    for level in sorted(sized):
        found = [m.name for m in maps[3:] if m.level == level]
        if found and draw(st.integers(0, 3)):
            outputs[level] = draw(st.sampled_from(found))
    if not outputs:
        outputs = {3: "c3"}
    extra = draw(st.lists(st.sampled_from([m.name for m in maps[3:]] or ["c3"]), max_size=2)) if aux else ()
    return NeckGraph(made, outputs=outputs, aux=extra, name=draw(st.sampled_from(["neck", "my neck"])))
