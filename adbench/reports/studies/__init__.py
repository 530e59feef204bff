"""The paper's questions, each asked of any results that can answer it; one file each, found by import.

A study is about one key of the records, such as the layer. Results answer it where jobs that are alike in all else differ in
that key; it then makes a section of tables, figures and notes out of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adbench.core.registry import Registry
from adbench.reports.formats import Section
from adbench.reports.keys import KEYS, Entry, varies


@dataclass(frozen=True)
class Study:
    """The contract: the key that it is about, its section, and keys of questions that come first.

    Where one of `unless` varies too, the results were made for another study, and this one is shown only when it is named.
    """

    key: str
    section: Callable[[Sequence[Entry]], Section]
    unless: tuple[str, ...] = ()

    def answered_by(self, found: Sequence[Entry]) -> bool:
        """Return whether the results can answer it."""
        return differ(found, self.key)

    def recognised_in(self, found: Sequence[Entry]) -> bool:
        """Return whether the results were made for it."""
        return self.answered_by(found) and not any(differ(found, key) for key in self.unless)


def differ(found: Sequence[Entry], key: str) -> bool:
    """Return whether jobs that are alike in all other keys differ in `key`."""
    return varies(found, key, [other for other in KEYS if other != key])


STUDIES: Registry[Study] = Registry("study", __name__)
register = STUDIES.register
