"""`adbench weights list`, `check`, `path` and `import`: published weights and checkpoints."""

from pathlib import Path
from typing import Annotated, Any

from adbench.cli import completion, console
from adbench.cli import options as o
from adbench.core.errors import WeightsError

Name = Annotated[str, o.argument("NAME", "A name from 'adbench weights list'.", complete=completion.table("pretrainings"))]
_BACKBONE = "A backbone, for all of its published weights."
Backbone = Annotated[str | None, o.argument("[BACKBONE]", _BACKBONE, complete=completion.backbone)]
_WEIGHTS = "The path of a checkpoint, or a name from 'adbench list weights BACKBONE'."
Checkpoint = Annotated[Path, o.path_argument("FILE", "The checkpoint as its authors publish it.")]

_GATED = {True: "yes", False: "no", None: "unknown"}
_NORMALIZATIONS = {
    "0.485 0.456 0.406 / 0.229 0.224 0.225": "ImageNet",
    "0.481 0.458 0.408 / 0.269 0.261 0.276": "CLIP",
    "0.500 0.500 0.500 / 0.500 0.500 0.500": "0.5 / 0.5",
    "0.000 0.000 0.000 / 1.000 1.000 1.000": "0 / 1",
}


def weights_list(backbone: Backbone = None, json: o.Json = False) -> None:
    """Print published weights with license, size and source.

    Without BACKBONE, print the pretrainings; the library's own weights are listed for a backbone only. A file is present or
    missing on this machine: adbench downloads it when it needs it. Gated ones need an account that accepted their license.

    Examples:
      adbench weights list
      adbench weights list vit_base_patch16_224
    """
    from adbench.backbones.weights import inventory

    found = inventory(backbone)
    if json:
        return console.answer_json({"weights": found})
    console.answer(_of_backbone(found) if backbone else _pretrainings(found))
    if backbone:
        return console.say("\n".join(f"{w['name']}: {w['note']}" for w in found if w["note"]) or "no remarks on their licenses")
    console.say(f"files belong in {Path(found[0]['path']).parent}; 'adbench weights import NAME FILE' puts them there")


def _pretrainings(found: list[dict[str, Any]]) -> str:
    rows = [
        [w["name"], w["backbone"], w["file"], _presence(w), w["license"], w["megabytes"], w["url"] or w["source"]] for w in found
    ]
    return console.table(["name", "backbone", "file", "", "license", "MB", "source"], rows)


def _of_backbone(found: list[dict[str, Any]]) -> str:
    rows = [
        [w["name"] + (" (default)" if w["default"] else ""), w["license"] or "unknown", _GATED[w["gated"]],
         _normalization(w["mean"], w["std"]), w["megabytes"], _presence(w), w["url"] or w["source"]]
        for w in found
    ]  # fmt: skip
    return console.table(["weights", "license", "gated", "mean / std", "MB", "", "source"], rows)


def _presence(facts: dict[str, Any]) -> str:
    return "present" if facts["present"] else "missing"


def _normalization(mean: list[float], std: list[float]) -> str:
    digits = " / ".join(" ".join(f"{value:.3f}" for value in values) for values in (mean, std))
    return _NORMALIZATIONS.get(digits, digits)


def weights_check(
    backbone: o.Backbone,
    weights: Annotated[str, o.argument("WEIGHTS", _WEIGHTS, complete=completion.weight)],
    offline: o.Offline = False,
    json: o.Json = False,
) -> None:
    """Load weights into a backbone and print what it takes from them.

    The answer has the mean and standard deviation by which images are normalized, the license, and the tensors that the backbone
    does not use, such as heads, decoders and text encoders.

    Examples:
      adbench weights check vit_small_patch14_dinov2 dinov2_vits14_pretrain.pth
      adbench weights check efficientnet_lite0 imagenet
    """
    from adbench.backbones.weights import check

    with console.progress() as on_step:
        found = check(backbone, weights, offline=offline, on_step=on_step)
    if json:
        return console.answer_json(found)
    unused = ", ".join(found["unused"]) or "none"
    source = f"{found['path']} fits {found['backbone']}: {found['loaded']} tensors loaded"
    console.answer(f"{source if found['path'] else 'random weights: there is no file to check'}\n"
                   f"mean / std: {_normalization(found['mean'], found['std'])}\nlicense: {found['license'] or 'unknown'}\n"
                   f"unused tensors ({len(found['unused'])}): {unused}")  # fmt: skip


def weights_path(name: Name, json: o.Json = False) -> None:
    """Print the path of a pretraining's checkpoint.

    If the file is missing, the exit code is 3.

    Examples:
      adbench weights path moco
    """
    from adbench.backbones.weights import locate

    facts, problem = locate(name)
    console.answer_json(facts) if json else console.answer(facts["path"])
    if problem:
        raise WeightsError(problem)


def weights_import(name: Name, file: Checkpoint, json: o.Json = False) -> None:
    """Check a checkpoint and copy it to the folder of checkpoints.

    Its keys and shapes must be exactly those of the backbone.

    Examples:
      adbench weights import moco moco_v2_800ep_pretrain.pth.tar
    """
    from adbench.backbones.weights import adopt

    found = adopt(name, file)
    if found["as_published"] is False:
        console.say(f"note: {file} is not the file that its publisher names (SHA-256 {found['sha256'][:8]})")
    console.answer_json(found) if json else console.answer(f"{found['name']}: {found['path']}")
