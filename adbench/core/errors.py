"""Errors that a user can act on. Each message is one line: what, where, which value, what to do."""


class AdbenchError(Exception):
    """Base of every error that the command line prints as one line; `exit_code` is the process's."""

    exit_code = 1

    def __str__(self) -> str:
        """The message on one line, also where a file's name or a value that it tells has several."""
        return " ".join(super().__str__().splitlines())


class UsageError(AdbenchError):
    """A name, key or value that does not exist or does not fit."""

    exit_code = 2


class DataError(AdbenchError):
    """Images, masks, folders, results or cache entries that are missing, unreadable or not writable."""

    exit_code = 3


class WeightsError(DataError):
    """Backbone weights that are not there, cannot be fetched, or do not fit the network."""


class DetectorError(AdbenchError):
    """A detector that cannot be fitted to these features, e.g. because its training diverged."""


class ClusterError(AdbenchError):
    """Slurm or Ray, or the Python package for it, that is not installed, not reachable, or refuses the tasks."""

    exit_code = 3
