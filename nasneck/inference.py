"""The inference form of a neck's code: what training needs is computed once, and maps are passed over less often.

Every step is exact, or another order of the same sums. They go over a copy of the torch.fx code that ``compile_neck``
has emitted, which calls modules and functions without side effects only.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Hashable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from nasneck import functional, fused
from nasneck.bind import bind
from nasneck.cells import FrozenBatchNorm2d

# Which argument is there for its size only.
_SIZE = {
    functional.upsample: 1,
    functional.resize: 1,
    functional.shrink: 1,
    functional.fit: 1,
    functional.pick_pooled: 2,
    functional.reassemble: 2,
}
_ACTIVATIONS = {F.relu, F.relu6, F.silu, F.hardswish, F.hardsigmoid, F.leaky_relu}
# What gives a map that is in no other's memory. The second kind gives its first argument, or such a map.
_NEW = {
    *_ACTIVATIONS,
    operator.add,
    torch.cat,
    torch.sigmoid,
    F.max_pool2d,
    F.avg_pool2d,
    functional.attend,
    functional.halve,
    functional.mean_of,
    functional.shrink,
    functional.upsample,
    functional.weighted,
    fused.add_into,
    fused.add_upsampled,
    fused.attend,
    fused.weighted,
}
_PASSING = {functional.resize, functional.fit, functional.pick_pooled, fused.as_channels_last}


def inference_body(body: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of ``body`` that computes the same in eval mode, faster; see ``Neck.optimize_for_inference``."""
    ready = copy.deepcopy(body).eval().requires_grad_(False)
    share_calls(ready.graph)
    fold_norms(ready)
    fix_shares(ready)
    lay_channels_last(ready)
    overwrite(ready.graph)
    bind(ready)
    ready.delete_all_unused_submodules()
    ready.graph.lint()
    ready.recompile()
    return ready


def share_calls(code: fx.Graph) -> None:
    """Make equal calls of functions once: of the resamples that a neck compiled without ``optimize`` has."""
    made: dict[Hashable, fx.Node] = {}
    for node in list(code.nodes):
        if node.op == "call_function":
            key = (node.target, node.args, tuple(node.kwargs.items()))
            first = made.setdefault(key, node)
            if first is not node:
                node.replace_all_uses_with(first)
                code.erase_node(node)


def fold_norms(body: fx.GraphModule) -> None:
    """Fold batch norms into the convolutions before them; those that cannot be get their statistics frozen.

    A convolution with another reader keeps its values, and so does one whose weights are used with another norm.
    """
    norms: list[Any] = [node for node in body.graph.nodes if isinstance(_module(body, node), nn.BatchNorm2d)]
    calls: dict[Any, set[Any]] = {}  # convolution -> norms that follow it, None for anything else
    for node in body.graph.nodes:
        if isinstance(_module(body, node), nn.Conv2d):
            readers = list(node.users)
            alone = len(readers) == 1 and readers[0] in norms
            calls.setdefault(node.target, set()).add(readers[0].target if alone else None)
    folded: set[Any] = set()
    for norm in norms:
        before = norm.args[0]
        if calls.get(before.target) == {norm.target}:
            if before.target not in folded:
                folded.add(before.target)
                _fold(body.get_submodule(before.target), body.get_submodule(norm.target))
            norm.replace_all_uses_with(before)
            body.graph.erase_node(norm)
        elif type(body.get_submodule(norm.target)) is nn.BatchNorm2d:
            body.add_submodule(norm.target, _frozen(body.get_submodule(norm.target)))


def fix_shares(body: fx.GraphModule) -> None:
    """Compute once the shares of fusions that are functions of parameters alone."""
    for node in body.graph.nodes:
        if node.target not in (functional.fast_normalized, functional.softmax_weighted):
            continue
        source: Any = node.args[0]
        owner, _, name = source.target.rpartition(".")
        holder: Any = body.get_submodule(owner)
        if hasattr(holder, name):  # else a node that shares it, and so computes the same of it, has been here
            holder.share = nn.Parameter(_share(node, getattr(holder, name)), requires_grad=False)
            delattr(holder, name)
        maps = node.args[2:] if node.target is functional.fast_normalized else node.args[1:]
        source.target = f"{owner}.share"
        node.target, node.args = fused.weighted, (source, -1, *maps)


