"""`adbench eval-maps`: anomaly maps of another program measured."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from adbench.cli import console
from adbench.cli import options as o
from adbench.core.errors import UsageError

_OUT = "Results folder: also write records that stand in one table with those of sweeps (at --eval-size 256 by default)."
_NAME = "Name of the row in that table. Default: the name of the folder of maps."


def eval_maps(
    maps: Annotated[Path, o.path_option("DIR", "Folder of maps: DIR/CATEGORY/test/KIND/NAME.npy, .tiff or .png.")],
    images: o.DataOptions,
    eval_size: o.EvalSize = "",
    pro_limit: Annotated[float, o.option("F", "Limit of AU-PRO's false-positive rate.")] = 0.3,
    out: Annotated[Path | None, o.path_option("DIR", _OUT)] = None,
    name: Annotated[str | None, o.option("NAME", _NAME)] = None,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Measure anomaly maps that another program made.

    The score of an image is the maximum of its map. --json has further metrics, e.g. AUPIMO.

    Examples:
      adbench eval-maps --maps my_maps --data demo
      adbench eval-maps --maps my_maps --data demo --out results --name theirs
    """
    from adbench.metrics import check_pro_limit, evaluate
    from adbench.metrics.support.external_maps import Measure, evaluate_maps

    size = o.evaluation_size(eval_size or ("256" if out else "native"))
    check_pro_limit(pro_limit)
    if name and not out:
        raise UsageError("--name: it names the row of a record; give --out RESULTS with it")
    with o.RuntimeOptions(cache).open(images, memo_only=True) as workspace:
        measure: Measure = lambda item, scores, _: evaluate(  # noqa: E731
            scores, item.labels(size).truth, pro_limit, item.labels(size).regions
        )
        if out:
            from adbench.sweep.external import recorded
            from adbench.sweep.results import ResultStore

            measure = recorded(ResultStore(out), name or maps.resolve().name, size, pro_limit, workspace.on_step)
        found = evaluate_maps(workspace.inputs(), maps, size, measure)
    if out:
        console.say(f"results in {out}; adbench report {shlex.quote(str(out))} shows them beside those of sweeps")
    failed = [item for item in found if item.pop("failed", False)]
    console.answer_json(found) if json else _print(found, [item for item in found if item not in failed])
    if failed:
        raise typer.Exit(1)


def _print(found: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]) -> None:
    from adbench.metrics import ON_REQUEST

    shown = [name for name in (found[0]["metrics"] if found else ()) if name not in ON_REQUEST]
    rows = [[item["category"], *(console.number(item["metrics"][name]) for name in shown)] for item in found]
    console.answer(console.table(["category", *shown], rows))
    for item in measured:
        if item["reason"]:
            console.say(f"note: {item['category']}: {item['reason']}")
