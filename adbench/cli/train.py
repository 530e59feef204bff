"""`adbench train`: a detector fitted and saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from adbench.cli import completion, console
from adbench.cli import options as o
from adbench.cli.predict import threshold_text

_CROSS_FIT = "Set the threshold for --fpr by K more fits that each hold out a part; the saved fit has all images."
_DETECTOR = "Method that finds anomalies in the features, e.g. patchcore; see 'adbench list detectors'."
_HOLDOUT = "Share of good images to hold out for --fpr. Default: 0.25, or none if the data have validation/good."
_SELECTION = "JSON of a selection: set the threshold for --fpr on the good images that took no part in it."
_LAYER = "Layer from 'adbench list layers BACKBONE', or several joined with '+'."
_ROTATIONS = "Number of copies of each training image, turned by 360/N degrees each; 0 = none."
_RULE = "Instead of --fpr, the rule that sets the threshold: conformal:0.01, sigma:3 or quantile:0.95*1.421."
_CALIBRATE_ON = "Set the threshold on the good images of this folder, e.g. of another day; the fit has all of --data."
_SHOTS = "Number of good images to fit to, drawn by the seed, or all."
_PARAM = "Parameter of the detector, see 'adbench list detectors DETECTOR'; may be repeated."
_CROP = "See only the middle square, with this share of the image's shorter side. Above 0, up to 1."
_SMOOTHING = "Sigma, in input pixels, of the Gaussian on the map; 0 = none. Default: 4 for detectors that smooth."


def train(
    detector: Annotated[str, o.argument("DETECTOR", _DETECTOR, complete=completion.table("detectors"))],
    backbone: o.Backbone,
    layer: Annotated[str, o.argument("LAYER[+LAYER]", _LAYER, complete=completion.layer)],
    model: Annotated[Path, o.path_option("FILE.safetensors", "File for the fitted detector.")],
    images: o.OneCategoryOptions,
    runtime: o.RuntimeOptions,
    weights: o.Weights = "imagenet",
    image_size: o.ImageSize = "256",
    tile: o.Tile = 0,
    overlap: o.Overlap = None,
    eval_size: o.EvalSize = "256",
    param: Annotated[list[str] | None, o.option("NAME=VALUE", _PARAM)] = None,
    fpr: Annotated[float | None, o.option("F", "Hold out good images, and set a threshold for this false-positive rate.")] = None,
    holdout: Annotated[float | None, o.option("SHARE", _HOLDOUT)] = None,
    cross_fit: Annotated[int | None, o.option("K", _CROSS_FIT, low=2)] = None,
    shots: Annotated[str, o.option("N", _SHOTS, complete=completion.fixed("all"))] = "all",
    rotations: Annotated[int, o.option("N", _ROTATIONS, low=0, high=360)] = 0,
    crop: Annotated[float, o.option("SHARE", _CROP)] = 1.0,
    value_range: o.ValueRange = None,
    smoothing: Annotated[float | None, o.option("S", _SMOOTHING, low=0, high=64)] = None,
    from_selection: Annotated[Path | None, o.path_option("FILE", _SELECTION)] = None,
    rule: Annotated[str | None, o.option("RULE", _RULE)] = None,
    calibrate_on: Annotated[Path | None, o.path_option("DIR", _CALIBRATE_ON)] = None,
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

    wish = wanted_calibration(fpr, holdout, cross_fit, from_selection, rule, calibrate_on)
    with runtime.open(images) as workspace:
        grid, stored = o.evaluation_size(eval_size), o.feature_dtype(dtype)
        view, few = o.view(image_size, tile, overlap, crop, rotations, value_range), o.shot_count(shots)
        choices = TrainingRequest(
            detector, backbone, layer, weights, view, grid, stored, seed=seed, shots=few, smoothing=smoothing
        )
        trained = train_model(workspace, choices, o.parameters(param), model, wish)
    if json:
        return console.answer_json(trained)
    facts = ", ".join(f"{name} {value}" for name, value in trained["details"].items() if isinstance(value, (int, float, str)))
    console.answer(f"{model}: {facts}; fitted in {trained['cost']['fit_s']:.1f} s, {trained['cost']['state_mb']:.1f} MB")
    if threshold := trained["threshold"]:
        console.answer(f"{model}: {threshold_text(threshold)}")
        if few == "all" or threshold["folds"]:  # otherwise the images held out are not missed
            console.say(f"{model}: {_price(trained, threshold)}")


def _price(trained: Mapping[str, Any], threshold: Mapping[str, Any]) -> str:
    """Return what setting the threshold has cost, in words."""
    fitted, count, folds = trained["fitted_images"], threshold["count"], threshold["folds"]
    if trained["selected_on_images"]:
        return f"the threshold comes from {count} good images that took part neither in the selection nor in the fit to {fitted}"
    if trained.get("validation_images"):
        return f"the threshold comes from {count} validation images; the detector is fitted to all {fitted} training images"
    if folds or not trained["held_out_images"]:
        how = f"took {folds} more fits" if folds else f"comes from {count} others"
        return f"the detector is fitted to all {fitted} good images; its threshold {how}"
    price = f"holding out costs the fit {count} of {fitted + count} good images"
    if threshold["expected"] is None:  # by a rule that --cross-fit does not take
        return f"{price}; with --calibrate-on DIR, good images of another folder, it would have all of them"
    return f"{price}; with --cross-fit {min(5, fitted + count)} it would have all of them"
