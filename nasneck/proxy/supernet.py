"""Weights that all candidates of a search space share, trained on random candidates in turn.

Two candidates share a tensor of weights where it has the same name and shape in both. In the NAS-FPN space nodes are
named by their level (outputs) or their order (intermediate cells), so that they share the head, laterals, and the
convolution and norm of each cell, whatever its inputs and fusion.

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
from nasneck.proxy.fit import NotFinite, fit
from nasneck.proxy.views import Progress, no_progress

Compile = Callable[[NeckGraph], Neck]
WithHead = Callable[[Neck], Candidate]


class SharedWeights:
    """Tensors by name and shape, which candidates are put together from.

    Args:
        first: Candidate whose weights are the first of them.
        compile, with_head: Make the others: a neck with new weights, and the candidate around it with a new head.
    """

    def __init__(self, first: Candidate, compile: Compile, with_head: WithHead) -> None:
        self._compile = compile
        self._with_head = with_head
        self._tensors: dict[str, Tensor] = {}
        self._add("neck", first.neck)
        self._add("head", first.detector.head)

    @property
    def parameters(self) -> nn.ParameterList:
        """All that can be trained, each once."""
        return nn.ParameterList(value for value in self._tensors.values() if isinstance(value, nn.Parameter))

    @property
    def state(self) -> dict[str, Tensor]:
        """Values by name and shape, on the CPU, as :func:`inherit` takes them."""
        return {name: value.detach().cpu().clone() for name, value in self._tensors.items()}

    def path(self, graph: NeckGraph) -> Candidate:
        """The candidate made of the shared tensors themselves: what trains it trains them.

        Raises:
            NasneckError: a graph that fits neither backbone, canvas nor head.
        """
        with torch.device("meta"):  # its own weights are not drawn, since they are replaced
            neck = self._compile(graph)
        if not _by_key("neck", neck).keys() <= self._tensors.keys():
            neck = self._compile(graph)
            self._add("neck", self._with_head(neck).neck)  # on the device
        self._assign("neck", neck)
        found = self._with_head(neck)
        self._add("head", found.detector.head)
        self._assign("head", found.detector.head)
        found.detector.train()
        return found

    def _add(self, part: str, module: nn.Module) -> None:
        for key, value in _by_key(part, module).items():
            self._tensors.setdefault(key, value)

    def _assign(self, part: str, module: nn.Module) -> None:
        state = module.state_dict()
        module.load_state_dict({name: self._tensors[_key(part, name, state[name])] for name in state}, assign=True)


def inherit(candidate: Candidate, state: Mapping[str, Tensor]) -> None:
    """Give a candidate the shared values; what it has beyond them stays as it is."""
    with torch.no_grad():
        for part, module in (("head", candidate.detector.head), ("neck", candidate.neck)):
            for key, value in _by_key(part, module).items():
                if key in state:
                    value.copy_(state[key])


def train_supernet(
    graphs: Sequence[NeckGraph],
    batches: Batches,
    *,
    compile: Compile,
    with_head: WithHead,
    config: ProxyConfig,
    progress: Progress = no_progress,
) -> dict[str, Tensor]:
    """Shared weights for ``graphs``, as :func:`inherit` takes them.

    First one graph alone is trained, which gives head and laterals a start; then each update is the mean gradient of
    some of the others, in order. Graphs of which no candidate can be built are left out.

    Args:
        graphs: The first is the one that begins.
        batches: One for each step and update.
        compile, with_head: As for :class:`SharedWeights`.
        config: Optimiser, and how long.
        progress: Told (what, done, total).

    Raises:
        ConfigError: the training diverged or takes too much of a GPU's memory, or no graph can be built.
    """
    warm, count, options = config.supernet.warm, config.supernet.paths, config.train
    total = warm + (len(graphs) - 1) // count

    def report(before: int) -> Callable[[int, int], None]:
        return lambda done, _: progress("supernet training", before + done, total)

    try:
        first, others = _first(graphs, lambda graph: with_head(compile(graph)))

        def warm_losses(step: int) -> dict[str, Tensor]:
            return batches.losses(first, step, first.outputs(batches.features(step)))

        fit([first.detector.train()], warm_losses, options, steps=warm, progress=report(0))
        shared = SharedWeights(first, compile, with_head)
        paths = [path for path in (_built(shared.path, graph) for graph in others) if path is not None]

        def losses_at(step: int) -> dict[str, Tensor]:
            features = batches.features(warm + step)
            return {
                f"{i}.{name}": loss / count
                for i, path in enumerate(paths[step * count : (step + 1) * count])
                for name, loss in batches.losses(path, warm + step, path.outputs(features)).items()
            }

        after = replace(options, warmup=0.0)  # that was the warm start
        updates = len(paths) // count
        if updates:
            fit([shared.parameters], losses_at, after, steps=updates, progress=report(warm))
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


def _first(
    graphs: Sequence[NeckGraph], make: Callable[[NeckGraph], Candidate]
) -> tuple[Candidate, Sequence[NeckGraph]]:
    """The first candidate that can be built, and the graphs after it."""
    for number, graph in enumerate(graphs):
        found = _built(make, graph)
        if found is not None:
            return found, graphs[number + 1 :]
    raise ConfigError(f"none of {len(graphs)} candidates of the space can be built, so there are none to share weights")


def _built(make: Callable[[NeckGraph], Candidate], graph: NeckGraph) -> Candidate | None:
    """A candidate; None if there is none, which a search records as one that failed."""
    try:
        return make(graph)
    except torch.OutOfMemoryError:
        raise
    except (NasneckError, RuntimeError, ValueError):
        return None


def _by_key(part: str, module: nn.Module) -> dict[str, Tensor]:
    return {_key(part, name, value): value for name, value in module.state_dict(keep_vars=True).items()}


def _key(part: str, name: str, value: Tensor) -> str:
    return f"{part}.{name} {'x'.join(map(str, value.shape))}"
