"""The folder layout of MPDD (Jezek et al., ICUMT 2021), painted metal parts: MVTec AD's, with six categories of fixed names.

Results name the dataset `mvtec`, as those of older versions do.
"""

from pathlib import Path

from adbench.data.layouts import register
from adbench.data.layouts.mvtec import MVTec

CATEGORIES = frozenset({"bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes"})


@register("mpdd")
class MPDD(MVTec):
    """MVTec AD's layout, where all categories have the names of this dataset."""

    recorded_as = "mvtec"

    def matches(self, root: Path) -> bool:
        found = self.categories(root)
        return bool(found) and CATEGORIES.issuperset(found)
