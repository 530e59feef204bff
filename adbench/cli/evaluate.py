"""`adbench eval`: a saved detector measured."""

from pathlib import Path
from typing import Annotated

from adbench.cli import console
from adbench.cli import options as o


def evaluate(
    model: o.Model,
    images: o.DataOptions,
    runtime: o.RuntimeOptions,
    heatmaps: Annotated[Path | None, o.path_option("DIR", "Folder for pictures of image, mask and anomaly map.")] = None,
    pro_limit: Annotated[float | None, o.option("F", "Limit of AU-PRO's false-positive rate. Default: the model's, 0.3.")] = None,
    json: o.Json = False,
) -> None:
    """Measure a saved detector on a category's test images."""
    from adbench.models.training import evaluate_model

    with runtime.open(images) as workspace:
        result = evaluate_model(workspace, model, heatmaps, pro_limit)
    if json:
        return console.answer_json(result.record())
    rows = [[name, console.number(value)] for name, value in result.metrics.items()]
    console.answer(console.table([result.job.category, ""], rows))
    if result.reason:
        console.say(f"note: {result.reason}")
