"""What all tests share: hypothesis draws the same examples on every run; long tests wait for NASNECK_LONG=1."""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "nasneck",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    # some properties need graphs that are few among all
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.load_profile("nasneck")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("NASNECK_LONG"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes a minute; NASNECK_LONG=1 runs it"))
