"""Neck: the module that ``compile_neck`` returns."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from nasneck.containers import pack
from nasneck.errors import CompileError
from nasneck.graph import NeckGraph
from nasneck.inference import inference_body
from nasneck.sizes import vanishing


class Neck(nn.Module):
    """A compiled neck.

    Attributes:
        graph: What it was compiled from.
        body: Straight-line code from tensors to a tuple of tensors; ``print(neck.body.code)`` shows it.
        in_channels: Width of every backbone feature by level, finest first.
        out_channels: Width of every output by level, finest first.
        channels: The width that the graph's widths refer to.
        norm: What the graph's norm slots became.
        out_names: Names of the outputs by level, where those of the features do not say.
        size_divisor: Number that the sides of images must be divisible by.
        aux_outputs: Number of auxiliary outputs that ``forward`` returns too.
        for_inference: Whether it is an inference form, made by :meth:`optimize_for_inference`.
    """

    def __init__(
        self,
        graph: NeckGraph,
        body: fx.GraphModule,
        *,
        in_channels: Mapping[int, int],
        out_channels: Mapping[int, int],
        channels: int,
        norm: str,
        aux: int = 0,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.body = body
        self.in_channels = dict(in_channels)
        self.out_channels = dict(out_channels)
        self.channels = channels
        self.norm = norm
        self.size_divisor = graph.size_divisor
        # torchvision calls a level that is only subsampled "pool"
        self.out_names = {level: "pool" if node == "pool" else f"p{level}" for level, node in graph.outputs.items()}
        self.aux_outputs = aux
        self.for_inference = False

    def forward(self, features: Sequence[Tensor] | Mapping[Any, Tensor]) -> Any:
        """Mix the features.

        Args:
            features: Backbone features C_l of shape (N, in_channels[l], H_l, W_l), finest first, in a list, a
                tuple or an ordered mapping.

        Returns:
            The outputs P_l of shape (N, out_channels[l], H_l, W_l), finest first, in a container of the same
            kind. A mapping keeps the names it came with; further levels are called ``p6``, ``p7`` (``pool``
            where the level is only subsampled), or by their number if the names are numbers. With auxiliary
            outputs compiled in, a pair of that container and a tuple.

        Raises:
            CompileError: features whose number, width or size does not fit, images of which nothing is left on the
                coarsest level, or a batch of one image with 1x1 maps where batch norm is to train.
        """
        maps = tuple(features.values()) if isinstance(features, Mapping) else tuple(features)
        if torch.compiler.is_compiling():
            found = self.body(*maps)
        else:
            self._check(maps)
            found = self._run(maps)
        outputs = found[: len(found) - self.aux_outputs]
        packed = pack(features, outputs, tuple(self.in_channels), self.out_names)
        return (packed, found[len(outputs) :]) if self.aux_outputs else packed

    def optimize_for_inference(self) -> Neck:
        """Return the inference form of this neck: the same outputs, faster. The neck itself stays as it is.

        Batch norms are folded into the convolutions before them, or frozen where something else reads these; weights
        and maps have channels last, whichever layout the features come in; shares of weighted fusions are computed
        once; equal resamples are shared; activations and sums write into maps that nothing else reads. No gradients
        flow, and ``train()`` changes nothing. It is a module like any other: it can be copied, pickled, moved,
        exported with ``torch.export``; but its state dict is its own, and convolutions are functions in it, which
        hooks do not see. Outputs have channels last.

        Convolutions of float32 on a CPU go to the library that is faster for them there. The first call in a process
        finds out in about 30 ms; so make it on the kind of machine where it will run, though it runs on any.

        Over all fixed necks and random ones of the NAS-FPN space, outputs deviate from those in eval mode by 1e-14
        in float64 and by 5e-6 in float32 of their largest value at most (tests/test_inference.py).
        """
        if self.for_inference:
            return copy.deepcopy(self)
        ready = Neck(
            self.graph,
            inference_body(self.body),
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            channels=self.channels,
            norm=self.norm,
            aux=self.aux_outputs,
        )
        ready.for_inference = True
        return ready.eval()

    def extra_repr(self) -> str:
        form = ", for inference" if self.for_inference else ""
        return f"{self.graph!r}, in_channels={self.in_channels}, out_channels={self.out_channels}{form}"

    def _run(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        try:
            return self.body(*maps)
        except RuntimeError as error:
            levels = zip(self.in_channels, maps, strict=True)
            problem = vanishing(self.graph, {level: (x.shape[-2], x.shape[-1]) for level, x in levels})
            if problem is None:
                raise
            raise CompileError(problem) from error
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            sizes = ", ".join(
                f"C{level} {x.shape[-2]}x{x.shape[-1]}" for level, x in zip(self.in_channels, maps, strict=True)
            )
            raise CompileError(
                f"{self.graph.name}: batch norm cannot train on one 1x1 map per channel "
                f"(batch of {len(maps[0])}, {sizes}): use a larger batch, larger images, or norm='group'"
            ) from None

    def _check(self, maps: tuple[Tensor, ...]) -> None:
        if len(maps) != len(self.in_channels):
            wanted = ", ".join(f"C{level}" for level in self.in_channels)
            raise CompileError(f"{self.graph.name}: {len(maps)} features given, but the neck reads {wanted}")
        name = self.graph.name
        finer: torch.Size | None = None
        for (level, width), x in zip(self.in_channels.items(), maps, strict=True):
            shape = x.shape
            if len(shape) != 4 or shape[1] != width:
                raise CompileError(f"{name}: C{level} has shape {tuple(shape)}; (N, {width}, H, W) is wanted")
            if 0 in shape:
                raise CompileError(f"{name}: C{level} has shape {tuple(shape)}, so there is nothing in it")
            if finer is not None and (shape[2] > finer[2] or shape[3] > finer[3]):
                raise CompileError(
                    f"{name}: C{level} is {shape[2]}x{shape[3]}, larger than the finer level before it "
                    f"({finer[2]}x{finer[3]}); features go finest first"
                )
            finer = shape