def lay_channels_last(body: fx.GraphModule) -> None:
    """Lay out weights with channels last, and convert features as they come in, or what 1x1 convolutions make of them.

    A backbone's feature mostly has more channels than the neck, and converting costs as much as a 1x1 convolution of
    it; that takes either layout at one speed.
    """
    for module in body.modules():
        # Weights of 1x1 convolutions have one layout; strides of the other would convert the feature.
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            laid = module.weight.detach().contiguous(memory_format=torch.channels_last)
            module.weight = nn.Parameter(laid, requires_grad=False)
    features = [node for node in body.graph.nodes if node.op == "placeholder"]
    for feature in reversed(features):
        entered = _follow(feature, fused.enter, after=features[-1])
        laterals = [node for node in entered.users if _is_lateral(body, node)]
        others = [node for node in entered.users if node not in laterals and not _only_sized(node, entered)]
        convs: list[Any] = [body.get_submodule(str(node.target)) for node in laterals]
        if others or (convs and sum(conv.out_channels for conv in convs) >= convs[0].in_channels):
            _follow(entered, fused.as_channels_last)
        else:
            for node in laterals:
                _follow(node, fused.as_channels_last)


def overwrite(code: fx.Graph) -> None:
    """Let activations and fusions write into a map that nothing else reads, and fuse what is added and weighted."""
    for node in code.nodes:
        args: tuple[Any, ...] = node.args
        if node.target in _ACTIVATIONS and _is_free(args[0]):
            node.kwargs = {**node.kwargs, "inplace": True}
        elif node.target is operator.add and (large := next(filter(_is_upsampled, args), None)) is not None:
            x = args[1] if large is args[0] else args[0]
            node.target, node.args = fused.add_upsampled, (x, *large.args, False)
            code.erase_node(large)  # which may have been the only other reader of x, for its size
            node.args = (*node.args[:3], x is not node.args[1] and _is_free(x))
        elif node.target is operator.add and (free := [x for x in args if _is_free(x)]):
            node.target, node.args = fused.add_into, (free[0], args[1] if args[0] is free[0] else args[0])
        elif node.target is functional.attend:
            node.target, node.args = fused.attend, (*args, args[0] is not args[1] and _is_free(args[0]))
        elif node.target is fused.weighted:
            free = [i for i, x in enumerate(args[2:]) if _is_free(x) and args.count(x) == 1]
            node.args = (args[0], free[0] if free else -1, *args[2:])


def _module(body: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return body.get_submodule(str(node.target)) if node.op == "call_module" else None


def _fold(conv: Any, norm: Any) -> None:
    """Let ``conv`` give what ``norm`` makes of it; computed in double precision."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = 0 if conv.bias is None else conv.bias.double()
    shift = (bias - norm.running_mean.double()) * scale + norm.bias.double()
    weight = conv.weight.double() * scale[:, None, None, None]
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)


def _frozen(norm: Any) -> FrozenBatchNorm2d:
    frozen = FrozenBatchNorm2d(norm.num_features, eps=norm.eps).to(norm.weight.device, norm.weight.dtype)
    frozen.load_state_dict(norm.state_dict())
    return frozen


def _share(node: fx.Node, weight: Tensor) -> Tensor:
    """The shares as ``node`` computes them, in double precision: those of maps that are one-hot vectors."""
    one_hot = torch.eye(len(weight), dtype=torch.float64, device=weight.device).unbind()
    function: Any = node.target
    options = node.args[1:2] if function is functional.fast_normalized else ()
    return function(weight.detach().double(), *options, *one_hot).to(weight.dtype)


def _follow(node: fx.Node, function: Callable[..., Any], *, after: fx.Node | None = None) -> fx.Node:
    """Call ``function`` of ``node``, and let all readers read that."""
    with node.graph.inserting_after(after or node):
        made = node.graph.call_function(function, (node,))
    node.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made)
    return made


def _is_lateral(body: fx.GraphModule, node: fx.Node) -> bool:
    module = _module(body, node)
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1


def _only_sized(node: fx.Node, x: fx.Node) -> bool:
    """Whether ``node`` reads no more than the size of ``x``."""
    return node.target in _SIZE and all(arg is not x for i, arg in enumerate(node.args) if i != _SIZE[node.target])


def _is_upsampled(x: Any) -> bool:
    """Whether ``x`` is a map enlarged for one reader."""
    return isinstance(x, fx.Node) and x.target is functional.upsample and len(x.users) == 1


def _is_free(x: Any) -> bool:
    """Whether the one reader of ``x`` may write into it."""
    if not isinstance(x, fx.Node) or len(x.users) != 1:
        return False
    return x.op == "call_module" or x.target in _NEW or (x.target in _PASSING and _is_free(x.args[0]))
