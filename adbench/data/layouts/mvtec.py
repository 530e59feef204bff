"""The folder layout of MVTec AD (Bergmann et al., CVPR 2019), shared by MVTec LOCO AD, BTAD and most own data.

CAT/train/good/*, CAT/test/KIND/*, and for each defective image STEM.EXT its masks under CAT/ground_truth/KIND:
STEM_mask.* (MVTec AD), STEM.* (BTAD, perhaps with another suffix), or a folder STEM with several masks (LOCO).
"""

from pathlib import Path
from typing import ClassVar

from adbench.data.image_lists import folders, image_files
from adbench.data.layouts import Dataset, register
from adbench.types import Category, Sample

NOMINAL = ("good", "ok")  # BTAD says "ok"


@register("mvtec")
class MVTec(Dataset):
    """A folder of categories, or one category. Subclasses may name other folders."""

    test: ClassVar[str] = "test"
    ground_truth: ClassVar[str] = "ground_truth"

    def matches(self, root: Path) -> bool:
        return any(self.is_category(folder) for folder in (root, *folders(root)))

    def categories(self, root: Path) -> list[str]:
        return [root.name] if self.is_category(root) else [f.name for f in folders(root) if self.is_category(f)]

    def is_category(self, folder: Path) -> bool:
        """Return whether `folder` is one category of this layout."""
        return any((folder / "train" / word).is_dir() for word in NOMINAL)

    def load(self, root: Path, category: str) -> Category:
        folder = self._folder(root, category)
        kinds = [kind for kind in folders(folder / self.test) if kind != folder / self.ground_truth]  # nested in MVTec AD 2
        test = [sample for kind in kinds for sample in self._test_samples(folder, kind)]
        return Category(self.name, category, self.training(root, category), tuple(test))

    def training(self, root: Path, category: str) -> tuple[Sample, ...]:
        folder = self._folder(root, category)
        return tuple(_sample(folder, path) for word in NOMINAL for path in image_files(folder / "train" / word))

    def _folder(self, root: Path, category: str) -> Path:
        return root if self.is_category(root) else root / category

    def _test_samples(self, folder: Path, kind: Path) -> list[Sample]:
        if kind.name in NOMINAL:
            return [_sample(folder, path) for path in image_files(kind)]
        truth = folder / self.ground_truth
        masks = masks_by_stem(truth / kind.name) if truth.is_dir() else None
        return [_sample(folder, path, kind.name, masks) for path in image_files(kind)]


def _sample(folder: Path, path: Path, kind: str = "good", masks: dict[str, tuple[Path, ...]] | None = None) -> Sample:
    """Return a nominal sample, or one of a defect `kind` with the masks of its stem (None: the dataset has no masks)."""
    name = path.relative_to(folder).as_posix()
    if kind == "good":
        return Sample(path, name)
    return Sample(path, name, kind, None if masks is None else masks.get(path.stem, ()))


def masks_by_stem(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Return the mask files in `folder` by the stem of their image; STEM_mask takes precedence over STEM."""
    masks = {path.name: tuple(image_files(path)) for path in folders(folder)}
    files = image_files(folder)
    masks |= {path.stem: (path,) for path in files}
    return masks | {path.stem.removesuffix("_mask"): (path,) for path in files if path.stem.endswith("_mask")}
