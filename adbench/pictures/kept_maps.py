"""The pictures that a sweep keeps of each job: its best and worst maps and its loudest false alarms, under RESULTS/maps/KEY."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adbench.core.files import fitting, write_text
from adbench.data.image_lists import sample_names
from adbench.data.images import White
from adbench.data.writing import save_picture
from adbench.features.anomaly_maps import Smoothing, resize_maps
from adbench.pictures.heatmaps import panels
from adbench.types import Masks, Sample, Scores

log = logging.getLogger("adbench")
Role = Literal["best", "worst", "false alarm"]
_QUALITY = 85  # of the picture files


@dataclass(frozen=True)
class KeptMap:
    """A picture (as `heatmaps.panels` draws it) and why it was kept; `file` lies in the job's folder.

    `separation` is the AUROC of the image's own pixels against its own mask, None for a good image.
    """

    file: str
    role: Role
    image: str
    defect: str
    score: float
    separation: float | None


def keep_maps(
    folder: Path,
    samples: Sequence[Sample],
    scores: Scores,
    masks: Masks | None,
    smoothing: float | Smoothing,
    count: int,
    crop: float = 1.0,
    white: White = 1.0,
) -> None:
    """Write `count` pictures of each role and their index into `folder`.

    Best and worst are the defective images whose own pixels the map separates best and worst, a false alarm is a good
    image with one of the highest image scores. `masks` are those of the evaluation grid.
    """
    separations = {} if masks is None else own_separations(np.asarray(scores.maps), masks, smoothing)
    drawn = panels(samples, scores, smoothing, crop, white)
    kept, names = [], ["-".join(name.parts) for name in sample_names(samples, ".webp")]
    for role, index in chosen(separations, scores.image, [sample.anomalous for sample in samples], count):
        sample = samples[index]
        file = fitting(f"{role.replace(' ', '-')}-{names[index]}")
        save_picture(drawn(index), folder / file, "WEBP", quality=_QUALITY)
        kept.append(KeptMap(file, role, sample.name, sample.defect, float(scores.image[index]), separations.get(index)))
    write_text(folder / "index.json", json.dumps([asdict(item) for item in kept], indent=1) + "\n")


def read_kept(folder: Path) -> list[tuple[KeptMap, Path]]:
    """Return what `keep_maps` wrote into `folder`, with the path of each picture; nothing if it kept none."""
    index = folder / "index.json"
    try:
        found = [KeptMap(**item) for item in json.loads(index.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s cannot be read (%s): its pictures are not shown", index, error)
        return []
    return [(item, folder / Path(item.file).name) for item in found if (folder / Path(item.file).name).is_file()]


def own_separations(maps: NDArray[np.float32], masks: Masks, smoothing: float | Smoothing) -> dict[int, float]:
    """Return, by index, the pixel AUROC within each image whose mask has both defective and good pixels."""
    from sklearn.metrics import roc_auc_score  # slow to import, and few sweeps keep pictures

    return {
        index: float(roc_auc_score(mask.ravel(), resize_maps(maps[index : index + 1], mask.shape, smoothing)[0].ravel()))
        for index, mask in enumerate(masks)
        if mask.any() and not mask.all()
    }


def chosen(
    separations: dict[int, float], scores: NDArray[np.float32], anomalous: Sequence[bool], count: int
) -> list[tuple[Role, int]]:
    """Return (role, index) of the images to keep; no image is both best and worst."""
    ranked = sorted(separations, key=lambda index: (-separations[index], index))
    best = ranked[: min(count, (len(ranked) + 1) // 2)]
    worst = [index for index in reversed(ranked) if index not in best][:count]
    good = [index for index, defective in enumerate(anomalous) if not defective]
    alarms = sorted(good, key=lambda index: (-scores[index], index))[:count]
    roles: list[tuple[Role, list[int]]] = [("best", best), ("worst", worst), ("false alarm", alarms)]
    return [(role, index) for role, indices in roles for index in indices]
