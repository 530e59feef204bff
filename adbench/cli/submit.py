"""`adbench submit`: anomaly maps of private test images for the MVTec AD 2 server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from adbench.cli import completion, console
from adbench.cli import options as o
from adbench.core.errors import UsageError

_SOURCES = "Model files of 'adbench train', one for each object, or one results folder, whose best row is fitted to each object."
_OUT = "Folder of the submission; DIR.tar.gz and DIR.work (models, state) lie beside it."
_THRESHOLD = "Threshold of the masks: sigma:K, the mean plus K standard deviations of the pixels of validation/good."
_METRIC = "Metric by whose mean over objects the best row of a results folder is chosen."
_ROW = "Only rows of the results folder with this value, e.g. layer=layer2; may be repeated."


def submit(
    sources: Annotated[list[Path] | None, o.path_argument("[MODEL...|RESULTS]", _SOURCES, complete=completion.models)] = None,
    *,
    out: Annotated[Path, o.path_option("DIR", _OUT)],
    images: o.DataOptions,
    runtime: o.RuntimeOptions,
    threshold: Annotated[str, o.option("RULE", _THRESHOLD)] = "sigma:3",
    metric: Annotated[str, o.option("M", _METRIC, complete=completion.table("metrics"))] = "aupro_05",
    row: Annotated[list[str] | None, o.option("KEY=VALUE", _ROW)] = None,
    check: Annotated[bool, o.flag("--check", "Only check the submission in --out; no model is needed.")] = False,
    json: o.Json = False,
) -> None:
    """Write a submission for the MVTec AD 2 server.

    This makes float16 maps and thresholded masks of all images in test_private and test_private_mixed, at their own size. It
    checks its own output by the server's rules and packs it. A stopped command goes on where it was.

    Examples:
      adbench submit results --data mvtec_ad_2 --out submission
      adbench submit models/*.safetensors --data mvtec_ad_2 --out submission
      adbench submit --check --data mvtec_ad_2 --out submission
    """
    from adbench.models.submission import Wish, check_only
    from adbench.models.submission import submit as write

    if bool(sources) == check:
        raise UsageError("submit: give model files or a results folder" + (", or --check, not both" if check else ""))
    wish = Wish(sources or (), out, threshold, metric, row or ())
    with runtime.open(images) as workspace:
        found = check_only(workspace, out) if check else write(workspace, wish)
    if json:
        return console.answer_json(found)
    if not check:
        _print(found)
    console.answer(f"{out}: {found['maps']} maps and masks, all as the server asks for")
    if not check:
        console.answer(f"upload {found['archive']}")


def _print(found: Mapping[str, Any]) -> None:
    if row := found["row"]:
        text = "{detector} on {backbone} {layer}, {image_size} px, seed {seed}: mean {metric} {mean:.3f}, the best of {rows} rows"
        console.say(text.format(**row))
    rows = [[one["object"], one["maps"], one["made"], one["images"], f"{one['threshold']:.4g}"] for one in found["objects"]]
    console.answer(console.table(["object", "maps", "made now", "validation images", "threshold"], rows))
