"""A plain folder of good images, or folders of good and bad ones: DIR/*, or DIR/{good,bad}/*, or DIR/CATEGORY/{good,bad}/*.

Read only where no other layout matches. Good images train. If there are bad ones, a quarter of the good images, chosen by name,
is held out from training: these and the bad ones are the test images. Masks of bad images: DIR/ground_truth/bad/*.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

from adbench.data.image_lists import folded, folders, folders_at, good_folders, image_files, images_of, is_good
from adbench.data.layouts import Dataset, register
from adbench.data.mask_pairs import pair_masks
from adbench.data.remarks import noted
from adbench.types import Category, Sample

BAD = frozenset({"bad", "nok", "ko", "ng", "not_good", "not_ok", "defect", "defective", "anomaly", "anomalous", "abnormal"})
_HELD_OUT = 4  # one in so many good images


@register("plain")
class Plain(Dataset):
    """Samples are named as in MVTec AD's layout: train/good/000.png, test/bad/000.png."""

    fallback = True
    reads = "the images directly in a folder, or those in its folders good and bad"
    remedy = "put good images into it, or into a folder 'good' in it"

    def matches(self, root: Path) -> bool:
        return bool(self.categories(root))

    def categories(self, root: Path) -> list[str]:
        if _has_good(root):
            return [root.name]
        return [folder.name for folder in folders(root) if _has_good(folder)] or ([root.name] if image_files(root) else [])

    def load(self, root: Path, category: str) -> Category:
        folder = self.folder(root, category)
        train, test = self._split(folder, category)
        for kind in (child for child in folders(folder) if folded(child.name) in BAD):
            images = images_of(kind)
            truth = folders_at(folder, f"ground_truth/{folded(kind.name)}")
            masks = pair_masks(images, kind, truth[0]) if truth else None
            test += [
                Sample(path, f"test/{_name(path, folder)}", kind.name, None if masks is None else masks[path]) for path in images
            ]
        return Category(self.name, category, tuple(train), tuple(sorted(test, key=lambda sample: sample.name)))

    def training(self, root: Path, category: str) -> tuple[Sample, ...]:
        return tuple(self._split(self.folder(root, category), category)[0])

    def folder(self, root: Path, category: str) -> Path:
        return root / category if not _has_good(root) and _has_good(root / category) else root

    def _split(self, folder: Path, category: str) -> tuple[list[Sample], list[Sample]]:
        """Return the good samples for training and, if there are bad images, those for the test."""
        good = {path: _name(path, folder) for kind in good_folders(folder) for path in images_of(kind)}
        if not _has_good(folder):
            good = {path: f"good/{path.name}" for path in image_files(folder)}
        held = set[str]()
        if any(images_of(child) for child in folders(folder) if folded(child.name) in BAD):
            held = _held_out(list(good.values()))
            noted().held_out[category] = f"{len(held)} of {len(good)}"
        train, test = ([(path, name) for path, name in good.items() if (name in held) == chosen] for chosen in (False, True))
        return [Sample(path, f"train/{name}") for path, name in train], [Sample(path, f"test/{name}") for path, name in test]


def _has_good(folder: Path) -> bool:
    return any(is_good(child.name) for child in folders(folder))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _held_out(names: Sequence[str]) -> set[str]:
    """Return the names of the images to hold out, at least one and not all: a further image hardly changes who they are."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(normalize("NFC", name).encode(errors="surrogateescape")).digest())
    return set(ranked[: min(max(1, round(len(names) / _HELD_OUT)), len(names) - 1)])
