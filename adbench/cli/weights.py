"""The commands `adbench weights ...`: the checkpoints of pretrainings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adbench.cli import console
from adbench.cli import options as o
from adbench.core.errors import WeightsError

weights_app = typer.Typer(no_args_is_help=True, help="List, find or import pretrainings.", rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="A name from 'adbench weights list'.")]


@weights_app.command("list")
def weights_list(json: o.Json = False) -> None:
    """Print the pretrainings: whether the file is here, its licence and size, where to get it."""
    from adbench.backbones.weights import inventory

    found = inventory()
    if json:
        return console.answer_json({"weights": found})
    rows = [
        [w["name"], w["backbone"], w["file"], "here" if w["present"] else "missing", w["licence"], w["megabytes"],
         w["url"] or w["source"]]
        for w in found
    ]  # fmt: skip
    console.answer(console.table(["name", "backbone", "file", "", "licence", "MB", "where to get it"], rows))
    console.say(f"files belong in {Path(found[0]['path']).parent}; 'adbench weights import NAME FILE' puts them there")


@weights_app.command("path")
def weights_path(name: Name, json: o.Json = False) -> None:
    """Print where a pretraining's file lies or belongs; exit code 3 if it is not there."""
    from adbench.backbones.weights import locate

    facts, problem = locate(name)
    if json:
        console.answer_json(facts)
    else:
        console.answer(facts["path"])
    if problem:
        raise WeightsError(problem)


@weights_app.command("import")
def weights_import(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint as its authors publish it.")],
    json: o.Json = False,
) -> None:
    """Check that a checkpoint loads into its backbone, then copy it to where sweeps look for it."""
    from adbench.backbones.weights import adopt

    found = adopt(name, file)
    if found["as_published"] is False:
        console.say(f"note: {file} is not the file that its publisher names (SHA-256 {found['sha256'][:8]})")
    if json:
        return console.answer_json(found)
    return console.answer(f"{found['name']}: {found['path']}")
