"""Where the candidates of an experiment are measured: in this process, or by workers on Ray.

Both evaluate with the proxy task of the experiment and give the same measurements for the same graphs.
"""

from nasneck.workplace.base import Workplace
from nasneck.workplace.local import LocalWorkplace

__all__ = ["LocalWorkplace", "Workplace"]
