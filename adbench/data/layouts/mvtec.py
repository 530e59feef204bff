"""The folder layout of MVTec AD (Bergmann et al., CVPR 2019), shared by MVTec LOCO AD, BTAD and most own data.

CAT/train/good/*, CAT/test/KIND/*, and the masks of a defective image under CAT/ground_truth/KIND: STEM_mask.* (MVTec AD),
STEM.* (BTAD, perhaps with another suffix), or a folder STEM with several masks (LOCO); see mask_pairs.py. Images may lie in
subfolders (lots, cameras). Folder names may be in any case. LOCO also has good images in CAT/validation/good, for thresholds, and
the saturation areas of its defects in CAT/defects_config.json.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from adbench.data.image_lists import folded, folders, folders_at, good_folders, images_of, is_good, unused_images
from adbench.data.layouts import Dataset, register
from adbench.data.mask_pairs import pair_masks
from adbench.data.remarks import noted
from adbench.types import Category, Sample

SATURATION = "defects_config.json"  # of MVTec LOCO AD: the saturation areas of its defects


@register("mvtec")
class MVTec(Dataset):
    """A folder of categories, or one category. Subclasses may name other folders, in lower case."""

    reads = "CATEGORY/train/good, CATEGORY/validation/good, CATEGORY/test/KIND and CATEGORY/ground_truth/KIND"
    test: ClassVar[str] = "test"
    ground_truth: ClassVar[str] = "ground_truth"

    def matches(self, root: Path) -> bool:
        inside = () if folders_at(root, "train") else folders(root)  # of one category: nothing in `test` is listed
        return any(self.is_category(folder) for folder in (root, *inside))

    def categories(self, root: Path) -> list[str]:
        return [root.name] if self.is_category(root) else [f.name for f in folders(root) if self.is_category(f)]

    def is_category(self, folder: Path) -> bool:
        """Return whether `folder` is one category of this layout."""
        return any(is_good(child.name) for train in folders_at(folder, "train") for child in folders(train))

    def load(self, root: Path, category: str) -> Category:
        folder, training = self.folder(root, category), self.training(root, category)
        truths = folders_at(folder, self.ground_truth)  # of MVTec AD 2: in the test folder
        test: list[Sample] = []
        for part in folders_at(folder, self.test):
            good = good_folders(part)
            for kind in folders(part):
                if kind not in truths and folded(kind.name) != "ground_truth":
                    test += self._test_samples(folder, kind, None if kind in good else truths)
        saturation = folder / SATURATION
        return Category(
            self.recorded, category, training, tuple(test), self.validation(folder), self.unlabeled(folder),
            saturation if saturation.is_file() else None,
        )  # fmt: skip

    def training(self, root: Path, category: str) -> tuple[Sample, ...]:
        folder = self.folder(root, category)
        found: list[Path] = []
        for train in folders_at(folder, "train"):
            good = [path for kind in good_folders(train) for path in self.images(kind)]
            noted().unused.update(unused_images(train, good))
            found += good
        return tuple(Sample(path, path.relative_to(folder).as_posix()) for path in found)

    def validation(self, folder: Path) -> tuple[Sample, ...]:
        """Return the good images for thresholds: those of `validation/good`, which MVTec LOCO AD and MVTec AD 2 have."""
        good = [path for part in folders_at(folder, "validation") for kind in good_folders(part) for path in self.images(kind)]
        return tuple(Sample(path, path.relative_to(folder).as_posix()) for path in good)

    def unlabeled(self, folder: Path) -> tuple[Path, ...]:
        """Return the test images of a category whose labels are not published."""
        return ()

    def folder(self, root: Path, category: str) -> Path:
        return root if self.is_category(root) else root / category

    def images(self, kind: Path) -> list[Path]:
        """Return the images of the folder of one kind."""
        return images_of(kind)

    def masks(self, kind: Path, images: Sequence[Path], truths: Sequence[Path]) -> dict[Path, tuple[Path, ...]] | None:
        """Return the masks of each image of a kind of defect; `truths`: the category's folders of masks. None: it has none."""
        if not truths:
            return None
        children = [child for truth in truths for child in folders(truth)]
        same = [child for child in children if child.name == kind.name]
        alike = [child for child in children if folded(child.name) == folded(kind.name)]
        return pair_masks(images, kind, (same or alike or [truths[0] / kind.name])[0])

    def _test_samples(self, folder: Path, kind: Path, truths: Sequence[Path] | None) -> list[Sample]:
        """Return the samples of a kind of defect, or good ones if `truths` is None."""
        images = self.images(kind)
        names = [path.relative_to(folder).as_posix() for path in images]
        if truths is None:
            return list(map(Sample, images, names))
        masks = self.masks(kind, images, truths)
        return [
            Sample(path, name, kind.name, None if masks is None else masks[path])
            for path, name in zip(images, names, strict=True)
        ]
