"""`adbench synth`: synthetic defects on good images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from adbench.cli import console
from adbench.cli import options as o
from adbench.core.errors import UsageError

if TYPE_CHECKING:
    from adbench.data.synthetic.generation import Recipe
    from adbench.types import OnStep

_SIZES = "Range of sizes: square root of a defect's share of the image's area. Default: 0.03,0.2."
_CONTRASTS = "Range of contrasts, as fractions of the brightness range around a defect."


@dataclass(frozen=True)
class RecipeOptions:
    """What the defects look like."""

    panel: ClassVar[str] = "Defects"
    kinds: o.Kinds = None
    sizes: Annotated[str | None, o.option("LOW,HIGH", _SIZES)] = None
    like: o.Like = None
    min_size_px: Annotated[float, o.option("N", "Smallest area of a defect: N x N pixels of the image.")] = 4
    contrasts: Annotated[str, o.option("LOW,HIGH", _CONTRASTS)] = "0.2,0.8"

    def recipe(self, on_step: OnStep) -> Recipe:
        """Return the recipe; reading the masks of --like is reported to `on_step`."""
        from adbench.data.synthetic.generation import Recipe, Sizes, sizes_of_masks

        if self.like and self.sizes:
            raise UsageError("--like and --sizes exclude each other; leave one out")
        if self.like:
            sizes = sizes_of_masks(self.like, self.min_size_px, on_step)
        else:
            sizes = Sizes(_range("--sizes", self.sizes or "0.03,0.2"))
        return Recipe(tuple(o.split(self.kinds)), sizes, _range("--contrasts", self.contrasts), self.min_size_px)


def synth(
    out: Annotated[Path, o.path_option("DIR", "Folder of the new dataset, which is written to DIR/CATEGORY.")],
    recipe: RecipeOptions,
    images: o.OneCategoryOptions,
    count: Annotated[int, o.option("N", "Number of defective images.")] = 100,
    holdout: Annotated[float, o.option("SHARE", "Share of good images to hold out; they get the defects.")] = 0.25,
    contact_sheet: Annotated[Path | None, o.path_option("FILE.png", "Picture to draw: a few defects of each kind.")] = None,
    seed: o.Seed = 0,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Paint synthetic defects on good images, with exact masks.

    The result is a dataset that all other commands read. No test image is read.

    Examples:
      adbench synth --data demo --category nut --out made --contact-sheet nut.png
    """
    from adbench.selection.synthesis import synthesize

    with o.RuntimeOptions(cache).open(images) as workspace:
        made = synthesize(workspace, recipe.recipe(workspace.on_step), count, holdout, seed, out, contact_sheet)
    if json:
        return console.answer_json(made)
    console.answer(console.table([f"defects on {made['category']}", "images"], list(made["defects"].items())))
    console.say(
        f"{made['out']}: {made['train']} good images to train on, {made['good']} held out; defects of "
        "{min:.0f} to {max:.0f} px, median {median:.0f}".format(**made["size_px"])
    )


def _range(option: str, text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"{option} '{text}': write two numbers, e.g. {option} 0.05,0.2") from None
    return low, high
