"""Studies: the paper's questions, each asked of any results that can answer it; one file each, found by import.

A study is about one key, such as the layer. Results answer it where jobs that agree in all other keys differ in that one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adbench.core.registry import Registry
from adbench.reports.formats import Section
from adbench.reports.keys import KEYS, KeyedJob, varies


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
        return _differ(jobs, self.key)

    def recognized_in(self, jobs: Sequence[KeyedJob]) -> bool:
        """Return whether the results were made for it."""
        return self.answered_by(jobs) and not any(_differ(jobs, key) for key in self.unless)


def _differ(jobs: Sequence[KeyedJob], key: str) -> bool:
    return varies(jobs, key, [other for other in KEYS if other != key])


STUDIES: Registry[Study] = Registry("study", __name__)
register = STUDIES.register
