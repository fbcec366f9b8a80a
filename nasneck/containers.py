"""How a neck hands its maps back: in the kind of container that the features came in.

Needs torch alone: ``export`` copies it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


def pack(
    features: Sequence[Tensor] | Mapping[Any, Tensor],
    maps: tuple[Tensor, ...],
    in_levels: Sequence[int],
    out_names: Mapping[int, str],
) -> Any:
    """Return ``maps`` in a container like ``features``.

    Args:
        features: What came in: a list, a tuple, or an ordered mapping.
        maps: The outputs, finest first.
        in_levels: Level of each feature.
        out_names: Level of each output, with its name if a mapping came in that has no name for the level.
    """
    if isinstance(features, list):
        return list(maps)
    if not isinstance(features, Mapping):
        return maps
    names = dict(zip(in_levels, features, strict=True))
    numbered = all(isinstance(name, int) for name in names.values())
    packed: OrderedDict[Any, Tensor] = OrderedDict()
    for (level, name), x in zip(out_names.items(), maps, strict=True):
        packed[names.get(level, level if numbered else name)] = x
    return packed
