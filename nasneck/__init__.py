"""nasneck: neural architecture search for the pyramid necks of object detectors.

Names are imported when they are first used, so that graphs, spaces and ``nasneck --help`` do not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nasneck import necks as necks
    from nasneck.compile import compile_neck as compile_neck
    from nasneck.graph import Edge as Edge
    from nasneck.graph import NeckGraph as NeckGraph
    from nasneck.graph import Node as Node
    from nasneck.peers import load_peer_state as load_peer_state
    from nasneck.peers import peer_state as peer_state
    from nasneck.space import SearchSpace as SearchSpace
    from nasneck.space import load_space as load_space

_HOMES = {
    "Edge": "nasneck.graph",
    "NeckGraph": "nasneck.graph",
    "Node": "nasneck.graph",
    "SearchSpace": "nasneck.space",
    "compile_neck": "nasneck.compile",
    "load_peer_state": "nasneck.peers",
    "load_space": "nasneck.space",
    "necks": "nasneck",
    "peer_state": "nasneck.peers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    value = import_module(f"{home}.{name}") if home == __name__ else getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
