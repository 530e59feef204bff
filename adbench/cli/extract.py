"""`adbench extract`: features into the cache."""

from typing import Annotated

from adbench.cli import completion, console
from adbench.cli import options as o


def extract(
    backbone: o.Backbone,
    layers: Annotated[list[str], o.argument("LAYER...", "Names from 'adbench list layers BACKBONE'.", complete=completion.layer)],
    images: o.DataOptions,
    runtime: o.RuntimeOptions,
    weights: o.Weights = "imagenet",
    image_size: o.ImageSize = "256",
    tile: o.Tile = 0,
    overlap: o.Overlap = None,
    value_range: o.ValueRange = None,
    dtype: o.Dtype = "float16",
    json: o.Json = False,
) -> None:
    """Extract features of all images into the cache.

    One forward pass per image serves all layers. The commands sweep and train extract their features by themselves.

    Examples:
      adbench extract efficientnet_lite0 blocks.2.1.add blocks.4.2.add --data demo
    """
    from adbench.sweep.job_features import extract_layers

    stored, view = o.feature_dtype(dtype), o.view(image_size, tile, overlap, value_range=value_range)
    with runtime.open(images) as workspace:
        found = extract_layers(workspace, backbone, layers, weights, view, stored)
    if json:
        return console.answer_json(found)
    rows = [
        [e["category"], e["split"], e["layer"], "x".join(map(str, e["shape"])), e["dtype"], "cached" if e["cached"] else "new"]
        for e in found["entries"]
    ]
    console.answer(console.table(["category", "split", "layer", "shape", "dtype", ""], rows))
    if found["images_per_second"]:
        console.say(f"{found['images_per_second']:.1f} images per second")
