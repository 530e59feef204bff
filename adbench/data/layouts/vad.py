"""The folder layout of VAD (Baitieva et al., CVPRW 2024), piezo elements: {train,test}/{good,bad} and test/bad_unseen_defects.

It has no masks, so pixel metrics are undefined. The labeled defects in train/bad are for supervised methods: nothing is fitted to
them. Defects of kinds that are not among these lie in test/bad_unseen_defects. Results name the dataset `mvtec`, as those of
older versions do.
"""

from pathlib import Path

from adbench.data.image_lists import folders_at
from adbench.data.layouts import register
from adbench.data.layouts.mvtec import MVTec


@register("vad")
class VAD(MVTec):
    """MVTec AD's layout without masks, with defects among the training images."""

    reads = "train/good and test/{good,bad,bad_unseen_defects}; the defects in train/bad are for supervised methods"
    recorded_as = "mvtec"

    def is_category(self, folder: Path) -> bool:
        bad = all(folders_at(folder, f"{split}/bad") for split in ("train", "test"))
        return super().is_category(folder) and bad and not folders_at(folder, "ground_truth")

    def matches(self, root: Path) -> bool:
        return super().matches(root) and set(self.categories(root)) == set(MVTec(self.name).categories(root))
