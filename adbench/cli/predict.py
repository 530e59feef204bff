"""The commands threshold and predict: new images through a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adbench.cli import console
from adbench.cli import options as o

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="File written by 'adbench train'.")]
Images = Annotated[list[Path], typer.Argument(metavar="IMAGE_OR_DIR...", help="Images, and folders of images at any depth.")]
_SHOWN = 10  # rows on the terminal
_FOUND = 4  # exit code of --fail-on-anomaly


def add_to(app: typer.Typer) -> None:
    """Give `app` the commands of this module."""
    app.command()(threshold)
    app.command()(predict)


def threshold(
    model: Model,
    images: Images,
    fpr: Annotated[float, typer.Option("--fpr", metavar="F", help="Share of good images that may lie above it.")],
    cache: o.Cache = None,
    device: o.Device = "auto",
    offline: o.Offline = False,
    json: o.Json = False,
) -> None:
    """Set the threshold of a saved detector from good images that it was not fitted to, and write it into MODEL."""
    from adbench.models.calibration import recalibrate

    with console.progress() as (on_step, _):
        found = recalibrate(o.workspace("", cache, None, device, offline, on_step), model, images, fpr)
    console.answer_json(found) if json else console.answer(f"{model}: {told(found['threshold'])}")


def predict(
    model: Model,
    images: Images,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Gets predictions.csv and overlays/.")],
    overlays: Annotated[
        str | None,
        typer.Option(
            "--overlays",
            metavar="all|anomalous|none",
            help="Which images get a picture. Default: anomalous, or all where the model has no threshold.",
        ),
    ] = None,
    no_overlays: Annotated[bool, typer.Option("--no-overlays", help="The same as --overlays none.")] = False,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help=f"Exit with {_FOUND} if an image is anomalous.")
    ] = False,
    cache: o.Cache = None,
    device: o.Device = "auto",
    offline: o.Offline = False,
    json: o.Json = False,
) -> None:
    """Score new images with a saved detector: a CSV of scores and decisions, and pictures of the anomalous ones.

    Anomalous = a score above the model's threshold. An image that cannot be read has its error in its row; the others go on.
    """
    from adbench.models.prediction import predict_images

    with console.progress() as (on_step, _):
        workspace = o.workspace("", cache, None, device, offline, on_step)
        wish, shown = "none" if no_overlays else overlays, None if json else _SHOWN
        found = predict_images(workspace, model, images, out, wish, fail_on_anomaly, shown)
    console.answer_json(found) if json else _print(found)
    if found["failed"]:
        raise typer.Exit(3 if found["failed"] == found["images"] else 1)
    if fail_on_anomaly and found["anomalous"]:
        raise typer.Exit(_FOUND)


def told(threshold: dict[str, Any]) -> str:
    """Return a threshold and what it promises, for people."""
    low, high = threshold["interval"]
    return (
        f"threshold {threshold['image']:.4g} from {threshold['count']} held-out good images; expected false-positive rate "
        f"{threshold['expected']:.3g}, 95 % interval {low:.2g} to {high:.2g}"
    )


def _print(found: dict[str, Any]) -> None:
    scored = [row for row in found["predictions"] if row["error"] is None]
    if scored:
        rows = [[row["path"], f"{row['score']:.4g}", row["decision"] or "-"] for row in scored]
        console.answer(console.table(["highest scores", "", "decision"], rows))
    counts = ", ".join(f"{found[name]} {name}" for name in ("anomalous", "good", "undecided", "failed") if found[name])
    console.answer(f"{found['images']} image{'s' * (found['images'] != 1)}: {counts}")
    console.say(f"{found['images_per_second']:.1f} images per second; all rows are in {found['csv']}")
