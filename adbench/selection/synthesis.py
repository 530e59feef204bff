"""A dataset with synthetic defects for a category that has good images only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adbench.core.files import check_folder
from adbench.data.synthetic.dataset import write_dataset
from adbench.data.synthetic.generation import Recipe
from adbench.metrics.support.held_out import hold_out_images
from adbench.models.calibration import check_share
from adbench.pictures.contact_sheet import ContactSheet
from adbench.sweep.workspace import Workspace


def synthesize(
    workspace: Workspace,
    recipe: Recipe,
    count: int,
    share: float,
    seed: int,
    out: Path,
    contact_sheet: Path | None = None,
    replace: bool = False,
) -> dict[str, Any]:
    """Write a dataset with synthetic defects below `out` and return a summary of it; only training images are read.

    Its `count` defective images are painted on a `share` of the good images; the others are for training. `replace`: also if
    an earlier call has written there.
    """
    check_share(share)
    if contact_sheet:
        check_folder("--contact-sheet", contact_sheet.parent)
    train, held = hold_out_images(workspace.single(training_only=True), share, seed)
    sheet = ContactSheet(f"Synthetic defects on {train.category.name}, seed {seed}")
    made = write_dataset(train.category, held, out, recipe, count, seed, sheet.add, workspace.on_step, replace, train.white)
    if contact_sheet:
        sheet.save(contact_sheet)
    return made | {"contact_sheet": str(contact_sheet) if contact_sheet else None}
