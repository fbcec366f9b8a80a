"""Neck and head of a candidate as CUDA graphs.

A training step of a small neck is hundreds of kernels of some microseconds each, which a CPU cannot launch as fast as a
GPU computes them. Captured once, all of them are launched at a time, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasneck.proxy.candidate import Candidate

Outputs = Callable[[Sequence[Tensor]], dict[str, Tensor]]

WORTH = 10  # steps of a training for which capturing, which takes about five of them, is worth while


def captured(candidate: Candidate, features: Sequence[Tensor]) -> Outputs:
    """:meth:`Candidate.outputs` in training mode for features of these shapes; it lies in the same weights.

    What cannot be captured is not: then this is that method itself.

    Args:
        candidate: On a GPU.
        features: Of a batch, finest first; their values do not matter.
    """
    module = _Tensors(candidate)
    # Gradients are added up on the stream on which their place was first asked for, and that shall be this one.
    places = [parameter.view_as(parameter).grad_fn for parameter in module.parameters() if parameter.requires_grad]
    # The passes below run on streams of their own, so torch would warn once that these do not match; it waits for them.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        graphed: Any = torch.cuda.make_graphed_callables(
            module.train(),
            tuple(x.clone() for x in features),  # it keeps these, and writes each batch into them
            num_warmup_iters=1,
            allow_unused_input=True,
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # an operation that waits for the GPU, such as one that asks for a value
        torch.cuda.synchronize(candidate.device)
        return candidate.outputs
    finally:
        for buffer, value in buffers:  # statistics of batch norms: the passes so far were of no training
            buffer.copy_(value)

    def run(maps: Sequence[Tensor]) -> dict[str, Tensor]:
        assert places is not None  # they live as long as this
        return dict(zip(module.names, graphed(*maps), strict=True))

    return run


class _Tensors(nn.Module):
    """A candidate as a module from tensors to tensors."""

    def __init__(self, candidate: Candidate) -> None:
        super().__init__()
        self.detector = candidate.detector  # for its parameters and buffers
        self.names: tuple[str, ...] = ()
        self._candidate = candidate

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        outputs = self._candidate.outputs(features)
        self.names = tuple(outputs)
        return tuple(outputs.values())
