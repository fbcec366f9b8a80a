"""Errors that a user can cause. Each message says what was wrong, where, and what would be right.

The command line prints the message as one line and exits with status 2; a traceback means a bug of ours.
"""


class NasneckError(Exception):
    """Base of every error that nasneck raises on purpose."""


class GraphError(NasneckError, ValueError):
    """A neck graph that cannot exist: a cycle, a dangling input, levels that do not meet."""


class CompileError(NasneckError, ValueError):
    """A valid graph that cannot become a module with the widths or feature maps given."""


class CheckpointError(NasneckError, ValueError):
    """Weights of another implementation that are not of the neck that they are loaded into."""


class SpaceError(NasneckError, ValueError):
    """A search space that cannot be decoded, or a graph that does not lie in it."""


class ConfigError(NasneckError, ValueError):
    """A setting, file or name that is unknown, missing or of the wrong kind."""


class DataError(NasneckError, ValueError):
    """Images or annotations that are missing, broken or contradict each other."""


class DeviceError(NasneckError, RuntimeError):
    """A device that was asked for and is not there."""


class StudyError(NasneckError, RuntimeError):
    """A study that cannot be opened, resumed or continued."""


class ClusterError(NasneckError, RuntimeError):
    """A Ray cluster that does not answer or has no room for a trial, or a worker that cannot start."""
