"""A dataset with synthetic defects for a category that has good images only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adbench.data.synthetic.dataset import write_dataset
from adbench.data.synthetic.generation import Recipe
from adbench.models.calibration import check_share, hold_out_images
from adbench.pictures.contact_sheet import ContactSheet
from adbench.sweep.workspace import Workspace


@dataclass(frozen=True)
class SynthesisRequest:
    """What to make: `count` defective images, painted on a `share` of the good images; the others are for training."""

    recipe: Recipe
    count: int = 100
    share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        check_share(self.share)


def synthesise(workspace: Workspace, request: SynthesisRequest, out: Path, contact_sheet: Path | None = None) -> dict[str, Any]:
    """Write a dataset with synthetic defects below `out` and return a summary of it; only training images are read."""
    train, held = hold_out_images(workspace.single(training_only=True), request.share, request.seed)
    sheet = ContactSheet()
    made = write_dataset(train.category, held, out, request.recipe, request.count, request.seed, sheet.add, workspace.on_step)
    if contact_sheet:
        sheet.save(contact_sheet)
    return made | {"contact_sheet": str(contact_sheet) if contact_sheet else None}
