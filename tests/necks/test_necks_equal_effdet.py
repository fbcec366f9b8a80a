"""BiFPN, its relatives and EfficientDet's presets against effdet, with its weights: outputs, gradients, statistics."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from nasneck import necks
from nasneck.compile import compile_neck
from nasneck.cost import count_parameters
from nasneck.neck import Neck
from nasneck.peers import load_peer_state, peer_state

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it uses torch.jit.script
    effdet = pytest.importorskip("effdet")
    from effdet.efficientdet import BiFpn

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

WIDTHS, CHANNELS = (12, 16, 20), 16  # C4 has the neck's width, so it is not projected
SAME = {"bias": True, "padding": "same"}
FORMS = {
    "bifpn_fa": necks.bifpn(repeats=2),
    "bifpn_attn": necks.bifpn(repeats=2, fusion="softmax"),
    "bifpn_sum": necks.bifpn(repeats=2, fusion="sum"),
    "pan_fa": necks.weighted_pan(repeats=2),
    "pan_sum": necks.weighted_pan(repeats=2, fusion="sum"),
    "qufpn_fa": necks.qufpn(repeats=2),
    "qufpn_sum": necks.qufpn(repeats=2, fusion="sum"),
    "bifpn_fa, tf": necks.bifpn(repeats=2, **SAME),
    "pan_fa, tf": necks.weighted_pan(repeats=2, **SAME),
    "qufpn_fa, tf": necks.qufpn(repeats=2, **SAME),
    "bifpn_fa, full": necks.bifpn(repeats=2, separable=False),
    "bifpn_fa, tf, full": necks.bifpn(repeats=2, separable=False, **SAME),
    "bifpn_sum, relu6": necks.bifpn(repeats=2, fusion="sum", act="relu6"),
    "bifpn_fa, relu": necks.bifpn(repeats=2, act="relu"),
    "pan_fa, leaky_relu": necks.weighted_pan(repeats=2, act="leaky_relu"),
    "qufpn_fa, hard_swish": necks.qufpn(repeats=2, act="hard_swish"),
    "bifpn_fa, P3-P8": necks.bifpn(levels=(3, 8), repeats=2),
}
# effdet is built for one image size; the second is awkward
SIZES = [(256, 256), (500, 333)]


def theirs_of(form: str, size: tuple[int, int], widths=WIDTHS, channels=CHANNELS) -> nn.Module:
    name, *options = form.split(", ")
    config = effdet.get_efficientdet_config("tf_efficientdet_d0" if "tf" in options else "efficientdet_d0")
    config.image_size = list(size)
    config.fpn_name = name
    config.fpn_cell_repeats = 2
    config.fpn_channels = channels
    config.separable_conv = "full" not in options
    acts = {"relu", "relu6", "leaky_relu", "hard_swish"} & set(options)
    config.act_type = acts.pop() if acts else "swish"
    if "P3-P8" in options:
        config.max_level, config.num_levels = 8, 6
    return BiFpn(config, [{"num_chs": c, "reduction": 2**level} for level, c in enumerate(widths, 3)])


def both(form: str, size: tuple[int, int] = (256, 256)) -> tuple[Neck, nn.Module]:
    torch.manual_seed(2)
    theirs = theirs_of(form, size).double()
    for key, value in theirs.state_dict().items():
        if "running_var" in key:
            nn.init.uniform_(value, 0.5, 2.0)
        elif value.is_floating_point():
            nn.init.normal_(value, mean=0.7 if "edge_weights" in key else 0.0, std=0.5)
    ours = compile_neck(FORMS[form], WIDTHS, CHANNELS).double()
    load_peer_state(ours, theirs.state_dict(), "effdet")
    return ours, theirs


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_equal(form, size):
    ours, theirs = both(form, size)
    features = [
        torch.randn(2, c, -(-size[0] // 2**level), -(-size[1] // 2**level), dtype=torch.float64)
        for level, c in enumerate(WIDTHS, 3)
    ]
    for mode in (True, False):
        ours.train(mode), theirs.train(mode)
        got, want = run(ours, features), run(theirs, features)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
        grads = peer_state(with_gradients(ours), "effdet")
        for key, parameter in theirs.named_parameters():
            scale = max(1.0, float(parameter.grad.abs().max()))
            torch.testing.assert_close(grads[key], parameter.grad, rtol=1e-7, atol=1e-8 * scale, msg=key)
    state = theirs.state_dict()
    for key, value in peer_state(ours, "effdet").items():
        torch.testing.assert_close(value, state[key], rtol=1e-10, atol=1e-12, msg=key)


def run(module: nn.Module, features) -> list[torch.Tensor]:
    """The outputs and the gradients of the features."""
    leaves = [x.clone().requires_grad_() for x in features]
    module.zero_grad()
    outs = list(module(list(leaves)))
    draw = torch.Generator().manual_seed(4)
    torch.stack(
        [(out * torch.randn(out.shape, dtype=out.dtype, generator=draw)).sum() for out in outs]
    ).sum().backward()
    return [*(out.detach() for out in outs), *(x.grad for x in leaves if x.grad is not None)]


def with_gradients(neck: Neck) -> Neck:
    """A neck whose weights are the gradients of ``neck``."""
    like = compile_neck(neck.graph, neck.in_channels, neck.channels).double()
    gradients = {key: p.grad for key, p in neck.body.named_parameters()}
    like.body.load_state_dict({**like.body.state_dict(), **gradients})
    return like


@pytest.mark.parametrize("form", FORMS)
def test_weights_go_there_and_back(form):
    ours, theirs = both(form)
    given, back = theirs.state_dict(), peer_state(ours, "effdet")
    assert set(given) == set(back) and all(torch.equal(given[key], value) for key, value in back.items())


@pytest.mark.parametrize("model", ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x"])
def test_presets(model):
    """Published channels and repeats: as many parameters as effdet's models, under the same names."""
    setting = necks.EFFICIENTDET[model]
    config = effdet.get_efficientdet_config(f"tf_efficientdet_{model}")
    assert (config.fpn_channels, config.fpn_cell_repeats, config.image_size[0]) == (
        setting.channels,
        setting.repeats,
        setting.image_size,
    )
    with torch.device("meta"):
        theirs = BiFpn(config, [{"num_chs": c, "reduction": 2**i} for i, c in enumerate(setting.in_channels, 3)])
        ours = compile_neck(necks.efficientdet(model=model), setting.in_channels, setting.channels)
    assert count_parameters(ours) == count_parameters(theirs)
    names = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in peer_state(ours, "effdet").items()} == names


def test_any_size_where_effdet_has_one():
    ours, theirs = both("bifpn_fa")
    features = [torch.randn(1, c, 40 >> i, 28 >> i, dtype=torch.float64) for i, c in enumerate(WIDTHS)]
    with pytest.raises(RuntimeError):
        theirs(list(features))
    assert [out.shape[-2:] for out in ours.eval()(features)] == [(40, 28), (20, 14), (10, 7), (5, 4), (3, 2)]
