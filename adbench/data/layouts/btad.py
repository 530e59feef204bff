"""The folder layout of BTAD (Mishra et al., ISIE 2021): {01,02,03}/train/ok, test/{ok,ko}, ground_truth/ko.

Images and masks have several suffixes (bmp, png, jpg) and are paired by their stems. Results name the dataset `mvtec`, as those
of older versions do.
"""

from pathlib import Path

from adbench.data.image_lists import folders_at
from adbench.data.layouts import register
from adbench.data.layouts.mvtec import MVTec


@register("btad")
class BTAD(MVTec):
    """MVTec AD's layout with `ok` for good and `ko` for defective images."""

    reads = "CATEGORY/train/ok, CATEGORY/test/{ok,ko} and CATEGORY/ground_truth/ko"
    remedy = "put good images into its train/ok"
    recorded_as = "mvtec"

    def matches(self, root: Path) -> bool:
        found = [self.folder(root, name) for name in self.categories(root)]
        return bool(found) and all(folders_at(folder, "train/ok") for folder in found)
