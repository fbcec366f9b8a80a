"""FPN against torchvision's, in double precision with copied weights: outputs and all gradients."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from nasneck import necks
from nasneck.compile import compile_neck
from nasneck.neck import Neck

WIDTHS, CHANNELS = [6, 10, 14], 8
SIZES = {
    "even": [(32, 48), (16, 24), (8, 12)],
    "500x333": [(63, 42), (32, 21), (16, 11)],
    "odd": [(37, 51), (19, 26), (10, 13)],
    "rounded down": [(37, 51), (18, 25), (9, 12)],
    "tiny": [(3, 2), (2, 1), (1, 1)],
}
FORMS = {
    "plain": ({"levels": (3, 5)}, None, None),
    "pooled": ({"levels": (3, 6), "extra": "pool"}, LastLevelMaxPool, None),
    "P6P7 of P5": ({"levels": (3, 7), "extra": "output"}, lambda: LastLevelP6P7(CHANNELS, CHANNELS), None),
    "P6P7 of C5": ({"levels": (3, 7), "extra": "input"}, lambda: LastLevelP6P7(WIDTHS[-1], CHANNELS), None),
    "normed": ({"levels": (3, 5), "norm": True}, None, nn.BatchNorm2d),
    "normed, P6P7": ({"levels": (3, 7), "norm": True}, lambda: LastLevelP6P7(CHANNELS, CHANNELS), nn.BatchNorm2d),
}


def both(form: str) -> tuple[Neck, FeaturePyramidNetwork]:
    options, extra, norm = FORMS[form]
    torch.manual_seed(3)
    theirs = FeaturePyramidNetwork(WIDTHS, CHANNELS, extra() if extra else None, norm_layer=norm).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = compile_neck(necks.fpn((3, 5), **options), WIDTHS, CHANNELS).double()
    with torch.no_grad():
        for target, source in pairs(ours, theirs, norm is not None):
            target.copy_(source)
    return ours, theirs


def pairs(ours: Neck, theirs: FeaturePyramidNetwork, norm: bool):
    """Our parameters beside theirs, all of each."""
    mine, found = dict(ours.body.named_parameters()), []
    for i, level in enumerate((3, 4, 5)):
        for block, conv, slot in (
            (theirs.inner_blocks[i], f"td{level}.from_c{level}.conv", f"td{level}.from_c{level}.norm"),
            (theirs.layer_blocks[i], f"p{level}.conv", f"p{level}.norm"),
        ):
            found += [(mine.pop(f"{conv}.{name}"), p) for name, p in block[0].named_parameters()]
            if norm:
                found += [(mine.pop(f"{slot}.{name}"), p) for name, p in block[1].named_parameters()]
    if isinstance(theirs.extra_blocks, LastLevelP6P7):
        before = "p5" if theirs.extra_blocks.use_P5 else "c5"
        for source, level in ((before, "p6"), ("p6", "p7")):
            conv = getattr(theirs.extra_blocks, level)
            found += [(mine.pop(f"{level}.from_{source}.conv.{name}"), p) for name, p in conv.named_parameters()]
    assert not mine and len(found) == len(list(theirs.parameters()))
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_outputs_and_gradients_are_equal(form, size):
    ours, theirs = both(form)
    generator = torch.Generator().manual_seed(1)
    features = [
        torch.randn(2, width, *hw, generator=generator, dtype=torch.float64, requires_grad=True)
        for width, hw in zip(WIDTHS, SIZES[size], strict=True)
    ]
    mine = ours(OrderedDict(zip(("0", "1", "2"), features, strict=True)))
    wanted = theirs(OrderedDict(zip(("0", "1", "2"), features, strict=True)))
    assert list(mine) == list(wanted)
    for name in wanted:
        torch.testing.assert_close(mine[name], wanted[name], rtol=1e-12, atol=1e-12)
    weights = [torch.randn(out.shape, generator=generator, dtype=torch.float64) for out in wanted.values()]

    def gradients(outs, leaves):
        return torch.autograd.grad(sum((o * w).sum() for o, w in zip(outs, weights, strict=True)), leaves)

    matched = pairs(ours, theirs, FORMS[form][2] is not None)
    for got, want in zip(
        gradients(mine.values(), [*features, *(m for m, _ in matched)]),
        gradients(wanted.values(), [*features, *(t for _, t in matched)]),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("form", ["plain", "P6P7 of P5"])
def test_plain_forms_are_equal_to_the_bit_in_single_precision(form):
    ours, theirs = both(form)
    ours, theirs = ours.float(), theirs.float()
    features = [torch.randn(1, width, *hw) for width, hw in zip(WIDTHS, SIZES["odd"], strict=True)]
    wanted = theirs(OrderedDict(enumerate(features)))
    for got, want in zip(ours(features), wanted.values(), strict=True):
        assert torch.equal(got, want)


def test_weights_start_as_torchvisions_do():
    """Kaiming uniform with a = 1, so within sqrt(3 / fan_in), and biases of zero."""
    torch.manual_seed(0)
    neck = compile_neck(necks.fpn(), [32, 48, 64], 32)
    for name, parameter in neck.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            bound = (3 / parameter[0].numel()) ** 0.5
            assert parameter.abs().max() <= bound and parameter.abs().max() > 0.95 * bound
