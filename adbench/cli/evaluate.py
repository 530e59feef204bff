"""`adbench eval`: a saved detector measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from adbench.cli import completion, console
from adbench.cli import options as o

_CATEGORY = "Category to measure on. Default: the one that the detector was fitted to."


@dataclass(frozen=True)
class TestOptions(o.DataOptions):
    """The test images."""

    category: Annotated[list[str] | None, o.option("C", _CATEGORY, complete=completion.category)] = None


def evaluate(
    model: o.Model,
    images: TestOptions,
    runtime: o.RuntimeOptions,
    heatmaps: Annotated[
        Path | None, o.path_option("DIR", "Folder for a picture of each test image with its mask and its anomaly map.")
    ] = None,
    pro_limit: Annotated[float | None, o.option("F", "Limit of AU-PRO's false-positive rate. Default: the model's, 0.3.")] = None,
    json: o.Json = False,
) -> None:
    """Measure a saved detector on the test images of a category. --json has further metrics, e.g. AUPIMO.

    Examples:
      adbench eval nut.safetensors --data demo --heatmaps maps
    """
    from adbench.models.training import evaluate_model

    with runtime.open(images) as workspace:
        result = evaluate_model(workspace, model, heatmaps, pro_limit)
    if json:
        return console.answer_json(result.record())
    from adbench.metrics import ON_REQUEST

    rows = [[name, console.number(value)] for name, value in result.metrics.items() if name not in ON_REQUEST]
    console.answer(console.table([result.job.category, ""], rows))
    if result.reason:
        console.say(f"note: {result.reason}")
