"""`adbench weights list`, `path` and `import`: the checkpoints of pretrainings."""

from pathlib import Path
from typing import Annotated

from adbench.cli import completion, console
from adbench.cli import options as o
from adbench.core.errors import WeightsError

Name = Annotated[str, o.argument("NAME", "A name from 'adbench weights list'.", complete=completion.table("pretrainings"))]
Checkpoint = Annotated[Path, o.path_argument("FILE", "The checkpoint as its authors publish it.")]


def weights_list(json: o.Json = False) -> None:
    """Print the pretrainings with license, size and source.

    A checkpoint is present or missing on this machine. The standard ImageNet weights are not listed: adbench downloads them when
    it needs them.

    Examples:
      adbench weights list
    """
    from adbench.backbones.weights import inventory

    found = inventory()
    if json:
        return console.answer_json({"weights": found})
    rows = [
        [w["name"], w["backbone"], w["file"], "present" if w["present"] else "missing", w["license"], w["megabytes"],
         w["url"] or w["source"]]
        for w in found
    ]  # fmt: skip
    console.answer(console.table(["name", "backbone", "file", "", "license", "MB", "source"], rows))
    console.say(f"files belong in {Path(found[0]['path']).parent}; 'adbench weights import NAME FILE' puts them there")


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
