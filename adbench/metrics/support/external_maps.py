"""Anomaly maps that another program wrote, measured as ours are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adbench.core.environment import memory_bytes
from adbench.core.errors import DataError
from adbench.features.anomaly_maps import upsample
from adbench.metrics import evaluate
from adbench.metrics.support.labels import CategoryInputs
from adbench.types import Sample, Scores, Size

_HELD = 0.25  # of the memory: maps that need more are read again each time
_SUFFIXES = (".npy", ".tiff", ".tif", ".png")


def evaluate_maps(inputs: Sequence[CategoryInputs], folder: Path, size: Size, pro_limit: float) -> list[dict[str, Any]]:
    """Return metrics per category of the maps FOLDER/CATEGORY/test/KIND/NAME.npy, .tiff or .png (any size, one channel).

    A map is resized bilinearly to the evaluation grid and not smoothed; an image's score is its map's maximum, before
    resizing. Raises DataError that names every test image without a map, and for a map that cannot be read.
    """
    found = [[_map_path(folder / item.category.name, sample) for sample in item.category.test] for item in inputs]
    missing = [f"{item.category.name}/{s.name}" for item, paths in zip(inputs, found, strict=True)
               for s, path in zip(item.category.test, paths, strict=True) if path is None]  # fmt: skip
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise DataError(
            f"{folder}: no map for {len(missing)} test images: {shown}; write CATEGORY/test/KIND/NAME.npy, .tiff or .png"
        )
    for item, paths in zip(inputs, found, strict=True):
        _check_distinct(item.category.test, paths)
    return [_evaluate(item, [path for path in paths if path], size, pro_limit) for item, paths in zip(inputs, found, strict=True)]


def _check_distinct(samples: Sequence[Sample], paths: Sequence[Path | None]) -> None:
    """Raise DataError if two images would take the same map, as 000.png and 000.bmp do."""
    owners: dict[Path | None, Path] = {}
    for sample, path in zip(samples, paths, strict=True):
        if (first := owners.setdefault(path, sample.path)) != sample.path:
            raise DataError(
                f"map {path} fits two images, {first} and {sample.path}; call them after the whole file names, e.g. "
                f"{sample.path.name}{path and path.suffix}"
            )


def _map_path(folder: Path, sample: Sample) -> Path | None:
    named = folder / sample.name  # mirrors the data: test/KIND/NAME, with subfolders; two images may differ in their suffix alone
    stems = (named, named.with_suffix(""), folder / "test" / sample.path.parent.name / sample.path.stem)
    candidates = (stem.with_name(f"{stem.name}{suffix}") for stem in stems for suffix in _SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _evaluate(item: CategoryInputs, paths: Sequence[Path], size: Size, pro_limit: float) -> dict[str, Any]:
    labels, files = item.labels(size), MapFiles(paths, size, item.native_sizes())
    image, kept = list[float](), list[NDArray[np.float32]]()
    for index, path in enumerate(paths):
        raw = read_map(path)
        image.append(float(raw.max()))
        if files.nbytes < memory_bytes() * _HELD:
            kept.append(files.resized(index, raw))
    scores = Scores(np.array(image, dtype=np.float32), kept or files)
    metrics = evaluate(scores, labels.truth, pro_limit, labels.regions)
    return {"category": item.category.name, "metrics": metrics, "reason": "; ".join(labels.remarks) or None}


@dataclass(frozen=True)
class MapFiles(Sequence[NDArray[np.float32]]):
    """Maps on the evaluation grid (`size`, or each image's own (H, W) in `native`), read from their files when asked for."""

    paths: Sequence[Path]
    size: Size
    native: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        return self.resized(index, read_map(self.paths[index]))

    def resized(self, index: int, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a map (h, w) that has been read."""
        if self.size == "native" and raw.shape == self.native[index]:
            return raw
        return upsample([raw], self.size, [self.native[index]])[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all maps in memory."""
        if self.size == "native":
            return 4 * sum(height * width for height, width in self.native)
        return 4 * self.size**2 * len(self)


def read_map(path: Path) -> NDArray[np.float32]:
    """Return a (H, W) float32 map; raise DataError unless the file holds one finite two-dimensional array."""
    try:
        raw = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.asarray(Image.open(path))
        values = np.squeeze(np.asarray(raw, dtype=np.float32))
    except Exception as error:  # numpy's and Pillow's readers raise whatever a damaged file makes them stumble over
        reason = (str(error) or type(error).__name__).splitlines()[0][:80]
        raise DataError(f"map {path}: cannot be read ({reason}); write it again") from error
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise DataError(f"map {path}: must be one finite two-dimensional array, not of shape {raw.shape}")
    return values
