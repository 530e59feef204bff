"""The folder layout of MVTec AD 2 (Heckler-Kram et al., 2025): CAT/train/good, CAT/test_public/{good,bad}/*, and masks
CAT/test_public/ground_truth/bad/STEM_mask.png. The private test images have no labels and are not listed."""

from pathlib import Path
from typing import ClassVar

from adbench.data.layouts import register
from adbench.data.layouts.mvtec import MVTec


@register("mvtec2")
class MVTec2(MVTec):
    """MVTec AD's layout with other folder names."""

    reads = "CATEGORY/train/good, CATEGORY/test_public/{good,bad} and CATEGORY/test_public/ground_truth/bad"
    test: ClassVar[str] = "test_public"
    ground_truth: ClassVar[str] = "test_public/ground_truth"

    def is_category(self, folder: Path) -> bool:
        return super().is_category(folder) and (folder / self.test).is_dir()
