"""Answers of code that loads torch, kept for the next process: torch takes more memory than the plan of 100,000 jobs.

An answer holds for the source code of this package and the versions of the libraries that gave it.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adbench.core.errors import DataError
from adbench.core.files import write_text
from adbench.types import digest


class Memo:
    """Questions and answers in one file, both as JSON can hold them. A file that is damaged or of other code is forgotten."""

    def __init__(self, file: Path) -> None:
        self._file, self._known = file, _read(file)

    def to(self, question: Sequence[Any], ask: Callable[[], Any], holds: Callable[[Any], bool] = lambda _: True) -> Any:
        """Return the answer to `question`: the one that is known if it still `holds`, else what `ask` gives."""
        key = digest(question)
        if key not in self._known or not holds(self._known[key]):
            self._known[key] = ask()
            with suppress(DataError):  # a cache of another user: it is asked again next time
                write_text(self._file, json.dumps({"made_by": _made_by(), "answers": self._known}))
        return self._known[key]


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["made_by"] == _made_by():
            return dict(content["answers"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {}


@lru_cache(maxsize=1)
def _made_by() -> str:
    """Return the digest of all that decides an answer but the question."""
    folder = Path(__file__).parent.parent
    sources = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        sources.update(f"\n{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest([sources.hexdigest(), *(version(package) for package in ("torch", "torchvision", "timm"))])
