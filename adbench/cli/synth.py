"""The command `synth`: synthetic defects on good images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adbench.cli import console
from adbench.cli import options as o
from adbench.core.errors import UsageError

Kinds = Annotated[
    list[str] | None,
    typer.Option("--kinds", metavar="A,B", help="Kinds from 'adbench list defects'; may be repeated. Default: all."),
]
Sizes = Annotated[
    str | None,
    typer.Option(
        "--sizes",
        metavar="LOW,HIGH",
        help="Side of a defect as a fraction of the image's: the roots of both areas. Default: 0.03,0.2.",
    ),
]
Like = Annotated[
    Path | None, typer.Option("--like", metavar="MASKS", help="Folder of masks of known defects, whose sizes are followed.")
]
MinSize = Annotated[
    float, typer.Option("--min-size-px", metavar="N", help="No defect has an area below N x N pixels of the image.")
]
Contrasts = Annotated[
    str, typer.Option("--contrasts", metavar="LOW,HIGH", help="As fractions of the range of brightness around a defect.")
]


def add_to(app: typer.Typer) -> None:
    """Give `app` the command of this module."""
    app.command()(synth)


def synth(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The dataset's folder; DIR/CATEGORY is made.")],
    data: o.Data = None,
    category: o.Categories = None,
    count: Annotated[int, typer.Option("--count", metavar="N", help="Defective images.")] = 100,
    kinds: Kinds = None,
    sizes: Sizes = None,
    like: Like = None,
    min_size_px: MinSize = 4,
    contrasts: Contrasts = "0.2,0.8",
    holdout: Annotated[
        float, typer.Option("--holdout", metavar="SHARE", help="Share of good images held out, to put defects on.")
    ] = 0.25,
    contact_sheet: Annotated[
        Path | None, typer.Option("--contact-sheet", metavar="FILE.png", help="Draw a few defects of each kind here.")
    ] = None,
    seed: o.Seed = 0,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Put synthetic defects on good images and write a dataset with exact masks; no test image is read."""
    from adbench.selection.synthesis import SynthesisRequest, synthesise

    with console.progress() as (on_step, _):
        recipe = _recipe(kinds, sizes, like, contrasts, min_size_px, on_step)
        order = SynthesisRequest(recipe, count, holdout, seed)
        workspace = o.workspace(o.data_folder(data), cache, category, "cpu", True, on_step)
        made = synthesise(workspace, order, out, contact_sheet)
    if json:
        return console.answer_json(made)
    console.answer(console.table([f"defects on {made['category']}", "images"], [list(r) for r in made["defects"].items()]))
    console.say(
        f"{made['out']}: {made['train']} good images to train on, {made['good']} held out; defects of "
        "{min:.0f} to {max:.0f} px, median {median:.0f}".format(**made["size_px"])
    )


def _recipe(
    kinds: list[str] | None, sizes: str | None, like: Path | None, contrasts: str, min_size_px: float, on_step: Any
) -> Any:
    """Return what the options say defects shall be like."""
    from adbench.data.synthetic.generation import Recipe
    from adbench.data.synthetic.sizes import Sizes, sizes_of_masks

    if like and sizes:
        raise UsageError("--like and --sizes exclude each other; leave one out")
    chosen = sizes_of_masks(like, min_size_px, on_step) if like else Sizes(_range("--sizes", sizes or "0.03,0.2"))
    names = tuple(name for text in kinds or () for name in text.split(",") if name)
    return Recipe(names, chosen, _range("--contrasts", contrasts), min_size_px)


def _range(option: str, text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"{option} '{text}': write two numbers, e.g. {option} 0.05,0.2") from None
    return low, high
