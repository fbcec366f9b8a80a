"""The network that NAS-FPN's search found: Ghiasi et al., "NAS-FPN", CVPR 2019, fig. 6.

The cells are those of tensorflow/tpu, models/official/detection/modeling/architecture/nasfpn.py. Ids 0..4 are
P3..P7 and the cells append 5..11; P5 and P7 turn out loose and join the outputs of their levels.

    5: P4 <- attention(P4, P6)          9: P5 out <- attention(7, 8) + P5
    6: P4 <- P4 + 5                    10: P7 out <- attention(6, 9) + P7
    7: P3 out <- P3 + 6                11: P6 out <- attention(9, 10)
    8: P4 out <- 6 + 7
"""

from __future__ import annotations

from nasneck.errors import GraphError
from nasneck.graph import Attention, NeckGraph, Sum
from nasneck.necks.merging import Dialect, ExtraFrom, MergingCell, Rounding, build_pyramid
from nasneck.necks.pyramid import LevelRange, check_range

# Level above the finest, op, inputs, output?
_PUBLISHED = (
    (1, "attention", (1, 3), False),
    (1, "sum", (1, 5), False),
    (0, "sum", (0, 6), True),
    (1, "sum", (6, 7), True),
    (2, "attention", (7, 8), True),
    (4, "attention", (6, 9), True),
    (3, "attention", (9, 10), True),
)

MMDET_ATTENTION = Attention(gate="finer", pool="avg")


def nas_fpn(
    inputs: LevelRange = (3, 5),
    levels: LevelRange = (3, 7),
    *,
    repeats: int = 7,
    dialect: Dialect = "reference",
    extra_from: ExtraFrom = "p5",
    bias: bool = True,
    separable: bool = False,
    rounding: Rounding = "ceil",
) -> NeckGraph:
    """The published NAS-FPN network.

    Args:
        inputs: First and last level of the backbone.
        levels: First and last level of the neck: five levels, since the published cells join five.
        repeats: Times the seven cells are applied; 7 in the paper's main models, 3 in its proxy task.
        dialect: ``reference`` is Google's: attention pools by maximum and the coarser map gates. ``mmdet``
            has average pooling, the finer map gating, and P6 and P7 with 1x1 convolutions.
        extra_from: As for :func:`nasneck.necks.merging.build_pyramid`.
        bias: Bias in the cells' convolutions.
        separable: Separable convolutions in the cells (NAS-FPNLite).
        rounding: As for :func:`nasneck.necks.merging.build_pyramid`.

    Raises:
        GraphError: a number of levels other than five.
    """
    check_range("nas_fpn", "levels", levels)
    if levels[1] - levels[0] != 4:
        raise GraphError(
            f"nas_fpn: the published network joins five levels, such as (3, 7); levels={levels!r} are "
            f"{levels[1] - levels[0] + 1}"
        )
    return build_pyramid(
        published_cells(levels[0], dialect=dialect),
        inputs=inputs,
        levels=levels,
        repeats=repeats,
        dialect=dialect,
        extra_from=extra_from,
        bias=bias,
        separable=separable,
        rounding=rounding,
        name="nas_fpn",
    )


def published_cells(finest: int = 3, *, dialect: Dialect = "reference") -> tuple[MergingCell, ...]:
    """The seven published cells over five levels from ``finest`` up."""
    attention = MMDET_ATTENTION if dialect == "mmdet" else Attention()
    return tuple(
        MergingCell(finest + above, attention if op == "attention" else Sum(), pair, output)
        for above, op, pair, output in _PUBLISHED
    )
