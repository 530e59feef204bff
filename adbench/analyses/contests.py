"""Configurations side by side: one metric, the categories in which all of them have a value. No analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from adbench.analyses import Question
from adbench.metrics import ORDER
from adbench.reports.keys import Entry, natural
from adbench.statistics.ranks import mean_ranks
from adbench.studies.grid import cut, varying
from adbench.types import Result

Block = tuple[str, str, str]
BLOCK_KEYS = (
    "dataset",
    "fingerprint",
    "category",
)  # what is measured on; neither it nor the scale names a configuration
SCALE_KEYS = ("eval_size", "pro_limit")


@dataclass(frozen=True)
class Contest:
    """k configurations in n categories by one metric; `cells[j][i]` are the results, one per seed, of j in category i.

    `scale` is the evaluation grid and the like, in words, where results have several; `planned` counts all categories.
    """

    metric: str
    scale: str
    names: Sequence[str]
    entries: Sequence[Sequence[Entry]]
    categories: Sequence[str]
    cells: Sequence[Sequence[Sequence[Result]]]
    planned: int

    @property
    def title(self) -> str:
        return f"{self.metric}, {self.scale}" if self.scale else self.metric

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(n, k): means over seeds."""
        rows = [[fmean(r.metrics[self.metric] or 0 for r in seeds) for seeds in cells] for cells in self.cells]
        return np.array(rows, dtype=float).T

    @cached_property
    def best(self) -> int:
        """The configuration with the best mean, of equal ones that with the best mean rank."""
        return min(range(len(self.names)), key=lambda j: (-self.means[j], self.ranks[j]))

    @property
    def others(self) -> list[int]:
        """All but the best."""
        return [j for j in range(len(self.names)) if j != self.best]

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """(k,): over categories."""
        return np.asarray(self.values.mean(axis=0))

    @cached_property
    def ranks(self) -> NDArray[np.float64]:
        """(k,): mean ranks over categories, 1 = best."""
        return mean_ranks(self.values)


def contests(found: Sequence[Entry], question: Question) -> list[Contest]:
    """Return a contest per metric and scale in which at least two configurations meet in at least one category."""
    keys = [key for key in question.rows if key not in (*BLOCK_KEYS, *SCALE_KEYS)]
    scales = cut(found, varying(found, SCALE_KEYS))
    made = [_contest(scale.label, scale.entries, keys, metric) for metric in question.metrics for scale in scales]
    return [contest for contest in made if len(contest.names) > 1 and contest.categories]


def _contest(scale: str, found: Sequence[Entry], keys: Sequence[str], metric: str) -> Contest:
    rows = [(part, _by_category(part.entries, metric)) for part in cut(found, keys)]
    rows = [(part, cells) for part, cells in rows if cells]
    common = set.intersection(*(set(cells) for _, cells in rows)) if rows else set()
    ordered = sorted(common, key=lambda block: (block[0], natural("category", block[2]), block[1]))
    planned = {_block(entry) for entry in found}
    return Contest(
        metric,
        scale,
        [part.label for part, _ in rows],
        [part.entries for part, _ in rows],
        [category for _, _, category in ordered],
        [[cells[block] for block in ordered] for _, cells in rows],
        len(planned),
    )


def _by_category(entries: Sequence[Entry], metric: str) -> dict[Block, list[Result]]:
    """Return the results in each category in which every seed has a value."""
    cells: dict[Block, list[Result | None]] = {}
    for entry in entries:
        cells.setdefault(_block(entry), []).append(entry.done)
    whole = {block: [r for r in seeds if r and r.metrics.get(metric) is not None] for block, seeds in cells.items()}
    return {block: seeds for block, seeds in whole.items() if len(seeds) == len(cells[block])}


def _block(entry: Entry) -> Block:
    return entry.job.dataset, entry.job.fingerprint, entry.job.category


def resampled(contest: Contest, question: Question) -> NDArray[np.float64] | None:
    """Return replicates (k, n, R) of the values, means over seeds; None if any is not there or was drawn otherwise."""
    for cells in zip(*contest.cells, strict=True):
        if len({result.details.get("resamples") for seeds in cells for result in seeds}) > 1:
            return None
    row = ORDER.index(contest.metric) if contest.metric in ORDER else None
    found = [[[question.replicates(result) for result in seeds] for seeds in cells] for cells in contest.cells]
    if row is None or any(one is None for cells in found for seeds in cells for one in seeds):
        return None
    means = [[np.mean([one[row] for one in seeds if one is not None], axis=0) for seeds in cells] for cells in found]
    return np.array(means, dtype=float)
