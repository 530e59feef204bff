"""Answers kept on disk for the next process, such as the layers of a network or the size of an image.

Torch takes more memory than the plan of 100,000 jobs and seconds to load, so a process that only plans a sweep reads answers
from here instead of importing it.
"""

import hashlib
import json
import logging
import zlib
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adbench.core import plugins
from adbench.core.errors import DataError
from adbench.core.files import write_text
from adbench.types import digest

_LOG = logging.getLogger("adbench")


class Memo:
    """Questions and answers, kept in one file with a checksum; both must be JSON values.

    made_by: what the answers depend on beside their questions, such as library versions. A file that is damaged or was made
    by something else is ignored and overwritten. A file that cannot be written is skipped: its questions are asked again next
    time. file: None keeps the answers in memory only.
    """

    def __init__(self, file: Path | None, made_by: Any = None) -> None:
        self._file, self._made_by = file, made_by
        self._known, self._changed = _read(file, made_by) if file else {}, False

    def get(self, question: Any) -> Any:
        """Return the known answer, or None."""
        return self._known.get(_key(question))

    def put(self, question: Any, answer: Any) -> None:
        """Keep an answer until `write`; safe in threads."""
        self._known[_key(question)], self._changed = answer, True

    def write(self) -> None:
        """Write the file if an answer was added."""
        if not self._file or not self._changed:
            return
        try:
            answers = json.dumps(self._known)
            head = json.dumps({"made_by": self._made_by, "crc32": zlib.crc32(answers.encode())})
            write_text(self._file, f"{head}\n{answers}")
        except DataError as error:
            _LOG.debug("%s", error)
        self._changed = False

    def answer(self, question: Any, compute: Callable[[], Any], is_valid: Callable[[Any], bool] = lambda _: True) -> Any:
        """Return the answer to `question`: the known one if it is still valid, else what `compute` returns, which is written."""
        known = self.get(question)
        if known is None or not is_valid(known):
            self.put(question, known := compute())
            self.write()
        return known


def _key(question: Any) -> str:
    return question if isinstance(question, str) else digest(question)


def _read(file: Path, made_by: Any) -> dict[str, Any]:
    try:
        head, answers = file.read_bytes().split(b"\n")
        facts = json.loads(head)
        if facts["made_by"] == json.loads(json.dumps(made_by)) and facts["crc32"] == zlib.crc32(answers):
            return dict(json.loads(answers))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return {}


@lru_cache(maxsize=1)
def code_and_libraries() -> str:
    """Return a digest of the source code of this package and its plug-ins, and of the versions of torch, torchvision and timm."""
    folder = Path(__file__).parent.parent
    sources = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        sources.update(f"\n{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest([sources.hexdigest(), plugins.digests(), *(version(package) for package in ("torch", "torchvision", "timm"))])
