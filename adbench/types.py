"""The values that stages hand to each other: samples in, scores and truth between, one Result per Job out.

N images, H x W evaluation grid. Numpy only: importing this module loads no torch.
"""

import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Status = Literal["done", "skipped", "failed"]
Maps = NDArray[np.float32] | Sequence[NDArray[np.float32]]
Masks = NDArray[np.bool_] | Sequence[NDArray[np.bool_]]
EXTERNAL = "-"  # backbone, weights and layer of a job whose maps another program made
ESTIMATED = "estimated"  # kind of a receptive field: from gradients, not from the graph
SMOOTHING_GRID = 256  # the grid in whose pixels a detector states the sigma of its map's Gaussian
USUAL_SMOOTHING = 4.0  # input pixels; PatchCore's
SMOOTHED = ("patchcore", "padim", "mahalanobis", "rd", "subspace", "supersimplenet")  # detectors whose maps are smoothed
DTYPES = ("float16", "float32", "bfloat16")  # of features; bfloat16: computed in it, kept as float16
Size = int | Literal["native"]
ImageSize = int | str  # side of a square in pixels, "HxW", "native", or a part of it such as "native/2"
Shots = int | Literal["all"]  # training images that a job is fitted to
ALL: Literal["all"] = "all"
OnStep = Callable[[int, int, str], None]  # (steps done, steps in all, what is being done)


def ignore_step(done: int, total: int, note: str) -> None:
    """Take a progress report and do nothing with it: the default wherever progress can be listened to."""


def digest(value: Any) -> str:
    """Return 20 hex digits (80 bits) of the SHA-256 of `value` written as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Sample:
    """One image: where it lies, its name within the dataset, its defect kind ("good" = nominal) and its mask files.

    `masks` holds no file for a nominal image, one for most datasets, several where each defect has its own
    (their union counts); None means that the dataset labels the image as anomalous but has no masks at all.
    """

    path: Path
    name: str
    defect: str = "good"
    masks: tuple[Path, ...] | None = ()

    @property
    def anomalous(self) -> bool:
        return self.defect != "good"


@dataclass(frozen=True)
class Category:
    """The training and test images of one product. `test` may be empty: good images alone are enough to train.

    validation: good images for thresholds, which are neither fitted to nor tested, if the dataset has them. unlabeled: test
    images whose labels are not published, which nothing counts as good or anomalous. saturation: the file with the saturation
    areas of the defects in the masks (MVTec LOCO AD).
    """

    dataset: str
    name: str
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    validation: tuple[Sample, ...] = ()
    unlabeled: tuple[Path, ...] = ()
    saturation: Path | None = None


@dataclass(frozen=True)
class Scores:
    """What a detector says of N images; higher = more anomalous.

    image: (N,) float32. maps: (N, H, W) float32, or N maps of differing sizes when evaluated at native resolution.
    foreground: (N, H, W), the cells that a detector has scored; None if it knows no background.
    """

    image: NDArray[np.float32]
    maps: Maps
    foreground: NDArray[np.bool_] | None = None


class Saturated(NamedTuple):
    """An annotated defect of an image that counts as found once `area` of its pixels are (MVTec LOCO AD).

    pixels: (A,) their indices in the flattened mask. area: 0 < area <= A.
    """

    pixels: NDArray[np.intp]
    area: float


@dataclass(frozen=True)
class Truth:
    """What is known of N images.

    anomalous: (N,) bool. masks: (N, H, W) bool, N masks of differing sizes, or None if unlabeled. defects: those of each image,
    if the dataset has saturation areas; kinds: the kind of each image's defects, by which they are measured apart.
    """

    anomalous: NDArray[np.bool_]
    masks: Masks | None
    defects: Sequence[Sequence[Saturated]] | None = None
    kinds: Sequence[str] | None = None


def view_words(image_size: ImageSize, tile: int, overlap: float) -> str:
    """Return a view in words, e.g. "256 px" or "native in tiles of 256 px"; the overlap if it is not the usual one."""
    size = str(image_size) if str(image_size).startswith("native") else f"{image_size} px"
    more = "" if overlap == Job.overlap else f", overlap {overlap:g}"
    return f"{size} in tiles of {tile} px{more}" if tile else size


def input_side(image_size: ImageSize, tile: int) -> float:
    """Return the side in pixels of the square that has as many as the network's input: a tile, or an image of that size.

    Of images of native size, whose number of pixels differs, it is the side of the smoothing grid: their maps are smoothed by as
    many input pixels as those of any other size.
    """
    height, _, width = str(tile or image_size).partition("x")
    return math.sqrt(int(height) * int(width or height)) if height.isdigit() else float(SMOOTHING_GRID)


def later_axis(default: Any) -> Any:
    """Return a field for an axis added after version 0.1.0: keys and records leave it out where it has its default.

    So older records keep their keys, and a record without the field reads as the default. The default never changes.
    """
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class Job:
    """Everything that decides one number; `key` is the hash of all of it."""

    dataset: str
    fingerprint: str  # content of the category's images and masks
    category: str
    backbone: str
    weights: str
    weights_sha256: str
    layers: tuple[str, ...]  # several are joined
    image_size: ImageSize
    eval_size: Size
    detector: str
    params: dict[str, Any]  # every parameter; one that was added later only where it is not at its default
    revision: int  # of the detector's method
    seed: int
    dtype: str = "float16"  # of the cached features
    pro_limit: float = 0.3
    extraction: int = later_axis(3)  # revision of the feature extraction
    tile: int = later_axis(0)  # pixels; 0 = none
    overlap: float = later_axis(0.25)  # of neighboring tiles, as a share of a tile
    rotations: int = later_axis(0)  # of each training image
    value_range: tuple[float, float] | None = later_axis(None)  # values of black and white in deep images; None: observed
    crop: float = later_axis(1.0)  # side of the middle square that is seen, as a share of the shorter side; 1 = the whole image
    shots: int | Literal["all"] = later_axis(ALL)  # training images, drawn by the seed (data/shots.py)
    smoothing: float | None = later_axis(None)  # input pixels: sigma of the map's Gaussian; None: the detector's, on a 256 grid
    thresholds: tuple[str, ...] = later_axis(())  # rules (statistics/rules.py); good images are held out from the fit to set them
    shift: str = later_axis("")  # KIND:STRENGTH of the test images (data/shifts.py)

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> "Job":
        """Return the Job that `record()` describes; raise TypeError if a field is missing or unknown."""
        lists = {name: tuple(record.get(name, ())) for name in ("layers", "thresholds")}
        lists |= {"value_range": tuple(record["value_range"])} if record.get("value_range") else {}
        return Job(**{**record, **lists})

    @property
    def layer(self) -> str:
        return "+".join(self.layers)

    @property
    def view(self) -> str:
        """How the network sees the images, in words: its size, and tiles if there are any."""
        return view_words(self.image_size, self.tile, self.overlap)

    @property
    def external(self) -> bool:
        """Whether another program made the maps; the detector is its name."""
        return self.backbone == EXTERNAL

    @cached_property
    def key(self) -> str:
        return digest(self.record())

    @property
    def unusual_smoothing(self) -> float | None:
        """The sigma in input pixels of a map's Gaussian if it is not the usual one, else None.

        Without a sigma a job smooths by 4 pixels of a 256 grid whatever the size of the input, as versions before 0.2.0 did.
        """
        side = self.input_side
        if self.smoothing is None and self.detector in SMOOTHED and side != SMOOTHING_GRID:
            return USUAL_SMOOTHING * side / SMOOTHING_GRID
        return None if self.smoothing == USUAL_SMOOTHING else self.smoothing

    @property
    def input_side(self) -> float:
        """The side in pixels of the network's input, see the function of that name."""
        return input_side(self.image_size, self.tile)

    @cached_property
    def params_text(self) -> str:
        return sys.intern(json.dumps(self.params, sort_keys=True))  # many jobs share few values

    def record(self) -> dict[str, Any]:
        """Return the fields by name; a later axis only where it is not at its default."""
        values = {name: getattr(self, name) for name in JOB_FIELDS}
        return {name: value for name, value in values.items() if name not in LATER or value != LATER[name]}

    @property
    def unshifted(self) -> "Job":
        """The job on the test images as they are: its detector is the same."""
        return replace(self, shift="") if self.shift else self

    @property
    def group(self) -> tuple[Any, ...]:
        """The values that jobs of one forward pass over a category share; later axes only if one is not at its default."""
        return (self.dataset, self.fingerprint, self.category, self.backbone, self.weights, self.weights_sha256,
                self.image_size, self.dtype, self.extraction, *self._later_view)  # fmt: skip

    @property
    def _later_view(self) -> tuple[Any, ...]:
        values: dict[str, Any] = {name: getattr(self, name) for name in ("tile", "overlap", "rotations", "crop", "value_range")}
        return tuple(values.values()) if any(value != LATER[name] for name, value in values.items()) else ()


