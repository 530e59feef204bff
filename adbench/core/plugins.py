"""Plug-ins from outside: installed packages with an entry point in the group `adbench.plugins`, and files of `ADBENCH_PLUGINS`.

They are imported when a plug-in table is first looked into. Nothing else that a user names is ever imported: no specification,
data folder, results folder or model file.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import RLock
from types import ModuleType

from adbench.core.errors import UsageError

GROUP = "adbench.plugins"
VARIABLE = "ADBENCH_PLUGINS"  # file names, separated like those of PATH
_LOADED: dict[str, ModuleType] = {}  # by the name that messages and records use
_LOCK = RLock()
_state = {"loading": False, "loaded": False}


def load() -> None:
    """Import all plug-ins from outside, once; raise UsageError that names the one that cannot be imported.

    The files in `ADBENCH_PLUGINS` become absolute paths, so that processes which this one starts find them as well.
    """
    with _LOCK:
        if _state["loading"] or _state["loaded"]:  # loading: a plug-in that looks something up while it is imported
            return
        _state["loading"] = True
        try:
            _load_all()
            _state["loaded"] = True
        finally:
            _state["loading"] = False


def _load_all() -> None:
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        package = point.dist and point.dist.name
        _load(f"{point.name} = {point.value}", f"fix or uninstall its package {package}", partial(_import_module, point))
    texts = [text.strip() for text in os.environ.get(VARIABLE, "").split(os.pathsep)]
    files = [Path(text).expanduser().absolute() for text in texts if text]
    for file in files:
        _load(str(file), f"fix it, or take it out of {VARIABLE}", partial(import_file, file))
    if files:
        os.environ[VARIABLE] = os.pathsep.join(map(str, files))


def load_none() -> None:
    """Import no plug-ins from outside in this process."""
    _state["loaded"] = True


def is_loading() -> bool:
    """Return whether plug-ins from outside are being imported."""
    return _state["loading"]


def digests() -> dict[str, str]:
    """Return the digest of the source code of each plug-in from outside, by name; the code of a package counts as a whole."""
    load()
    return {name: _digest(module) for name, module in _LOADED.items()}


def import_file(file: Path) -> ModuleType:
    """Import a Python file and return its module; the same file is imported once."""
    name = f"adbench_plugin_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise ImportError("no such file")
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file; its name must end in .py")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(point: EntryPoint) -> ModuleType:
    return import_module(point.module)  # raises AttributeError for a value that is no module's name


def _load(name: str, remedy: str, import_it: Callable[[], ModuleType]) -> None:
    try:
        _LOADED[name] = import_it()
    except (Exception, SystemExit) as error:  # whatever the code of somebody else raises
        text = " ".join(str(error).split())
        raise UsageError(f"plug-in {name} cannot be imported ({type(error).__name__}: {text}); {remedy}") from error


def _digest(module: ModuleType) -> str:
    package = sys.modules[module.__name__.partition(".")[0]]
    folders = [Path(folder) for folder in getattr(package, "__path__", ())]
    files = sorted(path for folder in folders for path in folder.rglob("*.py")) or [Path(module.__file__ or "")]
    return hashlib.sha256(b"\n".join(path.read_bytes() for path in files)).hexdigest()
