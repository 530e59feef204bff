"""Synthetic defects for a category that has good images only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adbench.data.synthetic.dataset import write_dataset
from adbench.data.synthetic.generation import Recipe
from adbench.models.calibration import check_share, divide
from adbench.pictures.contact_sheet import ContactSheet
from adbench.sweep.workspace import Workspace


@dataclass(frozen=True)
class SynthesisRequest:
    """What to make: `count` defective images, on a `share` of the good images; the rest is for training."""

    recipe: Recipe
    count: int = 100
    share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        check_share(self.share)


def synthesise(workspace: Workspace, order: SynthesisRequest, out: Path, contact_sheet: Path | None = None) -> dict[str, Any]:
    """Write a dataset of synthetic defects below `out` and return what is in it; only training images are read."""
    train, held_out = divide(workspace.single(training_only=True), order.share, order.seed)
    sheet = ContactSheet()
    made = write_dataset(train.category, held_out, out, order.recipe, order.count, order.seed, sheet.add, workspace.on_step)
    if contact_sheet:
        sheet.save(contact_sheet)
    return made | {"contact_sheet": str(contact_sheet) if contact_sheet else None}
