"""Convolutions as functions of weights that are fetched at once: equal values, what stays a module, names, ties."""

from __future__ import annotations

import copy
import pickle

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from nasneck import compile_neck, convs
from nasneck.bind import Weights, bind
from nasneck.graph import Conv, Edge, NeckGraph, Node, Sum, input_node


class Parts(nn.Module):
    """Whatever a body may have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1, dilation=1)
        self.inner = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 1, bias=False, groups=2)})
        self.tied = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.tied.weight = self.first.weight
        self.round = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
        self.same = nn.Conv2d(4, 4, 3, padding="same")
        self.norm = nn.GroupNorm(2, 4)
        self.share = nn.Parameter(torch.tensor([0.25, 0.75]))
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        y = self.tied(self.first(x)) * self.share[0] + self.inner["conv"](x) * self.share[1]
        return self.norm(self.round(y) + self.same(self.first(y))) * self.scale


def made() -> tuple[fx.GraphModule, fx.GraphModule]:
    torch.manual_seed(0)
    before = fx.symbolic_trace(Parts().eval())
    after = copy.deepcopy(before)
    bind(after)
    after.delete_all_unused_submodules()
    after.graph.lint()
    after.recompile()
    return before, after


def test_equal_to_the_bit():
    before, after = made()
    x = torch.randn(2, 4, 9, 7)
    assert torch.equal(after(x), before(x))


def test_what_becomes_a_function():
    _, after = made()
    left = {name: type(module) for name, module in after.named_modules() if name}
    assert left == {"round": nn.Conv2d, "same": nn.Conv2d, "norm": nn.GroupNorm, "weights": Weights}
    assert sum(node.target in (torch.conv2d, convs.direct) for node in after.graph.nodes) == 4
    assert [node.target for node in after.graph.nodes if node.op == "get_attr"] == ["scale"]
    # each once, however often it is read
    names = [name for name, _ in after.named_parameters(remove_duplicate=False) if name.startswith("weights")]
    assert "share" not in after.state_dict()
    paths = ("first/weight", "first/bias", "tied/weight", "share", "inner/conv/weight")
    assert names == [f"weights.{path}" for path in paths]
    pool = dict(after.get_submodule("weights").named_parameters(remove_duplicate=False))
    assert pool["first/weight"] is pool["tied/weight"]


def test_weights_are_those_of_the_moment():
    _, after = made()
    other = Parts().eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    x = torch.randn(1, 4, 8, 8)
    want = other(x)
    state = {name: value.detach() for name, value in other.state_dict().items()}
    names = {name: name.removeprefix("weights.").replace("/", ".") for name in after.state_dict()}
    assert set(names.values()) == set(state)
    theirs = {name: state[old] for name, old in names.items()}
    assert not torch.equal(after(x), want)
    assert torch.equal(functional_call(after, theirs, (x,), tie_weights=False), want)
    after.load_state_dict(theirs, assign=True)
    assert torch.equal(after(x), want)
    assert torch.equal(copy.deepcopy(after).double()(x.double()), other.double()(x.double()))


def test_replicas_of_data_parallel():
    """They have no parameters of their own but what ``torch.nn.parallel.replicate`` leaves in another place."""
    weights = Weights()
    weights.register_parameter("a/b", nn.Parameter(torch.ones(2)))
    replica = weights._replicate_for_data_parallel()
    assert not replica._parameters
    replica._former_parameters = {"a/b": torch.zeros(2)}
    assert [x.tolist() for x in replica()] == [[0, 0]]


def test_nothing_to_bind():
    body = fx.symbolic_trace(nn.Sequential(nn.ReLU()))
    bind(body)
    body.delete_all_unused_submodules()
    body.recompile()
    assert not any(isinstance(module, Weights) for module in body.modules())
    assert torch.equal(body(torch.tensor([-1.0, 1.0])), torch.tensor([0.0, 1.0]))


def test_a_node_called_like_the_weights():
    nodes = [Node("weights", 3, Sum(), [Edge("c3", [Conv(3)])]), Node("p3", 3, Sum(), [Edge("weights", [Conv(1)])])]
    graph = NeckGraph([input_node(3), *nodes], outputs={3: "p3"})
    neck = compile_neck(graph, {3: 4}, 4).eval()
    ready = pickle.loads(pickle.dumps(neck.optimize_for_inference()))
    x = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(ready([x])[0], neck([x])[0])
    assert {type(module) for module in ready.body.modules()} == {type(ready.body), Weights}
