"""`adbench train`: a detector fitted and saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from adbench.cli import completion, console
from adbench.cli import options as o
from adbench.cli.predict import threshold_text

_CROSS_FIT = "Set the threshold for --fpr by K more fits that each hold out a part; the saved fit has all images."
_DETECTOR = "Method that finds anomalies in the features, e.g. patchcore; see 'adbench list detectors'."
_LAYER = "Layer from 'adbench list layers BACKBONE', or several joined with '+'."
_PARAM = "Parameter of the detector, see 'adbench list detectors DETECTOR'; may be repeated."


def train(
    detector: Annotated[str, o.argument("DETECTOR", _DETECTOR, complete=completion.table("detectors"))],
    backbone: o.Backbone,
    layer: Annotated[str, o.argument("LAYER[+LAYER]", _LAYER, complete=completion.layer)],
    model: Annotated[Path, o.path_option("FILE.safetensors", "File for the fitted detector.")],
    images: o.OneCategoryOptions,
    runtime: o.RuntimeOptions,
    weights: o.Weights = "imagenet",
    image_size: o.ImageSize = "256",
    tile: o.Tile = None,
    overlap: o.Overlap = None,
    eval_size: o.EvalSize = "256",
    param: Annotated[list[str] | None, o.option("NAME=VALUE", _PARAM)] = None,
    fpr: Annotated[float | None, o.option("F", "Hold out good images, and set a threshold for this false-positive rate.")] = None,
    holdout: Annotated[float | None, o.option("SHARE", "Share of good images to hold out for --fpr. Default: 0.25.")] = None,
    cross_fit: Annotated[int | None, o.option("K", _CROSS_FIT, low=2)] = None,
    seed: o.Seed = 0,
    dtype: o.Dtype = "float16",
    json: o.Json = False,
) -> None:
    """Fit a detector to the good images of a category and save it.

    Examples:
      adbench train patchcore efficientnet_lite0 blocks.2.1.add \\
          --data demo --category nut --fpr 0.2 --model nut.safetensors
    """
    from adbench.models.calibration import wanted_calibration
    from adbench.models.training import TrainingRequest, train_model

    with runtime.open(images) as workspace:
        grid, stored = o.evaluation_size(eval_size), o.feature_dtype(dtype)
        choices = TrainingRequest(detector, backbone, layer, weights, o.view(image_size, tile, overlap), grid, stored, seed=seed)
        trained = train_model(workspace, choices, o.parameters(param), model, wanted_calibration(fpr, holdout, cross_fit))
    if json:
        return console.answer_json(trained)
    facts = ", ".join(f"{name} {value}" for name, value in trained["details"].items() if isinstance(value, (int, float, str)))
    console.answer(f"{model}: {facts}; fitted in {trained['cost']['fit_s']:.1f} s, {trained['cost']['state_mb']:.1f} MB")
    if threshold := trained["threshold"]:
        console.answer(f"{model}: {threshold_text(threshold)}")
        console.say(f"{model}: {_price(trained['fitted_images'], threshold)}")


def _price(fitted: int, threshold: Mapping[str, Any]) -> str:
    """Return what setting the threshold has cost, in words."""
    count, folds = threshold["count"], threshold["folds"]
    if folds:
        return f"the detector is fitted to all {fitted} good images; its threshold took {folds} more fits"
    return (
        f"holding out costs the fit {count} of {fitted + count} good images; "
        f"with --cross-fit {min(5, fitted + count)} it would have all of them"
    )
