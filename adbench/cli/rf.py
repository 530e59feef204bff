"""The command rf: receptive fields as a table, as JSON, and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adbench.cli import console
from adbench.cli import options as o

Layers = Annotated[list[str] | None, typer.Argument(metavar="[LAYER...]", help="Default: all main stages.")]
Sizes = Annotated[list[int] | None, typer.Option("--image-size", metavar="N", min=1, help="Adds RRF = RF / N; may be repeated.")]
InputSize = Annotated[int, typer.Option("--input-size", metavar="N", min=64, max=4096, help="Side of the measured image.")]
Threshold = Annotated[float, typer.Option("--threshold", metavar="T", help="Gradient norms below it count as zero.")]
NormalizeBy = Annotated[
    str,
    typer.Option("--normalize", metavar="max|none", help="Divide the gradient norms by their maximum, or take them as they are."),
]
Content = Annotated[str, typer.Option("--image", metavar="noise|zeros", help="What the measured image holds.")]
WeightsAtHand = Annotated[
    str | None, typer.Option("--weights", metavar="W", help="As for extract. Default: imagenet if they are at hand, else random.")
]
Figure = Annotated[Path | None, typer.Option("--figure", metavar="FILE.png", help="Draw gradients and boxes, side by side.")]


def add_to(app: typer.Typer) -> None:
    """Give `app` the command of this module."""
    app.command()(rf)


def rf(
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE")],
    layers: Layers = None,
    image_size: Sizes = None,
    input_size: InputSize = 1024,
    threshold: Threshold = 1e-2,
    normalize: NormalizeBy = "max",
    image: Content = "noise",
    weights: WeightsAtHand = None,
    figure: Figure = None,
    cache: o.Cache = None,
    offline: o.Offline = False,
    json: o.Json = False,
) -> None:
    """Receptive fields of layers: analytic (exact, from the graph) and estimated (box of gradient norms over a threshold).

    The estimate takes the gradient of the central cell, all channels with random signs, at a fixed noise image; the norm
    over the colours, divided by its maximum; a margin of 16 px is ignored. RRF is the analytic field over the image size.
    """
    from adbench.backbones.layers import describe
    from adbench.backbones.receptive_field.measure import Measure, receptive_fields

    with console.progress() as (on_step, _):
        workspace = o.workspace("", cache, None, "cpu", offline, on_step)
        description = describe(backbone, workspace.memo)
        measure = Measure(input_size, threshold, normalize, image)
        network = workspace.network(backbone, weights) if weights else workspace.network_at_hand(backbone)
        found = receptive_fields(network, description, layers or (), image_size or (), measure, figure, on_step)
    if json:
        return console.answer_json(found)
    return _print(found["layers"], image_size or [])


def _print(fields: list[dict[str, Any]], sizes: list[int]) -> None:
    heads = ["layer", "channels", "stride", "analytic px", "estimated px", *(f"RRF {size}" for size in sizes)]
    rows = [
        [
            *(f[key] for key in ("layer", "channels", "stride")),
            f["analytic_px"] or "?",
            _pixels(f),
            *map("{:.2f}".format, f["rrf"].values()),
        ]
        for f in fields
    ]
    console.answer(console.table(heads, rows))
    if any(f["saturated"] for f in fields):
        console.say("+ reaches the image's edge: the field may be larger")


def _pixels(field: dict[str, Any]) -> str:
    return f"{field['estimated_px']}{'+' if field['saturated'] else ''}"
