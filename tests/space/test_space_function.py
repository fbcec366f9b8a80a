"""Spaces written as Python functions, and the example that is shipped as one."""

from __future__ import annotations

import itertools
import pickle
import random
from pathlib import Path

import pytest
import torch

from nasneck import compile_neck, necks
from nasneck.decision import Decision
from nasneck.errors import SpaceError
from nasneck.graph import NeckGraph
from nasneck.space import FunctionSpace, load_space
from nasneck.space import function as function_module

ROOT = Path(__file__).parents[2]
DEPTH = Decision("repeats", 3, "repeats")
UNUSED = Decision("unused", 2, "unused")


def depth(choices: tuple[int, ...]) -> NeckGraph:
    return necks.bifpn(repeats=1 + choices[-1])


def test_decode_gives_legal_choices_to_the_function():
    space = FunctionSpace("depth", [UNUSED, DEPTH], depth)
    assert space.size() == 6
    assert space.decode([1, 2]) == necks.bifpn(repeats=3)
    with pytest.raises(SpaceError, match=r"choice 3 for decision 'repeats' is not in 0\.\.2"):
        space.decode([0, 3])


def test_encode_gives_the_smallest_vector_and_looks_no_further():
    asked = []

    def decode(choices):
        asked.append(choices)
        return depth(choices)

    space = FunctionSpace("depth", [UNUSED, DEPTH], decode)
    assert space.encode(necks.bifpn(repeats=2)) == (0, 1) and asked == [(0, 0), (0, 1)]
    assert space.encode(necks.bifpn(repeats=1)) == (0, 0) and len(asked) == 2
    assert space.encode(necks.bifpn(repeats=3)) == (0, 2)
    for _ in range(2):
        with pytest.raises(SpaceError, match=r"NeckGraph\('fpn': .*\) is not in the space 'depth'$"):
            space.encode(necks.fpn())
    assert len(asked) == 6
    assert necks.bifpn(repeats=2) in space and necks.fpn() not in space


def test_encode_has_a_limit():
    many = [Decision(f"d{i}", 10, "d") for i in range(5)]
    space = FunctionSpace("many", many, lambda choices: pytest.fail("not to be decoded"))
    with pytest.raises(SpaceError, match=r"^space 'many' has 1e\+05 vectors; encode looks through 10000 at most$"):
        space.encode(necks.fpn())
    assert function_module.LIMIT == 10_000
    FunctionSpace("edge", many[:4], lambda choices: necks.fpn()).encode(necks.fpn())


def test_what_makes_no_space():
    for decisions in ([], [DEPTH, DEPTH]):
        with pytest.raises(SpaceError, match=r"space 'x' has decisions \[.*\]; at least one is wanted, each name once"):
            FunctionSpace("x", decisions, depth)
    with pytest.raises(SpaceError, match="space 'x': the function returned NoneType, not a NeckGraph"):
        FunctionSpace("x", [DEPTH], lambda choices: None).decode([0])  # type: ignore[arg-type, return-value]


# -- the example -------------------------------------------------------------------------------------


@pytest.fixture
def skip_fpn(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))

    def load(**options):
        return load_space("search_spaces.skip_fpn:skip_fpn", **options)

    return load


@pytest.mark.parametrize(("inputs", "levels"), [((3, 5), (3, 7)), ((2, 5), (2, 6)), ((3, 5), (4, 5))])
def test_every_vector_of_the_example_is_a_graph(skip_fpn, inputs, levels):
    space = skip_fpn(inputs=inputs, levels=levels)
    vectors = list(itertools.product(*(range(decision.choices) for decision in space.decisions)))
    first: dict[str, tuple[int, ...]] = {}
    for choices in vectors if len(vectors) < 1000 else random.Random(0).sample(vectors, 300):
        graph = space.decode(choices)
        assert graph.input_levels == tuple(range(inputs[0], inputs[1] + 1))
        assert graph.output_levels == tuple(range(levels[0], levels[1] + 1))
        first.setdefault(graph.key(), choices)
        assert space.decode(choices).key() == graph.key()
    if len(vectors) < 1000:
        assert 1 < len(first) < len(vectors) == space.size()
        for key in random.Random(0).sample(sorted(first), min(len(first), 30)):
            assert space.encode(space.decode(first[key])) == first[key]


def test_fpn_with_bottom_up_skips_is_in_the_example(skip_fpn):
    space = skip_fpn(levels=(3, 5))
    assert space.size() == 864
    graph = space.decode((2, 0, 1, 1, 1, 2, 0))  # down, then up; P3 skips, P4 skips and is weighted, P5 is a maximum
    reads = {name: [edge.source for edge in graph[name].inputs] for name in ("down4", "up3", "up4", "up5")}
    assert reads == {
        "down4": ["lat4", "down5"],
        "up3": ["down3", "lat3"],
        "up4": ["down4", "up3", "lat4"],
        "up5": ["down5", "up4"],
    }
    assert [type(graph[name].op).__name__ for name in ("up3", "up4", "up5")] == ["Sum", "FastNormalized", "Max"]


@pytest.mark.parametrize("seed", range(6))
def test_candidates_of_the_example_learn_everywhere(skip_fpn, seed):
    space = skip_fpn()
    graph = space.decode(space.sample(random.Random(seed)))
    torch.manual_seed(seed)
    neck = compile_neck(graph, {3: 12, 4: 8, 5: 16}, 8)
    outputs = neck([torch.randn(2, c, *size) for c, size in ((12, (33, 24)), (8, (17, 12)), (16, (9, 6)))])
    assert [tuple(map_.shape[-2:]) for map_ in outputs] == [(33, 24), (17, 12), (9, 6), (5, 3), (3, 2)]
    sum((map_ * torch.randn_like(map_)).sum() for map_ in outputs).backward()
    for name, parameter in neck.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_it_travels_to_workers() -> None:
    space = FunctionSpace("depth", [DEPTH], depth)
    space.encode(space.decode([1]))
    copy = pickle.loads(pickle.dumps(space))
    assert copy.encode(space.decode([2])) == (2,)
