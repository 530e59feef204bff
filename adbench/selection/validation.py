"""Validation data out of good images alone: some are held out, and defects are painted on those."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adbench.core.errors import DataError
from adbench.core.files import replacing, write_text
from adbench.data.check import check_files, split_fingerprint
from adbench.data.synthetic.generation import Recipe, make_defects
from adbench.data.synthetic.kinds import REVISION
from adbench.metrics.support.labels import CategoryInputs
from adbench.models.calibration import check_share, divide
from adbench.types import OnStep, Sample, digest, ignore_step

LEAST_IMAGES = 10
_MOST_HELD_OUT = 60  # more would cost time and hardly narrow an interval


@dataclass(frozen=True)
class Holdout:
    """How validation data are made: which share of the good images is held out, how many defects of which recipe."""

    share: float = 0.25
    defects: int = 60
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        check_share(self.share)


@dataclass(frozen=True)
class Validation:
    """A category whose "test" images are held-out good ones and synthetic ones made of those.

    sizes: of each defect, as a fraction of the image's side.
    """

    inputs: CategoryInputs
    sizes: tuple[float, ...]
    seed: int = 0

    @property
    def held_out(self) -> int:
        """How many good images are held out."""
        return len(self.inputs.category.test) - len(self.sizes)

    def part(self, share: float) -> Validation:
        """Return the validation with a share of the images to fit on, chosen by chance, and all to score."""
        category = self.inputs.category
        count = max(1, round(share * len(category.train)))
        chosen = np.sort(np.random.default_rng(self.seed).permutation(len(category.train))[:count])
        smaller = replace(category, train=tuple(category.train[k] for k in chosen))
        return replace(self, inputs=CategoryInputs(smaller, self.inputs.facts, self.inputs.sources))


def make_validation(good: CategoryInputs, holdout: Holdout, seed: int, cache: Path, on_step: OnStep = ignore_step) -> Validation:
    """Return validation data of a category's training images; the painted images lie below `cache`, made once.

    Raises DataError if there are too few good images, or where no defect can be painted.
    """
    rest, held = _divided(good, holdout, seed)
    name = digest([split_fingerprint(held, good.facts), asdict(holdout), seed, REVISION])
    painted = _painted(cache / "synthetic" / name, held, holdout, seed, on_step)
    synthetic = [made.sample for made in painted]
    category = rest.category
    category = replace(category, dataset=f"{category.dataset}+synthetic", test=(*held, *synthetic))
    facts = check_files([category], cache / "files.json", on_step)
    sources = (*range(len(held)), *(made.source for made in painted))
    return Validation(CategoryInputs(category, facts, sources), tuple(made.size for made in painted), seed)


def _divided(good: CategoryInputs, holdout: Holdout, seed: int) -> tuple[CategoryInputs, tuple[Sample, ...]]:
    """Return the images to fit on and those held out: no more than there are defects, for each is to get one."""
    name, count = good.category.name, len(good.category.train)
    if count < LEAST_IMAGES:
        raise DataError(f"category '{name}' has {count} good training images; select needs {LEAST_IMAGES} or more")
    return divide(good, min(holdout.share, _MOST_HELD_OUT / count, holdout.defects / count), seed)


@dataclass(frozen=True)
class _Painted:
    sample: Sample
    source: int
    size: float


def _painted(folder: Path, held: Sequence[Sample], holdout: Holdout, seed: int, on_step: OnStep) -> list[_Painted]:
    """Return the synthetic images in `folder`; they are painted if the list of them, written last, is not there."""
    listing = folder / "defects.json"
    known = _read(listing)
    if known is None:
        made = make_defects(held, holdout.defects, seed, holdout.recipe, on_step)
        known = []
        for one in made:
            stem = f"{one.index:03d}-{one.kind}"
            _save(one.image, folder / "images" / f"{stem}.png")
            _save(one.mask.astype(np.uint8) * 255, folder / "masks" / f"{stem}.png")
            size = one.size_px / float(np.sqrt(one.mask.size))
            known.append({"stem": stem, "kind": one.kind, "source": held.index(one.source), "size": size})
        write_text(listing, json.dumps(known, indent=1))
    return [_as_painted(folder, record) for record in known]


def _read(listing: Path) -> list[dict[str, Any]] | None:
    try:
        records: list[dict[str, Any]] = json.loads(listing.read_text(encoding="utf-8"))
        files = [f"{part}/{record['stem']}.png" for record in records for part in ("images", "masks")]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return records if all((listing.parent / name).is_file() for name in files) else None


def _as_painted(folder: Path, record: dict[str, Any]) -> _Painted:
    stem, kind = record["stem"], record["kind"]
    sample = Sample(folder / "images" / f"{stem}.png", f"synthetic/{stem}.png", kind, (folder / "masks" / f"{stem}.png",))
    return _Painted(sample, record["source"], record["size"])


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)
