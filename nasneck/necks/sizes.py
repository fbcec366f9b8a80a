"""Parameters and multiply-adds of the fixed necks at one setting, as data.

Counting them takes torch and seconds, so ``sizes.json`` holds them; ``python experiments/gallery.py`` writes it and a
test counts anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

SIZES_FILE = Path(__file__).with_name("sizes.json")
IMAGE_SIZE, CHANNELS = 512, 256
RESNET_50 = {2: 256, 3: 512, 4: 1024, 5: 2048}
OTHER_FEATURES = {"spinenet": {2: 64}}  # it reads its stem's feature
SETTING = (
    f"default options, ResNet-50 features (spinenet: a C2 of 64 channels), width {CHANNELS}, "
    f"one {IMAGE_SIZE}x{IMAGE_SIZE} image"
)


@dataclass(frozen=True, slots=True)
class NeckSize:
    """What a neck costs at :data:`SETTING`: trainable parameters and multiply-adds."""

    parameters: int
    macs: int

    @property
    def words(self) -> tuple[str, str]:
        """Three digits of both, parameters in millions and multiply-adds in billions: ``3.87 M`` and ``4.16``."""
        return f"{_three_digits(self.parameters / 1e6)} M", _three_digits(self.macs / 1e9)


def load_sizes() -> dict[str, NeckSize]:
    """Name -> size of every fixed neck, in the order of ``NECKS``."""
    table = json.loads(SIZES_FILE.read_text(encoding="utf-8"))
    return {name: NeckSize(**size) for name, size in table.items()}


def feature_widths(name: str) -> dict[int, int]:
    """Widths of the backbone features, by level, that the size of neck ``name`` is counted with."""
    return OTHER_FEATURES.get(name, RESNET_50)


def _three_digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")
