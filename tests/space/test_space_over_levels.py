"""A shipped space follows the levels that an experiment's necks have."""

import pytest

from nasneck import necks
from nasneck.errors import SpaceError
from nasneck.experiment import Choice
from nasneck.proxy import NeckConfig
from nasneck.search_space import build_space


@pytest.mark.parametrize(
    ("inputs", "levels", "intermediate"),
    [
        ((3, 5), (3, 7), (4, 5, 6, 7)),
        ((2, 5), (2, 6), (3, 4, 5, 6)),
        ((3, 5), (3, 6), (4, 5, 6)),
        ((3, 5), (4, 5), (5,)),
    ],
)
def test_intermediate_levels_move_along(inputs, levels, intermediate):
    space = build_space(Choice("nas_fpn", {"repeats": 1}), NeckConfig(inputs=inputs, levels=levels))
    assert space.intermediate_levels == intermediate
    assert space.decode((0,) * len(space.decisions)).output_levels == tuple(range(levels[0], levels[1] + 1))


def test_the_published_network_is_in_the_moved_space():
    space = build_space(Choice("nas_fpn", {"repeats": 1}), NeckConfig(inputs=(2, 5), levels=(2, 6)))
    graph = necks.nas_fpn((2, 5), (2, 6), repeats=1)
    assert space.decode(space.encode(graph)).key() == graph.key()


def test_what_the_user_says_wins():
    with pytest.raises(SpaceError, match="intermediate level 7 is not one of"):
        build_space(Choice("nas_fpn", {"intermediate_levels": (7,)}), NeckConfig(inputs=(2, 5), levels=(2, 6)))
