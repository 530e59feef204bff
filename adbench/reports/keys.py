"""The keys of a job that can name the rows or columns of a table: which of them vary, their order, and groups by them."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from adbench.core.errors import UsageError
from adbench.core.registry import match
from adbench.types import EXTERNAL, SMOOTHING_GRID, USUAL_SMOOTHING, Job, Result

VIEW_KEYS = ("image_size", "tile", "overlap")  # which "view" names together
ROW_KEYS = (
    "dataset", "backbone", "weights", "layer", *VIEW_KEYS, "eval_size", "detector", "params", "shots", "rotations",
    "thresholds", "shift",
)  # fmt: skip
KEYS = (*ROW_KEYS, "category", "seed", "dtype", "pro_limit", "smoothing", "crop", "value_range")
SELF_EXPLAINING = ("dataset", "backbone", "weights", "layer", "detector", "params")  # a value needs no key in front of it

# Results that differ in one of these keys never share a cell. A key with a tuple is compared only among results that agree
# in the keys of the tuple.
NEVER_MIXED: dict[str, tuple[str, ...]] = {
    "dataset": (),
    "eval_size": (),
    "pro_limit": (),
    "dtype": (),
    "smoothing": ("detector",),
    "crop": (),
    "value_range": (),
    "thresholds": (),
    "revision": ("detector",),
    "weights_sha256": ("backbone", "weights"),
    "fingerprint": ("dataset", "category"),
}
COMPARED_WITHIN = NEVER_MIXED | {"params": ("detector",)}
NONE = "none"  # as a value: no thresholds, no shift
_NO_FIELD = (False, math.inf)
_USUAL = "usual"
_OBSERVED = "observed"
_ON_GRID = f"{USUAL_SMOOTHING:g} px of a {SMOOTHING_GRID} grid"  # as a smoothing: another sigma in input pixels at each size


@dataclass(frozen=True, slots=True)
class KeyedJob:
    """A job that is planned or has run, the value of each of its keys, and its result if there is one.

    done: the result, unless the job failed or was skipped.
    """

    job: Job
    result: Result | None
    done: Result | None
    values: dict[str, Any]


@dataclass(frozen=True)
class Group:
    """Jobs that agree in some keys, and the values of these keys in words."""

    label: str
    jobs: Sequence[KeyedJob]


def keyed_jobs(jobs: Sequence[tuple[Job, Result | None]]) -> list[KeyedJob]:
    """Return the jobs with their keys.

    `params` names the parameters in which jobs of one detector differ, `smoothing` a sigma that is not the usual one.
    """
    smoothing = _smoothing_label([job for job, _ in jobs])
    labels = params_labels({(job.detector, job.params_text) for job, _ in jobs})
    names, keyed = [key for key in dict.fromkeys((*KEYS, *NEVER_MIXED)) if key != "params"], []
    for job, result in jobs:
        values = {key: getattr(job, key) for key in names}
        values |= {
            "weights_sha256": _same_over_seeds(job),
            "params": labels[job.detector, job.params_text],
            "thresholds": ", ".join(job.thresholds) or NONE,
            "shift": job.shift or NONE,
            "smoothing": smoothing(job),
            "value_range": "{:g} to {:g}".format(*job.value_range) if job.value_range else _OBSERVED,
            "view": _view(job),
        }
        if job.external:
            values["image_size"] = values["view"] = EXTERNAL
        keyed.append(KeyedJob(job, result, result if result and result.status == "done" else None, values))
    return keyed


def _view(job: Job) -> int | str:
    """Return the image size, with the tile and an unusual overlap behind it."""
    more = "" if job.overlap == Job.overlap else f", overlap {job.overlap:g}"
    return f"{job.image_size}, tile {job.tile}{more}" if job.tile else job.image_size


def _same_over_seeds(job: Job) -> str:
    """Return the digest of a job's weights; one value for the random weights that each job's own seed has drawn."""
    return job.weights if job.weights_sha256 == f"{job.weights}-{job.seed}" else job.weights_sha256


def params_labels(methods: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return, for each detector with its parameters in JSON, those in which the methods with this detector differ."""
    seen: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)  # detector -> params as text -> params
    for detector, text in methods:
        seen[detector][text] = json.loads(text)
    labels = {}
    for detector, variants in seen.items():
        names = sorted({name for params in variants.values() for name in params})
        differing = [n for n in names if len({json.dumps(p.get(n)) for p in variants.values()}) > 1]
        for text, params in variants.items():
            labels[detector, text] = ", ".join(f"{n}={params[n]}" for n in differing if n in params)
    return labels


