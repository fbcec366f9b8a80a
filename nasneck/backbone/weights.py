"""Weights for a backbone from a file, read without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from nasneck.backbone.module import Backbone, one_line
from nasneck.errors import ConfigError


def load_weights(backbone: Backbone, path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"backbone weights {path}: there is no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(f"backbone weights {path}: not a file of tensors ({one_line(error)})") from None
    for key in ("state_dict", "model", "backbone"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(f"backbone weights {path}: no state dict in it")
    own = backbone.state_dict()
    target: nn.Module = backbone if any(k in own for k in state) else backbone.body
    fit(target, state, where=str(path))


def fit(module: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load what ``module`` has of ``state``; later stages and the classifier in it are left out."""
    own = module.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    if missing:
        raise ConfigError(
            f"weights of {where} lack {missing[0]!r}" + (f" and {len(missing) - 1} more" * (len(missing) > 1))
        )
    for key, value in own.items():
        if key in state and state[key].shape != value.shape:
            raise ConfigError(
                f"weights of {where}: {key!r} has shape {tuple(state[key].shape)}, this backbone wants "
                f"{tuple(value.shape)}"
            )
    module.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)
