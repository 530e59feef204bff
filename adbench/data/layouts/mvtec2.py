"""The folder layout of MVTec AD 2 (Heckler-Kram et al., 2025): CAT/train/good, CAT/test_public/{good,bad}/*, and masks
CAT/test_public/ground_truth/bad/STEM_mask.png. The good images in CAT/validation/good are for thresholds. Those in
CAT/test_private and CAT/test_private_mixed have no labels: no metric counts them, and `adbench submit` makes maps of them."""

from pathlib import Path
from typing import ClassVar

from adbench.data.image_lists import folders_at, images_of
from adbench.data.layouts import register
from adbench.data.layouts.mvtec import MVTec

PRIVATE = ("test_private", "test_private_mixed")


@register("mvtec2")
class MVTec2(MVTec):
    """MVTec AD's layout with other folder names."""

    reads = (
        "CATEGORY/train/good, CATEGORY/validation/good, CATEGORY/test_public/{good,bad} and CATEGORY/test_public/ground_truth/bad"
    )
    test: ClassVar[str] = "test_public"
    ground_truth: ClassVar[str] = "test_public/ground_truth"

    def is_category(self, folder: Path) -> bool:
        return super().is_category(folder) and (folder / self.test).is_dir()

    def unlabeled(self, folder: Path) -> tuple[Path, ...]:
        return tuple(path for name in PRIVATE for part in folders_at(folder, name) for path in images_of(part))
