"""Errors that a user can act on. Each message is one line: what, where, which value, what to do."""


class AdbenchError(Exception):
    """Base of every error that the command line prints as one line before it ends with `exit_code`."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message on one line, even if a file name or a value in it contains line breaks."""
        return " ".join(super().__str__().splitlines())


class UsageError(AdbenchError):
    """A name, key or value that does not exist or does not fit."""

    exit_code = 2


class DataError(AdbenchError):
    """Images, masks, folders, results or cache entries that are missing, unreadable or not writable."""

    exit_code = 3


class WeightsError(DataError):
    """Backbone weights that are missing, cannot be downloaded, or do not fit the network."""


class DetectorError(AdbenchError):
    """A detector that cannot be fitted to these features, e.g. because its training diverged."""


class ClusterError(AdbenchError):
    """Slurm or Ray, or its Python package, is not installed or not reachable, or it refuses the tasks."""

    exit_code = 3
