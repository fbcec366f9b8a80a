"""What all tests share: hypothesis draws the same examples on every run."""

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
