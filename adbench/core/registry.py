"""Plug-in tables: every module of a package registers its items, and a lookup suggests the nearest valid name.

Plug-ins from outside the package register theirs in the same way (plugins.py).
"""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from threading import RLock
from typing import Any, Generic, TypeVar

from adbench.core import plugins
from adbench.core.errors import UsageError

T = TypeVar("T")
_MOST_OFFERED = 4  # names of which a part was written
TABLES = {  # by kind: the package that holds the plug-ins, and the name of its table
    "analyses": ("adbench.reports.analyses", "ANALYSES"),
    "datasets": ("adbench.data.layouts", "DATASETS"),
    "defects": ("adbench.data.synthetic.kinds", "KINDS"),
    "detectors": ("adbench.detectors", "DETECTORS"),
    "executors": ("adbench.sweep.executors", "EXECUTORS"),
    "families": ("adbench.backbones.families", "FAMILIES"),
    "formats": ("adbench.reports.formats", "FORMATS"),
    "metrics": ("adbench.metrics", "METRICS"),
    "pretrainings": ("adbench.backbones.pretraining", "PRETRAININGS"),
    "studies": ("adbench.reports.studies", "STUDIES"),
}


def squeeze(name: str) -> str:
    """Return the form of `name` that is compared: lower case, letters and digits only (`ResNet-50` becomes `resnet50`)."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def fits(name: str, pattern: str) -> bool:
    """Return whether `name` contains `pattern` or, if that has wildcards (`*`, `?`, `[`), matches it."""
    if any(character in pattern for character in "*?["):
        return fnmatchcase(name, pattern)
    return squeeze(pattern) in squeeze(name)


def unknown(kind: str, name: str, names: Iterable[str], see: str = "", where: str = "") -> UsageError:
    """Return the error for a name that is not among `names`, with the nearest one or, for a short list, all of them."""
    names = sorted(names)
    parts = [f"'{n}'" for n in names if name.lower() in re.split(r"[^a-z0-9]", n.lower())]  # `auroc` of `image_auroc`
    near = difflib.get_close_matches(squeeze(name), [squeeze(n) for n in names], n=1, cutoff=0.6)
    if 1 < len(parts) <= _MOST_OFFERED:
        hint = f"did you mean {', '.join(parts[:-1])} or {parts[-1]}?"
    elif near:
        hint = f"did you mean '{next(n for n in names if squeeze(n) == near[0])}'?"
    elif len(names) <= 12 or " " in kind:  # `adbench list` has no row keys
        hint = f"choose from: {', '.join(names) or '(none)'}"
    else:
        hint = f"'adbench list {see or kind.removesuffix('s') + 's'}' shows all"
    return UsageError(f"unknown {kind} '{name}'{where}; {hint}")


def nearest_by_number(name: str, names: Iterable[str]) -> str | None:
    """Return the name that differs from `name` in its numbers only, and in these the least (`blocks.12`: `blocks.11`)."""

    def parts(text: str) -> tuple[list[str], list[int]]:
        pieces = re.split(r"(\d+)", text)
        return pieces[::2], [int(number) for number in pieces[1::2]]

    words, numbers = parts(name)
    same = [n for n in names if parts(n)[0] == words] if numbers else []
    return min(same, key=lambda n: [abs(a - b) for a, b in zip(numbers, parts(n)[1], strict=True)], default=None)


def _numbers(name: str) -> list[int]:
    """Return the numbers in a name: `blocks.1.1` is not `blocks.11`, and `blocks.-1` not `blocks.1`; `ResNet-50` has no sign."""
    return [int(number) for number in re.findall(r"(?:(?<![A-Za-z0-9])-)?\d+", name)]


def match(kind: str, name: str, names: Iterable[str], see: str = "", where: str = "") -> str:
    """Return the member of `names` that a user meant by `name`; raise UsageError if there is none."""
    names = list(names)
    if name in names:
        return name
    same = [n for n in names if squeeze(n) == squeeze(name) and _numbers(n) == _numbers(name)]
    if len(same) == 1:
        return same[0]
    raise unknown(kind, name, names, see, where)


class Registry(Generic[T]):
    """Items of one kind by name. The modules of `package` are imported at the first lookup, so a new item is one new file."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._items: dict[str, T] = {}
        self._loaded, self._lock = False, RLock()

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its argument under `name`; a name taken twice is a programming error."""

        def add(item: T) -> T:
            if plugins.is_loading():
                self._import_own()  # first, so that a name which is taken is the outsider's error
            if name in self._items:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._items[name] = item
            return item

        return add

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self.items())

    def items(self) -> dict[str, T]:
        """Return all items by name; import the package's modules and the plug-ins from outside first."""
        self._import_own()
        plugins.load()
        return self._items

    def _import_own(self) -> None:
        with self._lock:  # other threads wait until the table is complete
            if self._loaded:
                return
            self._loaded = True  # first, as these modules register their items while plug-ins from outside are loaded
            package = importlib.import_module(self.package)
            for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg):
                importlib.import_module(f"{self.package}.{module}")

    def canonical(self, name: str) -> str:
        """Return the registered name that a user meant by `name`; raise UsageError with the nearest one."""
        return match(self.kind, name, self.names())

    def get(self, name: str) -> T:
        """Return the item called `name`; raise UsageError with the nearest valid name."""
        return self.items()[self.canonical(name)]


def table(kind: str) -> Registry[Any]:
    """Return the plug-in table of a kind in `TABLES`."""
    package, name = TABLES[kind]
    found: Registry[Any] = getattr(importlib.import_module(package), name)
    return found
