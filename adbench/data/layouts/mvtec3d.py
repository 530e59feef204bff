"""The folder layout of MVTec 3D-AD (Bergmann et al., VISAPP 2022): CAT/train/good/rgb, CAT/test/KIND/{rgb,gt}/NNN.png.

The images in `rgb` are read; the 3-D positions in `xyz` are not used.
"""

from collections.abc import Sequence
from pathlib import Path

from adbench.data.image_lists import folders_at, images_of
from adbench.data.layouts import register
from adbench.data.layouts.mvtec import MVTec
from adbench.data.mask_pairs import pair_masks


@register("mvtec3d")
class MVTec3D(MVTec):
    """MVTec AD's layout with images and masks one folder deeper."""

    reads = "CATEGORY/train/good/rgb and CATEGORY/test/KIND/{rgb,gt}"

    def is_category(self, folder: Path) -> bool:
        return bool(folders_at(folder, "train/good/rgb"))

    def images(self, kind: Path) -> list[Path]:
        return [path for rgb in folders_at(kind, "rgb") for path in images_of(rgb)]

    def masks(self, kind: Path, images: Sequence[Path], truths: Sequence[Path]) -> dict[Path, tuple[Path, ...]] | None:
        found = folders_at(kind, "gt")
        return pair_masks(images, kind / "rgb", found[0]) if found and images else None
