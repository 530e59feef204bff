"""The paper's questions, each asked of any results that can answer it; one file each, found by import.

A study looks at the jobs of a results folder and returns a section, or None if they do not vary in what it is about.
"""

from collections.abc import Callable, Sequence

from adbench.registry import Registry
from adbench.reports import Section
from adbench.reports.keys import Entry

Study = Callable[[Sequence[Entry]], Section | None]
STUDIES: Registry[Study] = Registry("study", __name__)
register = STUDIES.register
