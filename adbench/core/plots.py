"""Import matplotlib whatever the user's settings for it are: figures are drawn into files, never on a screen."""

import logging
import os
import sys
from contextlib import suppress
from threading import Lock
from types import ModuleType

from adbench.core.errors import DataError

_SAFE = {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}  # a notebook's backend or a damaged file would stop the import
_LOCK = Lock()


def load_matplotlib() -> ModuleType:
    """Return matplotlib, imported with its own defaults where this process has not imported it yet.

    The user's backend is set afterward, for the user's own figures. Matplotlib uses a temporary folder where that of its
    settings cannot be written, and says nothing about it. Raises DataError if it finds no folder at all, or if the working
    folder has a damaged matplotlibrc.
    """
    with _LOCK:  # threads that draw overlays would restore each other's variables
        if "matplotlib" not in sys.modules:
            _import()
    import matplotlib

    return matplotlib


def _import() -> None:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    chosen = {name: os.environ.get(name) for name in _SAFE}
    os.environ |= _SAFE
    try:
        import matplotlib
    except UnicodeDecodeError as error:  # the working folder comes before MATPLOTLIBRC
        raise DataError("matplotlibrc: the file in the working folder is no UTF-8 text; fix or remove it") from error
    except OSError as error:
        raise DataError("matplotlib finds no folder that it can write; set MPLCONFIGDIR to one") from error
    finally:
        for name, value in chosen.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    if chosen["MPLBACKEND"]:
        with suppress(ValueError):  # no backend has that name
            matplotlib.rcParams["backend"] = chosen["MPLBACKEND"]
