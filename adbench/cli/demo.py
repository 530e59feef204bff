"""`adbench demo`: generated parts in a folder, to try everything on."""

from pathlib import Path
from typing import Annotated

from adbench.cli import completion, console
from adbench.cli import options as o

_CATEGORY = "Category: board, fabric, metal or nut; may be repeated. Default: all."
_NEW = "Images per category in new/, every second one defective, and in more_good/."


def demo(
    out: Annotated[Path, o.path_option("DIR", "New folder for the images.")],
    category: Annotated[list[str] | None, o.option("C", _CATEGORY, complete=completion.generated)] = None,
    train: Annotated[int, o.option("N", "Good images to train on, per category.", low=1, high=1000)] = 32,
    good: Annotated[int, o.option("N", "Good test images per category.", low=1, high=1000)] = 12,
    defective: Annotated[int, o.option("N", "Test images of each of the four kinds of defects.", low=1, high=1000)] = 6,
    new: Annotated[int, o.option("N", _NEW, low=1, high=1000)] = 10,
    side: Annotated[
        int, o.option("N", "Side of the images in pixels. They are drawn at 256 and resized.", low=32, high=1024)
    ] = 256,
    json: o.Json = False,
) -> None:
    """Write generated parts to a folder, to try adbench on.

    DIR/parts is a dataset with masks, in the layout for your own images. DIR/new holds images that are in no dataset; their names
    tell what is wrong with them. DIR/more_good holds good ones for 'adbench threshold'.

    Examples:
      adbench demo --out try --category nut
    """
    from adbench.data.demo.folder import Counts, write_demo

    with console.progress() as on_step:
        made = write_demo(out, category or (), Counts(train, good, defective, new), side, on_step)
    if json:
        return console.answer_json(made)
    heads = ["train", "good", "defective", "new"]
    rows = [[name, *(str(counts[head]) for head in heads)] for name, counts in made["categories"].items()]
    console.answer(console.table(["category", "train/good", "test/good", "test/DEFECT", "new"], rows))
    console.say(f"data: {made['parts']}; new images: {made['new']}, and good ones only: {made['more_good']}")