def _smoothing_label(jobs: Iterable[Job]) -> Callable[[Job], str]:
    """Return what names a job's smoothing: its sigma, unless all jobs of the detector smooth alike on the grid.

    Then the sigma in input pixels differs only because the sizes do, as in versions before 0.2.0, and has one name.
    """
    seen: dict[str, set[tuple[float | None, float | None]]] = defaultdict(set)  # detector -> sigmas as recorded, if unusual
    for job in jobs:
        seen[job.detector].add((job.smoothing, job.unusual_smoothing))
    on_grid = {name for name, sigmas in seen.items() if len(sigmas) > 1 and all(recorded is None for recorded, _ in sigmas)}

    def label(job: Job) -> str:
        if job.detector in on_grid:
            return _ON_GRID
        return _USUAL if (px := job.unusual_smoothing) is None else f"{px:g} px"

    return label


def varies(jobs: Sequence[KeyedJob], key: str, within: Sequence[str] = ()) -> bool:
    """Return whether jobs that agree in the keys `within` differ in `key`."""
    if not several(jobs, key):
        return False
    differing = [other for other in within if several(jobs, other)]  # most keys never vary: a short tuple hashes fast
    if not differing:
        return True
    values, first = itemgetter(*differing), dict[Any, Any]()
    return any(first.setdefault(values(j.values), j.values[key]) != j.values[key] for j in jobs)


def several(jobs: Sequence[KeyedJob], key: str) -> bool:
    """Return whether jobs have more than one value of a key."""
    return any(job.values[key] != jobs[0].values[key] for job in jobs)


def varying(jobs: Sequence[KeyedJob], keys: Iterable[str]) -> list[str]:
    """Return those of `keys` in which jobs differ that could be compared otherwise."""
    return [key for key in keys if varies(jobs, key, COMPARED_WITHIN.get(key, ()))]


def choose_rows(jobs: Sequence[KeyedJob], rows: Sequence[str] = (), columns: str | None = None) -> list[str]:
    """Return the keys that name a row: `rows`, by default those that vary, and always those that must not be mixed."""
    named = [match("row key", name.strip(), KEYS) for item in rows for name in item.split(",") if name.strip()]
    if columns in named:
        raise UsageError(f"'{columns}' cannot be both a row and a column; take it out of one of them")
    hidden = VIEW_KEYS if columns == "view" else (columns,)
    named = named or [key for key in ROW_KEYS if key not in hidden and varies(jobs, key)]
    named = named or ["backbone" if columns == "layer" else "layer"]
    forced = [key for key, within in NEVER_MIXED.items() if key != columns and varies(jobs, key, within)]
    return list(dict.fromkeys([*named, *forced]))


def grouped(jobs: Iterable[KeyedJob], keys: Sequence[str]) -> dict[tuple[Any, ...], list[KeyedJob]]:
    """Return the jobs by their values of `keys`, sorted; layers by receptive field, small to large, as in the paper."""
    groups: dict[tuple[Any, ...], list[KeyedJob]] = defaultdict(list)
    fields: dict[str, tuple[bool, int]] = {}  # an estimated one, if any result has it; the largest of all image sizes
    for job in jobs:
        groups[tuple(job.values[key] for key in keys)].append(job)
        if job.done and job.done.receptive_field:
            field = not job.done.field_is_analytic, job.done.receptive_field
            fields[job.values["layer"]] = max(field, fields.get(job.values["layer"], field))
    order = {
        values: [(fields.get(v, _NO_FIELD)[1] if k == "layer" else 0, natural(v, k)) for k, v in zip(keys, values, strict=True)]
        for values in groups
    }
    return {values: groups[values] for values in sorted(groups, key=order.__getitem__)}


def groups_by(jobs: Sequence[KeyedJob], keys: Sequence[str]) -> list[Group]:
    """Return the groups of `grouped`, labeled with the values of `keys`."""
    return [
        Group(", ".join(value_words(*pair) for pair in zip(keys, values, strict=True) if pair[1] not in ("", EXTERNAL)), members)
        for values, members in grouped(jobs, keys).items()
    ]


def value_words(key: str, value: object) -> str:
    """Return the value of a key in words, with the key unless it explains itself."""
    if key in ("image_size", "view"):
        size, *rest = str(value).split(",")
        return ",".join([f"{size} px" if size[:1].isdigit() else size, *rest])
    if key == "tile":
        return f"tiles of {value} px" if value else "no tiles"
    return str(value) if key in SELF_EXPLAINING else f"{key} {value}"


def natural(value: object, key: str = "") -> tuple[Any, ...]:
    """Return a sort key that orders values as people count: 256 < 1024 < native, layer2.9 < layer2.10."""
    if isinstance(value, int | float):
        return ((0, value, ""),)
    number = r"(\d+(?:\.\d+)?)" if key == "params" else r"(\d+)"
    parts = re.split(number, str(value))
    return tuple((0, float(p), "") if i % 2 else (1, 0, p) for i, p in enumerate(parts) if p)
