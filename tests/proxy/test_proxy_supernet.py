"""Weights that candidates share: what is the same tensor in two of them, how they are trained, who inherits what."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nasneck.decision import Decision
from nasneck.errors import CompileError, ConfigError, SpaceError
from nasneck.graph import NeckGraph
from nasneck.necks import bifpn, fpn, nas_fpn, panet
from nasneck.proxy import ProxyTask, SupernetConfig, TrainConfig
from nasneck.proxy.batches import Batches
from nasneck.proxy.cached import CachedTraining
from nasneck.proxy.candidate import Candidate, build_candidate, compile_candidate, with_head
from nasneck.proxy.holdings import published, sketch
from nasneck.proxy.paths import FairPaths
from nasneck.proxy.supernet import SharedWeights, inherit, train_supernet
from nasneck.space import MergingCellSpace, SearchSpace, load_space

from .conftest import NECK

SPACE = MergingCellSpace(repeats=1)
PUBLISHED = nas_fpn(repeats=1)
OTHER = SPACE.decode([0] * len(SPACE.decisions))
PLAIN = TrainConfig(steps=1, batch_size=4, optimizer="sgd", learning_rate=0.01, momentum=0.0, schedule="constant")
ONCE = SupernetConfig(warm=1, path_steps=1, paths=1)


def make(task: ProxyTask, graph: NeckGraph, seed: int = 0) -> Candidate:
    return build_candidate(
        graph,
        config=task.config,
        neck=NECK,
        in_channels=task.in_channels,
        num_classes=len(task.data.classes),
        seed=seed,
        device=task.device,
        amp=False,
    )


def makers(task: ProxyTask) -> dict[str, Any]:
    """What makes candidates, as for the fidelity."""
    return {
        "compile": partial(compile_candidate, neck=NECK, in_channels=task.in_channels, seed=0),
        "with_head": partial(
            with_head, config=task.config, num_classes=len(task.data.classes), seed=0, device=task.device, amp=False
        ),
    }


def batches_of(task: ProxyTask, count: int) -> Batches:
    fidelity: Any = task.fidelity
    assert isinstance(fidelity, CachedTraining)
    places = fidelity._places(seed=0, steps=count, batch_size=4)
    return Batches(fidelity._features_of(places), places)


def train(
    task: ProxyTask, graphs: Sequence[NeckGraph], *, supernet: SupernetConfig = ONCE, options: TrainConfig = PLAIN
) -> dict[str, Tensor]:
    config = replace(task.config, train=options, supernet=supernet)
    batches = batches_of(task, supernet.warm + len(graphs) // supernet.paths)
    return train_supernet([PUBLISHED, *graphs], batches, **makers(task), config=config)


def parameters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if "running" not in name and "num_batches" not in name}


def test_paths_share_tensors_of_the_same_name_and_shape(task: ProxyTask) -> None:
    shared = SharedWeights(make(task, PUBLISHED), **makers(task))
    one, other, again = (shared.path(graph) for graph in (PUBLISHED, OTHER, PUBLISHED))
    mine, theirs = dict(one.neck.named_parameters()), dict(other.neck.named_parameters())
    assert mine and all(value is again.neck.get_parameter(name) for name, value in mine.items())
    common = [name for name in mine if name in theirs and mine[name].shape == theirs[name].shape]
    assert {name.split(".")[1] for name in common} >= {f"r0_p{level}" for level in range(3, 8)}
    assert all(mine[name] is theirs[name] for name in common)
    heads = [dict(path.detector.head.named_parameters()) for path in (one, other)]
    assert heads[0] and all(value is heads[1][name] for name, value in heads[0].items())
    known = list(shared.parameters)
    assert len(known) == len(set(map(id, known)))
    assert {id(value) for value in (*mine.values(), *theirs.values())} <= set(map(id, known))


def test_other_shapes_are_other_tensors(task: ProxyTask) -> None:
    shared = SharedWeights(make(task, PUBLISHED), **makers(task))
    before, one = len(shared.state), shared.path(PUBLISHED)
    other = shared.path(bifpn(repeats=1))  # nodes p3..p7 with convolutions of other shapes, and new ones
    assert len(shared.state) > before
    again = dict(shared.path(PUBLISHED).neck.named_parameters())
    assert all(value is again[name] for name, value in one.neck.named_parameters()), "what was there is still shared"
    values = shared.state
    for name, value in other.neck.state_dict().items():
        assert values[f"neck.{name} {'x'.join(map(str, value.shape))}"].shape == value.shape
    with pytest.raises(CompileError):
        shared.path(fpn(inputs=(2, 5)))  # the backbone has no such level


def test_necks_of_another_width_have_another_head(task: ProxyTask) -> None:
    space = load_space("bifpn")
    rng, widths = random.Random(0), set()
    shared = SharedWeights(make(task, PUBLISHED), **makers(task))
    batches = batches_of(task, 1)
    paths = [shared.path(space.decode(space.sample(rng))) for _ in range(8)]
    for path in paths:
        widths |= set(path.neck.out_channels.values())
        losses = batches.losses(path, 0, path.outputs(batches.features(0)))
        sum(losses.values(), torch.zeros(())).backward()
    assert widths == {NECK.channels, NECK.channels // 2}
    heads = [
        dict(path.detector.head.named_parameters())
        for width in sorted(widths)
        for path in paths
        if set(path.neck.out_channels.values()) == {width}
    ]
    shapes = {tuple(value.shape for value in head.values()) for head in heads}
    assert len(shapes) == 2
    assert len({id(value) for head in heads for value in head.values() if value.ndim == 4}) == sum(
        value.ndim == 4 for value in (*heads[0].values(), *heads[-1].values())
    )


@given(numbers=st.integers(0, 2**32))
def test_a_path_computes_what_a_candidate_with_its_weights_does(task: ProxyTask, numbers: int) -> None:
    graph = SPACE.decode(SPACE.sample(random.Random(numbers)))
    shared = SharedWeights(make(task, PUBLISHED), **makers(task))
    path, own = shared.path(graph), make(task, graph, seed=numbers)
    inherit(own, shared.state)
    features = batches_of(task, 1).features(0)
    for candidate in (path, own):
        candidate.neck.eval()
        candidate.detector.head.eval()
    with torch.no_grad():
        found, expected = own.outputs(features), path.outputs(features)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_who_inherits_has_weights_of_its_own(task: ProxyTask) -> None:
    shared = SharedWeights(make(task, PUBLISHED, seed=1), **makers(task))
    state = shared.state
    kept = copy.deepcopy(state)
    own = make(task, PUBLISHED, seed=2)
    inherit(own, state)
    with torch.no_grad():
        for value in (*own.detector.parameters(), *shared.path(PUBLISHED).detector.parameters()):
            value.add_(1)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_what_nobody_shares_stays_as_it_is(task: ProxyTask) -> None:
    state = SharedWeights(make(task, PUBLISHED, seed=1), **makers(task)).state
    own, drawn = make(task, bifpn(repeats=1), seed=2), make(task, bifpn(repeats=1), seed=2)
    inherit(own, state)
    fresh = [
        name
        for name, value in drawn.neck.named_parameters()
        if f"neck.{name} {'x'.join(map(str, value.shape))}" not in state
    ]
    assert fresh and all(torch.equal(own.neck.get_parameter(n), drawn.neck.get_parameter(n)) for n in fresh)


def test_an_update_is_a_step_along_the_mean_gradient(task: ProxyTask) -> None:
    """Against gradients taken one candidate at a time, and a step of SGD by hand."""
    graphs = [PUBLISHED, OTHER]
    # The rate rises in the warm start and not again.
    options = replace(PLAIN, weight_decay=0.0, clip_norm=0.0, warmup=1.0, warmup_factor=0.1)
    found = train(task, graphs, supernet=SupernetConfig(warm=1, path_steps=2, paths=2), options=options)

    first, batches = make(task, PUBLISHED), batches_of(task, 2)
    first.detector.train()

    def gradients(candidate: Candidate, batch: int) -> dict[str, Tensor]:
        for parameter in candidate.detector.parameters():
            parameter.grad = None
        for parameter in candidate.neck.parameters():
            parameter.grad = None
        losses = batches.losses(candidate, batch, candidate.outputs(batches.features(batch)))
        sum(losses.values(), torch.zeros(())).backward()
        parts: list[tuple[str, nn.Module]] = [("head", candidate.detector.head), ("neck", candidate.neck)]
        return {
            f"{part}.{name} {'x'.join(map(str, value.shape))}": value.grad.clone()
            for part, module in parts
            for name, value in module.named_parameters()
            if value.grad is not None
        }

    warm = gradients(first, 0)
    with torch.no_grad():
        for part, module in (("head", first.detector.head), ("neck", first.neck)):
            for name, value in module.named_parameters():
                value -= 0.001 * warm[f"{part}.{name} {'x'.join(map(str, value.shape))}"]
    shared = SharedWeights(first, **makers(task))
    each = [gradients(shared.path(graph), 1) for graph in graphs]
    expected = parameters(shared.state)
    moved = 0
    for name, value in expected.items():
        step = sum((one[name] for one in each if name in one), torch.zeros_like(value)) / 2
        moved += bool(step.any())
        torch.testing.assert_close(found[name], value - 0.01 * step, rtol=1e-5, atol=1e-7)
    assert moved > 20 and parameters(found).keys() == expected.keys()


def test_twice_the_same_path_is_that_path(task: ProxyTask) -> None:
    one = train(task, [OTHER])
    two = train(task, [OTHER, OTHER], supernet=SupernetConfig(warm=1, path_steps=2, paths=2))
    assert one.keys() == two.keys()
    for name, value in parameters(one).items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-7)


def test_training_lowers_the_loss_of_all(task: ProxyTask) -> None:
    rng = random.Random(0)
    graphs = [SPACE.decode(SPACE.sample(rng)) for _ in range(24)]
    options = TrainConfig(batch_size=4, learning_rate=0.003, schedule="constant")
    state = train(task, graphs[:16], supernet=SupernetConfig(warm=10, path_steps=16, paths=2), options=options)
    batches = batches_of(task, 1)
    for graph in graphs[16:]:  # others than those that were trained
        new, heir = make(task, graph), make(task, graph)
        inherit(heir, state)
        losses = []
        for candidate in (new, heir):
            candidate.detector.train()
            with torch.no_grad():
                found = batches.losses(candidate, 0, candidate.outputs(batches.features(0)))
            losses.append(float(sum(found.values(), torch.zeros(()))))
        assert losses[1] < losses[0]


def test_what_cannot_be_built_is_left_out(task: ProxyTask) -> None:
    unfit = fpn(inputs=(2, 5))
    assert train(task, [unfit, OTHER]).keys() == train(task, [OTHER, unfit]).keys() == train(task, [OTHER]).keys()
    config = replace(task.config, train=PLAIN, supernet=ONCE)
    assert train_supernet([unfit, OTHER], batches_of(task, 2), **makers(task), config=config)
    with pytest.raises(ConfigError, match="none of 2 candidates of the space can be built, so there are none to share"):
        train_supernet([unfit, unfit], batches_of(task, 2), **makers(task), config=config)


def test_a_training_that_diverges_says_so(task: ProxyTask) -> None:
    wild = replace(PLAIN, learning_rate=1e30, clip_norm=0.0)
    with pytest.raises(ConfigError, match=r"shared weights diverged \(loss .*\); lower train.learning_rate 1e\+30"):
        train(task, [OTHER] * 30, options=wild)


def test_a_gpu_that_is_full_says_so(task: ProxyTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Batches, "losses", full)
    with pytest.raises(ConfigError, match=r"supernet.paths 1 candidates of batch_size 4 in the memory of this GPU"):
        train(task, [OTHER])


@pytest.mark.parametrize("values", [{"warm": 0}, {"paths": 0}, {"path_steps": 3, "paths": 4}])
def test_settings_that_cannot_work(values: dict[str, int]) -> None:
    with pytest.raises(
        ConfigError, match=r"^warm \d+ and paths \d+ must be at least 1, path_steps \d+ at least paths$"
    ):
        SupernetConfig(**values)


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (load_space("nas_fpn", repeats=3), nas_fpn(repeats=3)),
        (load_space("bifpn"), bifpn()),
        (load_space("search_spaces.skip_fpn:skip_fpn"), None),
    ],
)
def test_the_first_is_published_where_the_space_holds_one(space: SearchSpace, expected: NeckGraph | None) -> None:
    found = published(space)
    assert found == expected or (found and expected and found.key() == expected.key())


def test_choices_that_decode_to_nothing() -> None:
    class Half(Unlike):
        def decode(self, choices: Sequence[int]) -> NeckGraph:
            if choices[0]:
                raise ZeroDivisionError
            return super().decode(choices)

    found = sketch(Half(fpn(), bifpn()))
    assert found["graphs"].count(None) == found["graphs"].count(fpn().key()) == 4
    first = published(Half(panet(), fpn()))
    assert first is not None and first.key() == panet().key()


class Unlike(SearchSpace):
    """Two names for one graph, or two graphs."""

    name = "unlike"

    def __init__(self, *graphs: NeckGraph, label: str = "which") -> None:
        self.graphs = graphs
        self.decisions = (Decision(label, len(graphs), "neck"),)

    def decode(self, choices: Sequence[int]) -> NeckGraph:
        return self.graphs[choices[0]]

    def encode(self, graph: NeckGraph) -> tuple[int, ...]:
        keys = [known.key() for known in self.graphs]
        if graph.key() not in keys:
            raise SpaceError("not here")
        return (keys.index(graph.key()),)


def test_a_sketch_tells_spaces_apart() -> None:
    spaces = [
        load_space("nas_fpn"),
        load_space("nas_fpn", repeats=2),
        load_space("bifpn"),
        Unlike(fpn(), bifpn()),
        Unlike(bifpn(), fpn()),
        Unlike(fpn(), bifpn(), label="other"),
    ]
    found = [sketch(space) for space in spaces]
    assert all(found.count(one) == 1 for one in found)
    assert sketch(load_space("nas_fpn")) == found[0]


def test_paths_are_fair() -> None:
    paths = FairPaths(SPACE, seed=0)
    counts = [Counter(dict.fromkeys(range(decision.choices), 0)) for decision in SPACE.decisions]
    for number in range(1, 111):
        for count, choice in zip(counts, paths.draw(), strict=True):
            count[choice] += 1
            assert max(count.values()) - min(count.values()) <= 1
            if number % len(count) == 0:
                assert set(count.values()) == {number // len(count)}
    draws = [FairPaths(SPACE, seed).draw() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
