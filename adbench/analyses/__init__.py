"""Further looks at results, shown when they are asked for; one file each, found by import.

An analysis looks at the jobs of a results folder and returns a section, which says so in a note where it has no data.
"""

from collections.abc import Callable, Sequence

from adbench.registry import Registry
from adbench.reports import Section
from adbench.reports.keys import Entry

Analysis = Callable[[Sequence[Entry]], Section]
ANALYSES: Registry[Analysis] = Registry("analysis", __name__)
register = ANALYSES.register
