"""Studies: the paper's questions, each asked of any results that can answer it; one file each, found by import.

A study is about one key, such as the layer. Results answer it where jobs that agree in all other keys differ in that one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adbench.core.registry import Registry
from adbench.reports.formats import Section
from adbench.reports.keys import KEYS, VIEW_KEYS, KeyedJob, varies


@dataclass(frozen=True)
class Study:
    """The contract: the key that the study is about, a function that returns its section, and keys of other studies.

    Where a key in `unless` varies too, the results were made for another study, and this one is shown only on request.
    """

    key: str
    section: Callable[[Sequence[KeyedJob]], Section]
    unless: tuple[str, ...] = ()

    def answered_by(self, jobs: Sequence[KeyedJob]) -> bool:
        """Return whether the results can answer it."""
        own = (*VIEW_KEYS, self.key) if self.key == "view" else (self.key,)
        return varies(jobs, self.key, [key for key in KEYS if key not in own])

    def recognized_in(self, jobs: Sequence[KeyedJob]) -> bool:
        """Return whether the results were made for it."""
        return self.answered_by(jobs) and not any(Study(key, self.section).answered_by(jobs) for key in self.unless)


STUDIES: Registry[Study] = Registry("study", __name__)
register = STUDIES.register
