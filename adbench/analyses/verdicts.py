"""What the tests say, in sentences. No analysis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adbench.analyses.contests import Contest
from adbench.statistics.ranks import ALPHA, friedman, holm, least_categories, wilcoxon

_NAMED = 4  # configurations that a sentence names
_LEVEL = f"at {ALPHA:.0%}"


def enough_categories(contest: Contest) -> bool:
    """Return whether the tests over categories can find anything."""
    return len(contest.categories) >= least_categories(len(contest.names) - 1)


def against_best(contest: Contest) -> NDArray[np.float64]:
    """Return p-values (k,) of Wilcoxon's test of each configuration against the best, Holm's correction; 1 for the best."""
    values, found = contest.values, np.ones(len(contest.names))
    tests = [wilcoxon(values[:, contest.best], values[:, j]) for j in contest.others]
    found[contest.others] = holm(np.array(tests))
    return found


def verdict(contest: Contest) -> str:
    """Return which configurations are not significantly different from the best over categories, or why that is not known."""
    n, k = len(contest.categories), len(contest.names)
    if not enough_categories(contest):
        return f"{contest.title}: {_too_few(contest)}"
    if k > 2 and (p := friedman(contest.values)) >= ALPHA:
        differences = f"no significant differences between {k} configurations over {n} categories"
        return f"{contest.title}: {differences} (Friedman, p = {p:.2g})"
    p_values = against_best(contest)
    different = [j for j in contest.others if p_values[j] < ALPHA]
    told = {
        "not significantly different": [j for j in contest.others if p_values[j] >= ALPHA],
        "significantly worse": [j for j in different if contest.ranks[j] >= contest.ranks[contest.best]],
        "significantly better in rank, with a lower mean": [
            j for j in different if contest.ranks[j] < contest.ranks[contest.best]
        ],
    }
    head = f"{contest.title}: {contest.names[contest.best]} has the best mean over {n} categories"
    return f"{head}; {_told(contest, told)} (Wilcoxon's test{', Holm' if k > 2 else ''}, {_LEVEL})"


def _too_few(contest: Contest) -> str:
    n, k = len(contest.categories), len(contest.names)
    of = f"{n}" if n == contest.planned else f"{n} of {contest.planned}"
    return (
        f"no test over categories: {of} in which all {k} configurations have a value, at least "
        f"{least_categories(k - 1)} are needed (over fewer, not even one that is best in each could reach p < {ALPHA} in "
        f"Wilcoxon's test{' with Holm' if k > 2 else ''})"
    )


def identical(contest: Contest) -> list[str]:
    """Return a sentence for each set of configurations that have the same value in every category."""
    alike = defaultdict(list)
    for name, column in zip(contest.names, contest.values.T, strict=True):
        alike[tuple(column)].append(name)
    n = len(contest.categories)
    where = "the only category" if n == 1 else f"all {n} categories"
    return [
        f"{contest.title}: {listed(names)} do not differ: equal in {where}"
        for names in alike.values()
        if len(names) > 1
    ]


def over_images(contest: Contest, p_values: NDArray[np.float64]) -> str:
    """Return which configurations are not significantly different from the best over the test images of all categories."""
    n = len(contest.categories)
    head = f"{contest.title}, over the test images of {'1 category' if n == 1 else f'{n} categories'}"
    told = {
        "not significantly different": [j for j in contest.others if p_values[j] >= ALPHA],
        "significantly worse": [j for j in contest.others if p_values[j] < ALPHA],
    }
    return (
        f"{head}: {contest.names[contest.best]} has the best mean; {_told(contest, told)} (paired bootstrap, {_LEVEL})"
    )


def _told(contest: Contest, groups: dict[str, list[int]]) -> str:
    named = {what: listed([contest.names[j] for j in which]) for what, which in groups.items() if which}
    whole = {what: "all others" for what, which in groups.items() if len(which) == len(contest.others) > 1}
    return "; ".join(f"{what}: {names}" for what, names in (named | whole).items())


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence holds them, the first few of many."""
    if len(names) > _NAMED + 1:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
