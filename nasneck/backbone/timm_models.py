"""timm's models as backbones. timm is imported here and nowhere else."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from nasneck.backbone.module import Backbone, check_levels, one_line
from nasneck.errors import ConfigError


def timm_backbone(name: str, wanted: tuple[int, ...], *, norm: str, pretrained: bool) -> Backbone:
    try:
        import timm
        from timm.layers.norm_act import freeze_batch_norm_2d
    except ImportError:
        raise ConfigError(f"backbone 'timm:{name}' needs timm, which is not installed: pip install timm") from None
    if norm == "group":
        raise ConfigError(f"norm 'group' cannot be put into 'timm:{name}'; use batch (its own norm) or frozen")
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        raise ConfigError(f"timm has no model {name!r}" + (f"; near: {', '.join(near)}" if near else ""))
    create = functools.partial(timm.create_model, name, features_only=True)
    info = _timm_call(create, name).feature_info
    # A model may repeat a level; its last map there is the deepest.
    has = {
        int(math.log2(stride)): index for index, stride in enumerate(info.reduction()) if math.log2(stride).is_integer()
    }
    check_levels(f"timm:{name}", wanted, has)
    indices = tuple(info.out_indices[has[level]] for level in wanted)
    model = _timm_call(create, name, pretrained=pretrained, out_indices=indices)
    widths = dict(zip(wanted, model.feature_info.channels(), strict=True))
    if norm == "frozen":
        model = freeze_batch_norm_2d(model)
    config: dict[str, Any] = getattr(model, "pretrained_cfg", {})
    return Backbone(
        model,
        widths,
        channels_last=_is_channels_last(model, name, widths),
        mean=tuple(config.get("mean", (0.485, 0.456, 0.406))),
        std=tuple(config.get("std", (0.229, 0.224, 0.225))),
    )


def _timm_call(create: Callable[..., Any], name: str, **options: Any) -> Any:
    try:
        try:
            # Window models take other sizes than the one they were trained at only when told so.
            return create(strict_img_size=False, **options)
        except TypeError as error:
            if "strict_img_size" not in str(error):
                raise
            return create(**options)
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"timm model {name!r} cannot give a pyramid of features: {one_line(error)}") from error


def _is_channels_last(model: nn.Module, name: str, widths: Mapping[int, int]) -> bool:
    """Find out by a dry run whether the maps are (N, H, W, C)."""
    training = model.training
    layouts: set[bool] = set()
    problem = ""
    # Not square, so that height, width and channels cannot be mistaken for each other; square for models
    # that take nothing else.
    for height, width in ((128, 256), (256, 256), (224, 224)):
        try:
            with torch.no_grad():
                maps = model.eval()(torch.zeros(1, 3, height, width))
        except (AssertionError, RuntimeError, ValueError) as error:
            problem = one_line(error)
            continue
        finally:
            model.train(training)
        for (level, channels), features in zip(widths.items(), maps, strict=True):
            size = (-(-height // 2**level), -(-width // 2**level))
            shape = tuple(features.shape[1:])
            fits = {last for last, s in ((False, (channels, *size)), (True, (*size, channels))) if s == shape}
            if not fits:
                raise ConfigError(
                    f"backbone 'timm:{name}': the map of level {level} has shape {tuple(features.shape)} for "
                    f"an image of {height} x {width}; neither (1, {channels}, {size[0]}, {size[1]}) nor "
                    "channels last"
                )
            if len(fits) == 1:
                layouts |= fits
        if len(layouts) == 1:
            return layouts.pop()
    if problem and not layouts:
        raise ConfigError(f"backbone 'timm:{name}' fails on images of 128 to 256 px: {problem}")
    raise ConfigError(f"backbone 'timm:{name}': cannot tell channels from height and width in its maps")