JOB_FIELDS = tuple(f.name for f in fields(Job))
LATER = {f.name: f.default for f in fields(Job) if f.metadata.get("later")}


@dataclass(frozen=True)
class Result:
    """The outcome of one Job. Metrics are fractions of 1 or None; `reason` says why a metric or the whole job is missing."""

    job: Job
    status: Status
    reason: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    cost: dict[str, float | None] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)  # what a detector reports of its fit, intervals of the metrics
    replicates: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)  # a file beside the record
    influence: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)  # the same

    @cached_property
    def receptive_field(self) -> int | None:
        """The receptive field of the job's layers in input pixels, if it is known."""
        return self.details.get("receptive_field_px")

    @cached_property
    def field_is_analytic(self) -> bool:
        """Whether the receptive field is the analytic one, as in records of earlier versions; others are estimated."""
        return self.receptive_field is not None and self.details.get("receptive_field_kind") != ESTIMATED

    @property
    def relative_field(self) -> float | None:
        """The receptive field as a fraction of the image's side, if it is known."""
        return self.receptive_field / self._side if self.receptive_field and self._side else None

    @property
    def _side(self) -> float | None:
        """The side of the resized image in pixels, sqrt(height x width) if it is no square; None if it is unknown."""
        size = self.details.get("input_px") or str(self.job.image_size).split("x")
        return math.prod(map(int, size)) ** (1 / len(size)) if all(str(part).isdigit() for part in size) else None

    def record(self) -> dict[str, Any]:
        """Return the flat JSON form: the job's fields, `layer` as one string, then the outcome."""
        job = self.job.record() | {"layer": self.job.layer, "layers": list(self.job.layers), "key": self.job.key}
        outcome = {name: getattr(self, name) for name in OUTCOME_FIELDS}
        return job | outcome | {"details": dict(self.details)}

    @staticmethod
    def from_record(record: dict[str, Any]) -> "Result":
        """Return the Result that `record()` wrote; raise KeyError or TypeError if keys are missing."""
        job = {name: record[name] for name in JOB_FIELDS if name in record}
        return Result(Job.from_record(job), **{name: record[name] for name in OUTCOME_FIELDS})


OUTCOME_FIELDS = tuple(f.name for f in fields(Result) if f.name not in ("job", "replicates", "influence"))
