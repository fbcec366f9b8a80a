"""The cases of ``speed.py``: pairs of ways to compute the same, ours and what people use, or the machine's limit."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from plain_nas_fpn import NASFPN, ours_by_plain
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from nasneck import compile_neck, load_peer_state, necks
from nasneck.cost import count_macs
from nasneck.neck import Neck

WIDTHS = (512, 1024, 2048)  # C3..C5 of a ResNet-50

Run = Callable[[], Sequence[Tensor]]


@dataclass(frozen=True)
class Sides:
    """Two ways of computing the same, or for a share of the peak a neck and a convolution.

    ``work`` is how much more ours computes: 1 where both compute the same.
    """

    ours: Run
    theirs: Run
    alike: bool = True
    work: float = 1.0


@dataclass(frozen=True)
class Case:
    """One row.

    Args:
        name: What is compared.
        against: With what.
        pixels: Side of the image.
        channels: Width of the neck.
        bound: What the ratio should be at most, or at least.
        make: Makes both sides, from pixels, channels and the device.
        sense: Of the bound. "at most" bounds our time over theirs, "at least" our speed over theirs.
    """

    name: str
    against: str
    pixels: int
    channels: int
    bound: float
    make: Callable[[int, int, torch.device], Sides]
    sense: Literal["at most", "at least"] = "at most"


def features(pixels: int, device: torch.device, *, batch: int = 1) -> list[Tensor]:
    """C3..C5 of square images, in torch's own layout."""
    sizes = [(batch, width, pixels // 2**level, pixels // 2**level) for level, width in enumerate(WIDTHS, 3)]
    return [torch.randn(size, device=device) for size in sizes]


def laid(maps: Iterable[Tensor]) -> list[Tensor]:
    """The same with channels last."""
    return [x.contiguous(memory_format=torch.channels_last) for x in maps]


def stirred(module: nn.Module, device: torch.device) -> nn.Module:
    """In eval mode, with statistics that are not the initial ones."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None and part.running_var is not None
            part.running_mean.normal_(std=0.3)
            part.running_var.uniform_(0.5, 2)
    return module.to(device).eval()


def fpn(pixels: int, channels: int, device: torch.device, *, inference: bool, channels_last: bool = False) -> Sides:
    """Ours and torchvision's, with RetinaNet's P6 and P7; features in torch's own layout, or ours with channels last.

    The latter is what a backbone gives that is laid out for inference, too.
    """
    extra = LastLevelP6P7(channels, channels)
    theirs = stirred(FeaturePyramidNetwork(list(WIDTHS), channels, extra), device)
    ours = compile_neck(necks.fpn(), WIDTHS, channels).to(device).eval()
    load_peer_state(ours, theirs.state_dict(), "torchvision")
    ready = ours.optimize_for_inference() if inference else ours
    maps = features(pixels, device)
    given = OrderedDict(zip("345", maps, strict=True))
    own = OrderedDict(zip("345", laid(maps), strict=True)) if channels_last else given
    return Sides(lambda: list(ready(own).values()), lambda: list(theirs(given).values()))


def effdet_bifpn(pixels: int, channels: int, device: torch.device) -> nn.Module:
    """effdet's, three repeats as in D0, on features of ``WIDTHS``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses torch.jit.script
        import effdet
        from effdet.efficientdet import BiFpn
    config = effdet.get_efficientdet_config("efficientdet_d0")
    config.image_size, config.fpn_channels = [pixels, pixels], channels
    return stirred(BiFpn(config, [{"num_chs": c, "reduction": 2**level} for level, c in enumerate(WIDTHS, 3)]), device)


def bifpn(pixels: int, channels: int, device: torch.device) -> Sides:
    """Ours for inference and effdet's; features in torch's own layout."""
    theirs = effdet_bifpn(pixels, channels, device)
    ours = compile_neck(necks.bifpn(), WIDTHS, channels).to(device).eval()
    load_peer_state(ours, theirs.state_dict(), "effdet")
    ready, given = ours.optimize_for_inference(), features(pixels, device)
    return Sides(lambda: ready(given), lambda: theirs(list(given)))  # it appends to what it is given


def bifpn_training(pixels: int, channels: int, device: torch.device) -> Sides:
    """Forward and backward for two images, ours with channels last; what comes out are the gradients of C3..C5."""
    theirs = effdet_bifpn(pixels, channels, device).train()
    ours = compile_neck(necks.bifpn(), WIDTHS, channels).to(device)
    load_peer_state(ours, theirs.state_dict(), "effdet")
    ours.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    given = features(pixels, device, batch=2)

    def step(module: nn.Module, maps: list[Tensor]) -> list[Tensor]:
        module.zero_grad()
        leaves = [x.detach().requires_grad_() for x in maps]
        with torch.enable_grad():
            torch.stack([out.square().mean() for out in module(list(leaves))]).sum().backward()
        return [x.grad for x in leaves if x.grad is not None]

    return Sides(partial(step, ours, laid(given)), partial(step, theirs, given))


def nas_fpn_neck(channels: int, device: torch.device, state: dict[str, Tensor] | None = None) -> Neck:
    """The seven published cells once, with the weights of the plain module."""
    neck = compile_neck(necks.nas_fpn(repeats=1), WIDTHS, channels).to(device)
    if state is not None:
        names = ours_by_plain(1)
        split = [(key.rsplit(".", 2), value) for key, value in state.items()]
        neck.body.load_state_dict({f"{names[path]}.{kind}.{leaf}": value for (path, kind, leaf), value in split})
    return neck.eval()


def nas_fpn(
    pixels: int, channels: int, device: torch.device, *, channels_last: Literal["ours", "both", "none"]
) -> Sides:
    """Ours for inference and a module by hand; ``channels_last`` says who gets features, and weights, laid out so."""
    theirs = stirred(NASFPN(WIDTHS, channels), device)
    ready = nas_fpn_neck(channels, device, theirs.state_dict()).optimize_for_inference()
    given = features(pixels, device)
    last = laid(given)
    if channels_last == "both":
        theirs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ours, other = (given if channels_last == "none" else last), (last if channels_last == "both" else given)
    return Sides(lambda: ready(ours), lambda: theirs(other))


def peak(pixels: int, channels: int, device: torch.device, *, kind: Literal["fpn", "nas_fpn"]) -> Sides:
    """A neck for inference and one 3x3 convolution of 64x64 cells, channels last: as fast as this machine convolves."""
    neck = nas_fpn_neck(channels, device) if kind == "nas_fpn" else compile_neck(necks.fpn(), WIDTHS, channels)
    stirred(neck, device)
    ready, given = neck.optimize_for_inference(), features(pixels, device)
    side = pixels // 8
    conv = nn.Conv2d(channels, channels, 3, padding=1, device=device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(1, channels, side, side, device=device).contiguous(memory_format=torch.channels_last)
    work = count_macs(ready, (pixels, pixels)) / (9 * channels**2 * side**2)
    return Sides(lambda: ready(given), lambda: [conv(x)], alike=False, work=work)


def faster(pixels: int, channels: int, device: torch.device, *, how: Literal["graph", "compile"]) -> Sides:
    """The inference form of NAS-FPN in a CUDA graph, or compiled by torch, and as it is."""
    ready, given = nas_fpn_neck(channels, device).optimize_for_inference(), features(pixels, device)
    if how == "graph":
        return Sides(Captured(lambda: ready(given)), lambda: ready(given))
    compiled = torch.compile(copy.deepcopy(ready))
    return Sides(lambda: compiled(given), lambda: ready(given))


def both_captured(pixels: int, channels: int, device: torch.device) -> Sides:
    """NAS-FPN for inference and by hand with channels last, both in CUDA graphs: what their kernels take."""
    sides = nas_fpn(pixels, channels, device, channels_last="both")
    return Sides(Captured(sides.ours), Captured(sides.theirs))


def half_peak(pixels: int, channels: int, device: torch.device, *, batch: int) -> Sides:
    """NAS-FPN for inference in bfloat16 and ten 3x3 convolutions of its finest maps, both in CUDA graphs."""
    neck = nas_fpn_neck(channels, device)
    stirred(neck, device)
    ready = neck.optimize_for_inference().to(torch.bfloat16)
    given = [x.to(torch.bfloat16) for x in laid(features(pixels, device, batch=batch))]
    side, count = pixels // 8, 10
    conv = nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=torch.bfloat16)
    conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(batch, channels, side, side, device=device, dtype=torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last)
    work = count_macs(neck, (pixels, pixels)) / (count * 9 * channels**2 * side**2)
    convs = Captured(lambda: [conv(x) for _ in range(count)])
    return Sides(Captured(lambda: ready(given)), convs, alike=False, work=work)


class Captured:
    """The same as one CUDA graph: nothing is launched by the CPU but the whole. The first call runs as it is."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._calls = 0
        self._graph = torch.cuda.CUDAGraph()
        self._outs: Sequence[Tensor] = ()

    def __call__(self) -> Sequence[Tensor]:
        self._calls += 1
        if self._calls == 1:
            return self._run()
        if self._calls == 2:
            self._capture()
        self._graph.replay()
        return self._outs

    def _capture(self) -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._run()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(self._graph):
            self._outs = self._run()


CASES = (
    *(
        Case("FPN, compiled", "torchvision's", pixels, channels, 1.02, partial(fpn, inference=False))
        for pixels, channels in ((256, 64), (512, 256))
    ),
    *(
        Case("FPN, inference form", "torchvision's as shipped", pixels, channels, 0.85, partial(fpn, inference=True))
        for pixels, channels in ((256, 64), (512, 256))
    ),
    *(
        Case(
            "FPN, inference form, of channels last",
            "torchvision's as shipped",
            pixels,
            channels,
            0.85,
            partial(fpn, inference=True, channels_last=True),
        )
        for pixels, channels in ((256, 64), (512, 256))
    ),
    Case("BiFPN, inference form", "effdet's as shipped", 256, 64, 0.60, bifpn),
    Case("BiFPN, inference form", "effdet's as shipped", 512, 256, 0.45, bifpn),
    Case("BiFPN, training step", "effdet's as shipped", 256, 64, 0.80, bifpn_training),
    Case("NAS-FPN, inference form", "by hand", 256, 64, 0.70, partial(nas_fpn, channels_last="none")),
    Case("NAS-FPN, inference form, of channels last", "by hand", 256, 64, 0.70, partial(nas_fpn, channels_last="ours")),
    Case("NAS-FPN, inference form", "by hand, channels last", 256, 64, 1.00, partial(nas_fpn, channels_last="both")),
    Case("NAS-FPN, inference form", "peak", 512, 256, 0.85, partial(peak, kind="nas_fpn"), "at least"),
    Case("FPN, inference form", "peak", 512, 256, 0.85, partial(peak, kind="fpn"), "at least"),
)
CUDA_CASES = (
    *(case for case in CASES if case.against != "peak"),
    Case("NAS-FPN, CUDA graph", "without", 256, 64, 1.00, partial(faster, how="graph")),
    Case("NAS-FPN, CUDA graph", "without", 512, 256, 1.00, partial(faster, how="graph")),
    Case("NAS-FPN, CUDA graph", "by hand, channels last, CUDA graph", 512, 256, 1.00, both_captured),
    Case("NAS-FPN, bfloat16", "peak", 512, 256, 0.85, partial(half_peak, batch=1), "at least"),
    Case("NAS-FPN, bfloat16, 16 images", "peak", 512, 256, 0.85, partial(half_peak, batch=16), "at least"),
    Case("NAS-FPN, torch.compile", "without", 512, 256, 1.00, partial(faster, how="compile")),
)
