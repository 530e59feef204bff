"""The names that commands accept, with a sentence each. They are kept in the cache folder: some tables take seconds to load."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from inspect import getdoc
from pathlib import Path
from typing import Any

from adbench.core.environment import cache_folder
from adbench.core.registry import TABLES, table

_HIDDEN = ("families", "pretrainings")  # their names are prefixes and parts of others
KINDS = ("backbones", "layers", "weights", "presets", *sorted(TABLES.keys() - set(_HIDDEN)))
_OWN_DOCSTRING = ("defects", "detectors")  # the sentence stands in an item's docstring; elsewhere in that of its module


def about(kind: str, cache: Path | None = None) -> dict[str, str]:
    """Return the sentence about each preset, or about each item of a plug-in table, by name."""
    return dict(_kept(["about", kind], cache, _presets if kind == "presets" else lambda: _items(kind)))


def backbones(cache: Path | None = None) -> list[str]:
    """Return the names of all backbones."""

    def ask() -> list[str]:
        from adbench.backbones.families import all_backbones

        return list(all_backbones())

    return list(_kept("backbones", cache, ask))


def weights(backbone: str, cache: Path | None = None) -> list[str]:
    """Return the labels of the weights of a backbone."""

    def ask() -> list[str]:
        from adbench.backbones.weights import labels

        return labels(backbone)

    return list(_kept(["weights", backbone], cache, ask))


def table_keys(cache: Path | None = None) -> list[str]:
    """Return the keys of a job that can make the rows or columns of a report."""

    def ask() -> list[str]:
        from adbench.reports.keys import KEYS

        return list(KEYS)

    return list(_kept("keys", cache, ask))


def _kept(question: Any, cache: Path | None, ask: Callable[[], Any]) -> Any:
    """Return an answer, asked once for each state of the code, the libraries and the plug-ins from outside."""
    from adbench.core.memo import Memo, code_and_libraries

    return Memo(cache_folder(cache) / "backbones" / "names.json", code_and_libraries()).answer(question, ask)


def _presets() -> dict[str, str]:
    """Return the first sentence of the comment at the head of each preset."""
    from adbench.sweep.spec import preset_names, preset_text

    heads = {name: re.match(r"(#.*\n)*", preset_text(name)) for name in preset_names()}
    return {name: first_sentence(head[0].replace("#", "")) if head else "" for name, head in heads.items()}


def _items(kind: str) -> dict[str, str]:
    found = {}
    for name, item in sorted(table(kind).items().items()):
        home = sys.modules[getattr(item, "section", item).__module__]  # a study is a value; its function has a home
        docstring = getdoc(item) if kind in _OWN_DOCSTRING else home.__doc__ or getdoc(item)
        found[name] = first_sentence(docstring or "")
    return found


def first_sentence(text: str) -> str:
    """Return the first sentence of the first paragraph, on one line."""
    line = " ".join(text.strip().split("\n\n")[0].split())
    # a period within a sentence ("et al. (2019)") has no capital letter behind it
    return re.split(r"(?<=[.?!])\s(?=[A-Z`])", line, maxsplit=1)[0]
