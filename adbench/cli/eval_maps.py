"""`adbench eval-maps`: anomaly maps of another program measured."""

from pathlib import Path
from typing import Annotated

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

    The score of an image is the maximum of its map.

    Examples:
      adbench eval-maps --maps my_maps --data demo
    """
    from adbench.metrics.support.external_maps import evaluate_maps

    with o.RuntimeOptions(cache).open(images) as workspace:
        found = evaluate_maps(workspace.inputs(), maps, o.evaluation_size(eval_size), pro_limit)
    if json:
        return console.answer_json(found)
    rows = [[item["category"], *map(console.number, item["metrics"].values())] for item in found]
    console.answer(console.table(["category", *(found[0]["metrics"] if found else ())], rows))
    for item in found:
        if item["reason"]:
            console.say(f"note: {item['category']}: {item['reason']}")
