"""The keys of a record that can name the rows or the columns of a table, their order, and which of them vary."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from adbench.core.errors import UsageError
from adbench.core.registry import match
from adbench.types import Job, Result

ROW_KEYS = ("dataset", "backbone", "weights", "layer", "image_size", "eval_size", "detector", "params")
KEYS = (*ROW_KEYS, "category", "seed", "dtype", "pro_limit")


# Results that differ in one of these never share a cell; for those below, within an equal value of the others.
NEVER_MIXED: dict[str, tuple[str, ...]] = {
    "dataset": (),
    "eval_size": (),
    "pro_limit": (),
    "dtype": (),
    "revision": ("detector",),
    "weights_sha256": ("backbone", "weights"),
    "fingerprint": ("dataset", "category"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A job that is planned or has run, with its result if there is one, and its value of every key.

    done: the result, unless the job failed or was skipped.
    """

    job: Job
    result: Result | None
    values: dict[str, Any]
    done: Result | None = field(init=False)

    def __post_init__(self) -> None:
        done = self.result if self.result and self.result.status == "done" else None
        object.__setattr__(self, "done", done)


def receptive_field(entry: Entry) -> int | None:
    """Return the analytic receptive field of the job's layer in input pixels, if the result knows it."""
    return entry.done.receptive_field if entry.done else None


def entries(jobs: Sequence[tuple[Job, Result | None]]) -> list[Entry]:
    """Return one entry per job; `params` is worded as the parameters in which jobs of the same detector differ."""
    label = _params_label([job for job, _ in jobs])
    names = dict.fromkeys((*KEYS, *NEVER_MIXED))
    return [
        Entry(job, result, {key: label(job) if key == "params" else getattr(job, key) for key in names}) for job, result in jobs
    ]


def _params_label(jobs: Iterable[Job]) -> Callable[[Job], str]:
    seen: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)  # detector -> params as text -> params
    for job in jobs:
        seen[job.detector].setdefault(job.params_text, job.params)
    labels = {}
    for detector, variants in seen.items():
        names = sorted({name for params in variants.values() for name in params})
        varying = [n for n in names if len({json.dumps(p.get(n)) for p in variants.values()}) > 1]
        for text, params in variants.items():
            labels[detector, text] = ", ".join(f"{n}={params[n]}" for n in varying if n in params)
    return lambda job: labels[job.detector, job.params_text]


def varies(found: Sequence[Entry], key: str, within: Sequence[str] = ()) -> bool:
    """Return whether entries that agree in the keys `within` differ in `key`."""
    if not _several(found, key):
        return False
    apart = [other for other in within if _several(found, other)]  # most keys never vary: short names are quick
    if not apart:
        return True
    name, first = itemgetter(*apart), dict[Any, Any]()
    return any(first.setdefault(name(e.values), e.values[key]) != e.values[key] for e in found)


def _several(found: Sequence[Entry], key: str) -> bool:
    return any(entry.values[key] != found[0].values[key] for entry in found)


def parse_key(kind: str, name: str) -> str:
    """Return the record key that a user meant."""
    return match(kind, name, KEYS)


def choose_rows(found: Sequence[Entry], rows: Sequence[str], columns: str | None) -> list[str]:
    """Return the keys that name a row: those asked for, else those that vary, and always those never to be mixed."""
    named = [parse_key("row key", name.strip()) for item in rows for name in item.split(",") if name.strip()]
    if columns in named:
        raise UsageError(f"'{columns}' cannot be both a row and a column; take it out of one of them")
    named = named or [key for key in ROW_KEYS if key != columns and varies(found, key)]
    named = named or ["backbone" if columns == "layer" else "layer"]
    forced = [key for key, within in NEVER_MIXED.items() if key != columns and varies(found, key, within)]
    return list(dict.fromkeys([*named, *forced]))


def grouped(found: Iterable[Entry], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Entry]]:
    """Return the entries of each row by the values that name it; layers by receptive field, small to large, as in the paper."""
    groups: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    for entry in found:
        groups[tuple(entry.values[key] for key in keys)].append(entry)
    fields = {entry.values["layer"]: field for entry in found if (field := receptive_field(entry))}
    order = {name: [_order(k, v, fields) for k, v in zip(keys, name, strict=True)] for name in groups}
    return {name: groups[name] for name in sorted(groups, key=order.__getitem__)}


def _order(key: str, value: Any, fields: dict[str, int]) -> tuple[Any, ...]:
    return (fields.get(value, math.inf) if key == "layer" else 0, natural(key, value))


def natural(key: str, value: object) -> tuple[Any, ...]:
    """Return what sorts values of a key as people count: 256 < 1024 < native, layer2.9 < layer2.10."""
    if isinstance(value, int | float):
        return ((0, value, ""),)
    number = r"(\d+(?:\.\d+)?)" if key == "params" else r"(\d+)"
    parts = re.split(number, str(value))
    return tuple((0, float(p), "") if i % 2 else (1, 0, p) for i, p in enumerate(parts) if p)
