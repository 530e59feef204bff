"""How a sweep stands, printed for `adbench sweep --status`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adbench import console

_SHOWN = 30  # groups
_CELL = ("category", "backbone", "weights", "px")


def print_status(out: Path, jobs: Sequence[Any] | None, json: bool) -> None:
    """Print the state of these jobs, or of all that were ever planned into the folder."""
    from adbench.results import ResultStore
    from adbench.status import STATES, status

    results = ResultStore(out)
    found = status(results, results.planned() if jobs is None else jobs)
    if json:
        return console.answer_json(found)
    console.answer(", ".join(f"{name} {found[name]}" for name in ("planned", *STATES)))
    open_groups = [group for group in found["groups"] if group["running"] or group["waiting"] or group["failed"]]
    rows = [[*_cell(group), *(group[state] for state in STATES)] for group in open_groups[:_SHOWN]]
    if rows:
        console.answer("\n" + console.table([*_CELL, *STATES], rows))
    if len(open_groups) > _SHOWN:
        console.answer(f"... and {len(open_groups) - _SHOWN} more groups that are not finished")
    if found["workers"]:
        rows = [[f"{w['host']} {w['pid']}", f"{w['seconds']:.0f} s", *_cell(w), _at(w)] for w in found["workers"]]
        console.answer("\n" + console.table(["worker", "since", *_CELL, "at"], rows))


def _cell(facts: dict[str, Any]) -> list[Any]:
    return [facts["category"], facts["backbone"], facts["weights"], facts["image_size"]]


def _at(worker: dict[str, Any]) -> str:
    return f"{worker['detector']} on {worker['layer']}" if worker["layer"] else "extracts features"
