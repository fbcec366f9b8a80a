"""Loading other implementations' weights into compiled necks, and giving them back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from nasneck.errors import CheckpointError
from nasneck.neck import Neck
from nasneck.peers import effdet, mmdet, original, torchvision
from nasneck.peers.names import Names, Pairs
from nasneck.settings import did_you_mean

Source = Literal["torchvision", "mmdet", "effdet", "original"]

_TABLES: dict[str, Mapping[str, Callable[[Names], Pairs]]] = {
    "torchvision": torchvision.NECKS,
    "mmdet": mmdet.NECKS,
    "effdet": effdet.NECKS,
    "original": original.NECKS,
}
_NORMALIZE: dict[str, Callable[[str], str]] = {"torchvision": torchvision.normalize}


def load_peer_state(neck: Neck, state: Mapping[str, Tensor], source: Source, *, prefix: str | None = None) -> None:
    """Load the weights that another implementation stored for the same neck.

    Args:
        neck: A compiled neck of this package, built with the options of the other one.
        state: A state dict: of the neck alone, or of a whole detector.
        source: Whose: ``torchvision`` (``FeaturePyramidNetwork``), ``effdet`` (``BiFpn``), ``mmdet``
            (``mmdet.models.necks``), or ``original``: the authors' code of M2Det, AugFPN, ASFF, GiraffeDet, OPANAS.
        prefix: What precedes the neck's names in ``state``, such as ``backbone.fpn.``. Found if None.

    Raises:
        CheckpointError: a neck or a form of it that ``source`` does not have, weights that are of another neck or
            dialect, or several such necks in ``state``; it names the node, its level, and what it would need. The
            neck is then as it was.

    What leaves no trace in names and shapes cannot be checked, so build the neck as the other one was built. For
    effdet: the activation (``act``; not SiLU in its lite, mobile and some PAN models), the padding, fast normalised
    against softmax fusion, and the resampling, which here is max pooling and nearest always (some of its models are
    bilinear). For mmdet: where extra levels of equal width come from, and ReLUs between them.
    For all: constants of norms.

    Example:
        >>> from torchvision.ops import FeaturePyramidNetwork
        >>> from nasneck import compile_neck, necks
        >>> neck = compile_neck(necks.fpn(levels=(3, 5)), [512, 1024, 2048])
        >>> theirs = FeaturePyramidNetwork([512, 1024, 2048], 256)
        >>> load_peer_state(neck, theirs.state_dict(), "torchvision")
    """
    names = _key_names(neck, source)
    normalize = _NORMALIZE.get(source, str)
    given = {normalize(key): value for key, value in state.items()}
    wanted = [theirs for several in names.values() for theirs in several]
    found = _find_prefix(given, wanted, neck, source) if prefix is None and wanted else prefix or ""
    given = {key.removeprefix(found): value for key, value in given.items() if key.startswith(found)}
    own = neck.body.state_dict()
    values: dict[str, Tensor] = {}
    used: set[str] = set()
    for ours, several in names.items():
        there = [theirs for theirs in several if theirs in given]
        used.update(there)
        if not there:
            if ours.endswith("num_batches_tracked"):  # checkpoints of old have none
                continue
            raise CheckpointError(f"{_where(neck, ours)} needs {found}{several[0]}, which the checkpoint has not")
        first = given[there[0]]
        if first.shape != own[ours].shape:
            raise CheckpointError(
                f"{_where(neck, ours)} needs {found}{there[0]} of shape {tuple(own[ours].shape)}, "
                f"not {tuple(first.shape)}"
            )
        if any(not torch.equal(first, given[other]) for other in there[1:]):
            raise CheckpointError(
                f"{_where(neck, ours)} has one set of weights for {', '.join(there)}, which differ in the checkpoint"
            )
        values[ours] = first
    # An author's checkpoint may hold the whole detector without a prefix.
    whole = source == "original" and not found
    roots = {theirs.split(".")[0] for theirs in wanted}
    left = [key for key in given if key not in used and not key.endswith("num_batches_tracked")]
    left = [key for key in left if not whole or key.split(".")[0] in roots]
    if left:
        raise CheckpointError(
            f"{neck.graph.name}: the checkpoint has {found}{left[0]} ({len(left)} such), which this form of the neck "
            "has no place for; build it with the options of that checkpoint"
        )
    neck.body.load_state_dict({**own, **values})


def peer_state(neck: Neck, source: Source) -> dict[str, Tensor]:
    """The weights of ``neck`` under the names that ``source`` gives them; the inverse of :func:`load_peer_state`.

    Raises:
        CheckpointError: a neck that ``source`` does not have.
    """
    own = neck.body.state_dict()
    return {theirs: own[ours] for ours, several in _key_names(neck, source).items() for theirs in several}


def _key_names(neck: Neck, source: str) -> dict[str, tuple[str, ...]]:
    """For every entry of the neck's state dict, its names in the state dict of ``source``."""
    if source not in _TABLES:
        raise CheckpointError(f"unknown source {source!r}{did_you_mean(source, get_args(Source))}")
    table = _TABLES[source]
    name = neck.graph.name
    if name not in table:
        raise CheckpointError(f"{source} has no neck {name!r}{did_you_mean(name, table)}")
    exact: dict[str, tuple[str, ...]] = {}
    patterns: list[tuple[re.Pattern[str], tuple[str, ...]]] = []
    for ours, theirs in table[name](Names(neck)):
        if "*" in ours:
            patterns.append((re.compile(re.escape(ours).replace(r"\*", r"[^.]+")), theirs))
        else:
            exact[ours] = theirs

    def look_up(path: str) -> tuple[str, ...] | None:
        return exact.get(path) or next((theirs for pattern, theirs in patterns if pattern.fullmatch(path)), None)

    found: dict[str, tuple[str, ...]] = {}
    for key in neck.body.state_dict():
        path, _, leaf = key.rpartition(".")
        theirs = look_up(key)  # a bare parameter
        if theirs is None and (modules := look_up(path)) is not None:
            theirs = tuple(f"{module}.{leaf}" for module in modules)
        if theirs is None:
            raise CheckpointError(f"{source} has no place for {key!r} of {name!r}: it has no such form of this neck")
        found[key] = theirs
    return found


def _find_prefix(given: Iterable[str], wanted: Sequence[str], neck: Neck, source: str) -> str:
    """What precedes the most of the names ``wanted`` in ``given``."""
    times = Counter(
        key[: len(key) - len(theirs)] for theirs in wanted for key in given if f".{key}".endswith(f".{theirs}")
    )
    if not times:
        raise CheckpointError(
            f"the checkpoint has none of {source}'s weights of {neck.graph.name!r}, such as {wanted[0]}"
        )
    (best, most), *others = times.most_common()
    equal = [best, *(prefix for prefix, count in others if count == most)]
    if len(equal) > 1:
        raise CheckpointError(f"the checkpoint has several such necks; say prefix= {' or '.join(map(repr, equal))}")
    return best


def _where(neck: Neck, key: str) -> str:
    name = key.split(".")[0]
    level = neck.graph[name].level
    return f"{neck.graph.name}: node {name!r} ({'off the pyramid' if level is None else f'level {level}'})"
