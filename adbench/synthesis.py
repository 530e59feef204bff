"""Synthetic defects for a category that has good images only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adbench.calibration import check_share, divide
from adbench.setting import Setting
from adbench.synthetic.dataset import write_dataset
from adbench.synthetic.generation import Recipe


@dataclass(frozen=True)
class Order:
    """What to make: `count` defective images, on a `share` of the good images; the rest is for training."""

    recipe: Recipe
    count: int = 100
    share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        check_share(self.share)


def synthesise(setting: Setting, order: Order, out: Path, contact_sheet: Path | None = None) -> dict[str, Any]:
    """Write a dataset of synthetic defects below `out` and return what is in it; only training images are read."""
    train, held_out = divide(setting.single(training_only=True), order.share, order.seed)
    return write_dataset(
        train.category, held_out, out, order.recipe, order.count, order.seed, contact_sheet, setting.on_step
    )
