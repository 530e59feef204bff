"""`adbench eval-maps`: anomaly maps of another program measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from adbench.cli import console
from adbench.cli import options as o


def eval_maps(
    maps: Annotated[Path, o.path_option("DIR", "Folder of maps: DIR/CATEGORY/test/KIND/NAME.npy, .tiff or .png.")],
    images: o.DataOptions,
    eval_size: o.EvalSize = "native",
    pro_limit: Annotated[float, o.option("F", "Limit of AU-PRO's false-positive rate.")] = 0.3,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Measure anomaly maps that another program made.

    The score of an image is the maximum of its map. --json has further metrics, e.g. AUPIMO.

    Examples:
      adbench eval-maps --maps my_maps --data demo
    """
    from adbench.metrics import check_pro_limit
    from adbench.metrics.support.external_maps import evaluate_maps

    size = o.evaluation_size(eval_size)
    check_pro_limit(pro_limit)
    with o.RuntimeOptions(cache).open(images, memo_only=True) as workspace:
        found = evaluate_maps(workspace.inputs(), maps, size, pro_limit)
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
