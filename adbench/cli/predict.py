"""`adbench predict` and `adbench threshold`: new images scored by a saved detector, and the threshold for its decisions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from adbench.cli import completion, console
from adbench.cli import options as o

Images = Annotated[list[Path], o.path_argument("IMAGE_OR_DIR...", "Images, and folders that are searched for images.")]
_SHOWN = 10  # rows on the terminal
_ANOMALOUS = 4  # exit code of --fail-on-anomaly
_OVERLAYS = "Images to draw an overlay of. Default: anomalous, or all if the model has no threshold."


def threshold(
    model: o.Model,
    images: Images,
    fpr: Annotated[float, o.option("F", "Share of good images that may score above the threshold.")],
    runtime: o.RuntimeOptions,
    json: o.Json = False,
) -> None:
    """Set the decision threshold of a saved detector.

    The threshold is written into MODEL. Give good images that the detector was neither fitted to nor selected on; images that
    a selection used would make the promised rate too low.

    Examples:
      adbench threshold nut.safetensors try/more_good/nut --fpr 0.1
    """
    from adbench.models.calibration import recalibrate

    with runtime.open() as workspace:
        found = recalibrate(workspace, model, images, fpr)
    console.answer_json(found) if json else console.answer(f"{model}: {threshold_text(found['threshold'])}")


def predict(
    model: o.Model,
    images: Images,
    out: Annotated[Path, o.path_option("DIR", "Folder for predictions.csv and overlays/.")],
    runtime: o.RuntimeOptions,
    overlays: Annotated[
        str | None, o.option("all|anomalous|none", _OVERLAYS, complete=completion.fixed("all", "anomalous", "none"))
    ] = None,
    no_overlays: Annotated[bool, o.flag("--no-overlays", "The same as --overlays none.")] = False,
    fail_on_anomaly: Annotated[bool, o.flag("--fail-on-anomaly", "Exit with code 4 if an image is anomalous.")] = False,
    json: o.Json = False,
) -> None:
    """Score new images with a saved detector.

    This writes a CSV file of scores and decisions, and overlays of the anomalous images. An image is anomalous if its score is
    above the model's threshold. An image that cannot be read is reported in its row.

    Examples:
      adbench predict nut.safetensors try/new/nut --out inspected
      adbench predict nut.safetensors part.png --out inspected --fail-on-anomaly
    """
    from adbench.models.prediction import predict_images

    wish, shown = "none" if no_overlays else overlays, None if json else _SHOWN
    with runtime.open() as workspace:
        found = predict_images(workspace, model, images, out, wish, fail_on_anomaly, shown)
    console.answer_json(found) if json else _print(found)
    if found["failed"]:
        raise typer.Exit(3 if found["failed"] == found["images"] else 1)
    if fail_on_anomaly and found["anomalous"]:
        raise typer.Exit(_ANOMALOUS)


def threshold_text(threshold: Mapping[str, Any]) -> str:
    """Return a threshold and its expected false-positive rate, if it has one, in words."""
    if threshold["folds"]:
        return (
            "threshold {image:.4g} from {count} good images, each scored by a fit without it; expected false-positive rate about "
            "{expected:.3g}; at most {bound:.2g} for the vote of the {folds} fits (CV+), without a guarantee for the saved one"
        ).format(**threshold)
    if threshold["expected"] is None:
        return "threshold {image:.4g} by {rule} from {count} held-out good images; this rule promises no rate".format(**threshold)
    low, high = threshold["interval"]
    return (
        f"threshold {threshold['image']:.4g} from {threshold['count']} held-out good images; expected false-positive rate "
        f"{threshold['expected']:.3g}, 95 % interval {low:.2g} to {high:.2g}"
    )


def _print(found: Mapping[str, Any]) -> None:
    scored = [row for row in found["predictions"] if row["error"] is None]
    if scored:
        rows = [[row["path"], f"{row['score']:.4g}", row["decision"] or "-"] for row in scored]
        console.answer(console.table(["highest scores", "", "decision"], rows))
    counts = ", ".join(f"{found[name]} {name}" for name in ("anomalous", "good", "undecided", "failed") if found[name])
    console.answer(f"{found['images']} image{'s' * (found['images'] != 1)}: {counts}")
    console.say(f"{found['images_per_second']:.1f} images per second; all rows are in {found['csv']}")
