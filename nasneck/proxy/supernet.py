"""Weights that all candidates of a search space share, trained on random candidates in turn.

Two candidates share a tensor of weights where it has the same name and shape in both. In the NAS-FPN space nodes are
named by their level (outputs) or their order (intermediate cells), so that they share laterals and the convolution and
norm of each cell, whatever its inputs and fusion. The head is one for all.

After Guo et al., "Single Path One-Shot", ECCV 2020, with fair paths (:mod:`nasneck.proxy.paths`). Norms have statistics
of many necks, so the weights rank candidates only by losses within a training, where statistics are the batch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from nasneck.errors import ConfigError, NasneckError
from nasneck.graph import NeckGraph
from nasneck.neck import Neck
from nasneck.proxy.batches import Batches
from nasneck.proxy.candidate import Candidate
from nasneck.proxy.config import ProxyConfig
from nasneck.proxy.features import memory_format
from nasneck.proxy.fit import NotFinite, fit
from nasneck.proxy.views import Progress, no_progress

Compile = Callable[[NeckGraph], Neck]


class SharedWeights:
    """Tensors by name and shape, which candidates are put together from.

    Args:
        first: Candidate whose weights are the first of them.
        compile: Gives a graph new weights.
    """

    def __init__(self, first: Candidate, compile: Compile) -> None:
        self._first = first
        self._compile = compile
        self._tensors: dict[str, Tensor] = {}
        self._add(first.neck)

    @property
    def modules(self) -> list[nn.Module]:
        """All that can be trained, each once."""
        return [
            self._first.detector.head,
            nn.ParameterList(value for value in self._tensors.values() if isinstance(value, nn.Parameter)),
        ]

    @property
    def state(self) -> dict[str, Tensor]:
        """Values by name and shape, on the CPU, as :func:`inherit` takes them."""
        values = {**_by_key("head", self._first.detector.head), **self._tensors}
        return {name: value.detach().cpu().clone() for name, value in values.items()}

    def path(self, graph: NeckGraph) -> Candidate:
        """The candidate made of the shared tensors themselves: what trains it trains them.

        Raises:
            NasneckError: a graph that cannot be compiled.
        """
        with torch.device("meta"):  # its own weights are not drawn, since they are replaced
            neck = self._compile(graph)
        if not _by_key("neck", neck).keys() <= self._tensors.keys():
            self._add(self._compile(graph))
        state = neck.state_dict()
        neck.load_state_dict({name: self._tensors[_key("neck", name, state[name])] for name in state}, assign=True)
        return replace(self._first, neck=neck)

    def _add(self, neck: Neck) -> None:
        first = self._first
        neck.to(device=first.device, memory_format=memory_format(first.channels_last))  # type: ignore[call-overload]
        for key, value in _by_key("neck", neck).items():
            self._tensors.setdefault(key, value)


def inherit(candidate: Candidate, state: Mapping[str, Tensor]) -> None:
    """Give a candidate the shared values; what it has beyond them stays as it is."""
    with torch.no_grad():
        for part, module in (("head", candidate.detector.head), ("neck", candidate.neck)):
            for key, value in _by_key(part, module).items():
                if key in state:
                    value.copy_(state[key])


def train_supernet(
    first: Candidate,
    graphs: Sequence[NeckGraph],
    batches: Batches,
    *,
    compile: Compile,
    config: ProxyConfig,
    progress: Progress = no_progress,
) -> dict[str, Tensor]:
    """Shared weights for ``graphs``, as :func:`inherit` takes them.

    First ``first`` alone is trained, which gives head and laterals a start; then each update is the mean gradient of
    some of ``graphs``, in order.

    Args:
        first: Its weights are trained in place.
        graphs: Those that cannot be compiled are left out.
        batches: One for each step and update.
        compile: Gives a graph new weights.
        config: Optimiser, and how long.
        progress: Told (what, done, total).

    Raises:
        ConfigError: the training diverged or takes too much of a GPU's memory, or no graph could be compiled.
    """
    warm, count, options = config.supernet.warm, config.supernet.paths, config.train

    def warm_losses(step: int) -> dict[str, Tensor]:
        return batches.losses(first, step, first.outputs(batches.features(step)))

    def losses_at(step: int) -> dict[str, Tensor]:
        features = batches.features(warm + step)
        group = paths[step * count : (step + 1) * count]
        return {
            f"{i}.{name}": loss / count
            for i, path in enumerate(group)
            for name, loss in batches.losses(path, warm + step, path.outputs(features)).items()
        }

    def report(before: int) -> Callable[[int, int], None]:
        return lambda done, total: progress("supernet training", before + done, warm + len(graphs) // count)

    try:
        fit([first.detector.train()], warm_losses, options, steps=warm, progress=report(0))
        shared = SharedWeights(first, compile)
        paths = [path for path in (_path(shared, graph) for graph in graphs) if path is not None]
        if len(paths) < count:
            raise ConfigError(f"only {len(paths)} of {len(graphs)} candidates of the space can be compiled")
        after = replace(options, warmup=0.0)  # that was the warm start
        fit(shared.modules, losses_at, after, steps=len(paths) // count, progress=report(warm))
    except NotFinite as error:
        raise ConfigError(
            f"the training of shared weights diverged ({error}); lower train.learning_rate {options.learning_rate:g}"
        ) from None
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"shared weights cannot be trained with supernet.paths {count} candidates of batch_size "
            f"{options.batch_size} in the memory of this GPU; lower one of them"
        ) from None
    return shared.state


def _path(shared: SharedWeights, graph: NeckGraph) -> Candidate | None:
    try:
        return shared.path(graph)
    except NasneckError:  # as a candidate it will be recorded as one that failed
        return None


def _by_key(part: str, module: nn.Module) -> dict[str, Tensor]:
    return {_key(part, name, value): value for name, value in module.state_dict(keep_vars=True).items()}


def _key(part: str, name: str, value: Tensor) -> str:
    return f"{part}.{name} {'x'.join(map(str, value.shape))}"
