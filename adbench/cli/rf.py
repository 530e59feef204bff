"""`adbench rf`: receptive fields of layers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from adbench.cli import completion, console
from adbench.cli import options as o

_NORMALIZE = "max: divide the gradient norms by their maximum; none: compare them as they are."
_OBJECTIVE = "Of the central cell: channels with random signs, which cannot cancel; or their sum or mean."
_WEIGHTS = "imagenet, random, or as for extract. Default: imagenet if it is already downloaded, else random."

_LAYERS = "Names from 'adbench list layers BACKBONE --all'. Default: the last layer of each main stage."
_IMAGE_SIZE = "Add a column with the field relative to an image of N pixels (RRF); may be repeated."


def rf(
    backbone: o.Backbone,
    layers: Annotated[list[str] | None, o.argument("[LAYER...]", _LAYERS, complete=completion.layer)] = None,
    image_size: Annotated[list[int] | None, o.option("N", _IMAGE_SIZE, low=1)] = None,
    input_size: Annotated[int, o.option("N", "Side of the image that is measured, in pixels.", low=64, high=4096)] = 1024,
    threshold: Annotated[float, o.option("T", "Gradient norms up to this count as zero.")] = 1e-2,
    normalize: Annotated[str, o.option("max|none", _NORMALIZE, complete=completion.fixed("max", "none"))] = "max",
    objective: Annotated[
        str, o.option("signs|sum|mean", _OBJECTIVE, complete=completion.fixed("signs", "sum", "mean"))
    ] = "signs",
    margin: Annotated[int, o.option("N", "Pixels along each border to ignore.", low=0)] = 16,
    image: Annotated[
        str, o.option("noise|zeros", "Content of the image that is measured.", complete=completion.fixed("noise", "zeros"))
    ] = "noise",
    weights: Annotated[str | None, o.option("W", _WEIGHTS, complete=completion.weight)] = None,
    figure: Annotated[Path | None, o.path_option("FILE.png", "Picture to draw: gradients and fields of all layers.")] = None,
    cache: o.Cache = None,
    offline: o.Offline = False,
    json: o.Json = False,
) -> None:
    """Print the receptive fields of layers.

    The receptive field is the square of input pixels that one cell of a layer sees: analytic (exact, from the graph) and
    estimated (from gradients).

    The estimate is the bounding box of the input pixels whose gradient norm is above the threshold. The gradient is that of the
    central cell, all channels with random signs, at a fixed image. The norm is over the color channels, divided by its maximum.
    RRF is the estimated field divided by N. Reports show the same estimate, with the options at their defaults. The measured
    image has the largest size up to --input-size that the network takes. Behind attention over the whole image the analytic
    field is "all": every pixel.

    Examples:
      adbench rf resnet50 --weights random
      adbench rf wide_resnet50 layer2 layer3 --image-size 256 --image-size 512
    """
    from adbench.backbones.layers import describe
    from adbench.backbones.receptive_field.measure import Measure, receptive_fields

    with o.RuntimeOptions(cache, "cpu", offline).open() as workspace:
        description = describe(backbone, workspace.memo)
        measure = Measure(input_size, threshold, normalize, image, margin, objective)
        network = workspace.network(backbone, weights) if weights else workspace.network_at_hand(backbone)
        found = receptive_fields(
            network, description, layers or (), image_size or (), measure, figure, workspace.memo, workspace.on_step
        )
    if found["input_size"] != input_size:
        console.say(f"measured at {found['input_size']} px: {backbone} does not take {input_size} px")
    console.answer_json(found) if json else _print(found["layers"], image_size or ())


def _print(fields: Sequence[dict[str, Any]], sizes: Sequence[int]) -> None:
    heads = ["layer", "channels", "stride", "analytic px", "estimated px", *(f"RRF {size}" for size in sizes)]
    rows = [
        [f["layer"], f["channels"], f["stride"], f["analytic_px"] or ("all" if f["every_pixel"] else "?"),
         f"{f['estimated_px']}{'+' if f['saturated'] else ''}", *map("{:.2f}".format, f["rrf"].values())]
        for f in fields
    ]  # fmt: skip
    console.answer(console.table(heads, rows))
    if any(f["saturated"] for f in fields):
        console.say("+ reaches the image's edge: the field may be larger")
