"""What every use of Optuna here needs: that it is installed, that it is silent, and decisions in its terms."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nasneck.decision import Decision
from nasneck.errors import ConfigError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def require_optuna() -> None:
    """Import Optuna, or say how to get it.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna  # noqa: F401  (only whether it can be imported matters)
    except ImportError as error:
        raise ConfigError(f"Optuna is missing ({error}); pip install optuna") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's log and its notes on experimental features from the user; needs an imported Optuna.

    Its level of logging is global, and the user may use Optuna for something else: it holds again outside.
    """
    from optuna.exceptions import ExperimentalWarning

    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        logger.setLevel(level)


def distributions_of(decisions: Sequence[Decision]) -> dict[str, BaseDistribution]:
    """A categorical parameter per decision; its values are the indices of the choices."""
    from optuna.distributions import CategoricalDistribution

    return {decision.name: CategoricalDistribution(range(decision.choices)) for decision in decisions}
