"""Good images held out from a fit, or from each of several fits, and the threshold that they set."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError, UsageError
from adbench.data.check import check_files, warn_of_remarks
from adbench.data.image_lists import GOOD, NewImage, find_images
from adbench.features.anomaly_maps import Smoothing
from adbench.features.feature_maps import FeatureMaps
from adbench.metrics.support.held_out import distinct_images, without_images
from adbench.metrics.support.labels import CategoryInputs
from adbench.models.files import load_model, save_model
from adbench.models.prediction import Scorer
from adbench.models.thresholds import Threshold, check_rate, threshold_by
from adbench.statistics.rules import Conformal, Rule, good_scores, parse_rule
from adbench.sweep.workspace import Workspace
from adbench.types import Category, OnStep, Sample, Scores, ignore_step

log = logging.getLogger("adbench")


@dataclass(frozen=True)
class HoldOut:
    """Which good images are held out from the fit, and the threshold that they set: for a false-positive rate, or by a rule.

    share: of the training images; None: the dataset's validation images, else a quarter. Instead of that, selection: the file of
    a selection, of which the images that took no part are held out; folder: other good images, so that the fit has all.
    """

    fpr: float | None
    share: float | None = None
    selection: Path | None = None
    folder: Path | None = None
    by: Rule | None = None

    def __post_init__(self) -> None:
        if self.fpr is not None:
            check_rate(self.fpr)
        if self.share is not None:
            check_share(self.share)

    @property
    def rule(self) -> Rule:
        return self.by or Conformal(self.fpr or 0)


@dataclass(frozen=True)
class CrossFit:
    """The number of folds, each held out from one of as many fits, and the false-positive rate of the threshold."""

    fpr: float
    folds: int

    def __post_init__(self) -> None:
        check_rate(self.fpr)
        if self.folds < 2:
            raise UsageError(f"--cross-fit {self.folds}: give the number of folds, 2 or more, e.g. 5")


def wanted_calibration(
    fpr: float | None, share: float | None, folds: int | None, selection: Path | None = None, rule: str | None = None,
    folder: Path | None = None,
) -> HoldOut | CrossFit | None:  # fmt: skip
    """Return what the options of `train` about a threshold ask for, or None without --fpr and --rule."""
    options = {"--holdout": share, "--cross-fit": folds, "--from-selection": selection, "--calibrate-on": folder}
    given = [name for name, value in options.items() if value is not None]
    if rule is not None and fpr is not None:
        raise UsageError(f"--fpr and --rule exclude each other; --fpr {fpr:g} is --rule conformal:{fpr:g}")
    by = None if rule is None else parse_rule(rule)
    if isinstance(by, Conformal):
        fpr, by = by.rate, None
    if by and folds is not None:
        raise UsageError(f"--cross-fit sets a threshold for a false-positive rate, not by --rule {rule}; write --fpr 0.01")
    if given and fpr is None and by is None:
        raise UsageError(f"{given[0]} needs a false-positive rate; add e.g. --fpr 0.01")
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other; leave {'one' if len(given) == 2 else 'all but one'} out")
    if folds is not None and fpr is not None:
        return CrossFit(fpr, folds)
    return None if fpr is None and by is None else HoldOut(fpr, share, selection, folder, by)


def check_share(share: float) -> None:
    """Raise UsageError unless the share is strictly between 0 and 1."""
    if not 0 < share < 1:
        raise UsageError(f"--holdout {share:g}: the share of good images held out must be above 0 and below 1, e.g. 0.25")


def selected_on(file: Path) -> frozenset[str]:
    """Return the SHA-256 of the images that took part in a selection, from the JSON file that `select` wrote.

    Raise DataError if it cannot be read, or is no selection of this version.
    """
    try:
        images = json.loads(file.read_text(encoding="utf-8"))["images"]
        return frozenset([*images["fit"], *images["validation"]])
    except OSError as error:
        raise DataError(f"--from-selection {file}: {error.strerror or error}; give the file that select wrote") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"--from-selection {file}: does not say which images took part; give the JSON of one category from 'adbench select'"
        ) from error


def fresh_images(inputs: CategoryInputs, file: Path) -> tuple[CategoryInputs, tuple[Sample, ...], frozenset[str]]:
    """Return the inputs without the images that took no part in a selection, those images, and the SHA-256 of the others.

    Raise UsageError if the selection was made on other images, DataError if all images took part in it.
    """
    seen, distinct = selected_on(file), distinct_images(inputs)
    name = inputs.category.name
    if seen.isdisjoint(distinct):
        raise UsageError(f"--from-selection {file}: none of its images is a good image of category '{name}'; name its category")
    fresh = [digest for digest in distinct if digest not in seen]
    if not fresh:
        raise DataError(
            f"--from-selection {file}: all {len(distinct)} good images of category '{name}' took part in the selection, so no "
            "false-positive rate can be promised on them; add good images, or select again with --reserve 0.25"
        )
    return *without_images(inputs, fresh), seen


def calibrate(scorer: Scorer, paths: Sequence[Path], rule: Rule, on_step: OnStep) -> Threshold:
    """Return the threshold that a rule sets from good images that the detector was not fitted to.

    Log a warning if there are too few images for a promised rate.
    """
    return _threshold(scorer.score(paths, on_step), scorer.smoothing, rule)


FitAndScore = Callable[[FeatureMaps, FeatureMaps, OnStep], Scores]  # fitted to the first, the scores of the second


def cross_calibrate(
    maps: FeatureMaps, digests: Sequence[str], scored: FitAndScore, smoothing: Smoothing, wish: CrossFit, seed: int,
    on_step: OnStep = ignore_step,
) -> Threshold:  # fmt: skip
    """Return the threshold from the scores of N good images, each by a fit that has not seen it (see `thresholds`).

    maps: features of the images; digests: of their files, so that copies share a fold and one of them is scored. `seed` divides
    the images. Log a warning if there are too few images for that rate; raise UsageError if there are fewer than folds.
    """
    folds, first = assign_folds(digests, wish.folds, seed), np.unique(digests, return_index=True)[1]

    def by_fold() -> Iterator[Scores]:
        for fold in range(wish.folds):
            rest, own = np.flatnonzero(folds != fold), np.sort(first[folds[first] == fold])
            yield scored(maps.at(rest), maps.at(own), partial(_noted, on_step, f"fit {fold + 1} of {wish.folds + 1}"))

    return _threshold(by_fold(), smoothing, Conformal(wish.fpr), wish.folds)


def assign_folds(digests: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold (N,), 0 to `folds` - 1, of each image; copies share one, sizes differ by one distinct image at most."""
    distinct, number = np.unique(digests, return_inverse=True)
    if len(distinct) < folds:
        raise UsageError(f"--cross-fit {folds}: there are {len(distinct)} different good images; give at most as many folds")
    order = np.random.default_rng(seed).permutation(len(distinct))
    return np.asarray((order % folds)[number], dtype=np.int64)


def _noted(on_step: OnStep, fold: str, done: int, total: int, note: str) -> None:
    on_step(done, total, f"{fold}: {note}" if note else fold)


def _threshold(scored: Iterable[Scores], smoothing: Smoothing, rule: Rule, folds: int = 0) -> Threshold:
    """Return the threshold from scores with maps on the feature grid; `smoothing` is that of the maps."""
    threshold = threshold_by(rule, good_scores(scored, smoothing, [rule]), folds)
    if threshold.shortfall:
        log.warning("%s", threshold.shortfall)
    return threshold


def recalibrate(workspace: Workspace, file: Path, sources: Sequence[Path], fpr: float) -> dict[str, Any]:
    """Set the threshold of the model in `file` from good images, write it there, and return it.

    Raise UsageError if the model was fitted to one of the images, DataError for one that cannot be read.
    """
    rule, model = Conformal(check_rate(fpr)), load_model(file)
    used = {f"threshold: {file} was fitted to": model.fitted, f"threshold: {file} was selected on": model.selected_on}
    distinct = unseen_images(workspace, sources, used)
    threshold = calibrate(Scorer.of(model, file, workspace), list(distinct.values()), rule, workspace.on_step)
    save_model(file, replace(model, threshold=threshold, held_out=tuple(sorted(distinct))))
    return {"model": str(file), "threshold": threshold.record()}


def unseen_images(workspace: Workspace, sources: Sequence[Path], used: Mapping[str, Collection[str]]) -> dict[str, Path]:
    """Return the images in `sources` by their SHA-256, so copies once; `used`: those of images that a detector knows, by how.

    Raise UsageError if it knows one of the images, or if images lie beside folders of good ones; DataError for one that cannot
    be read.
    """
    images = find_images(sources)
    samples = tuple(Sample(image.path, str(image.name)) for image in images)
    category = Category("", "", samples, ())
    facts = check_files([category], workspace.cache / "files.json", workspace.on_step)
    warn_of_remarks(category, facts)
    for how, digests in used.items():
        seen = [sample.path for sample in samples if facts[sample.path].sha256 in digests]
        if seen:
            raise UsageError(
                f"{how} {len(seen)} of these {len(samples)} images, e.g. {seen[0]}, so their scores "
                "are too low; give good images that it has not seen"
            )
    _refuse_defective(images)
    return {facts[sample.path].sha256: sample.path for sample in samples}


def _refuse_defective(images: Sequence[NewImage]) -> None:
    """Raise UsageError for a folder that holds good images in folders named so, and others beside these: defects, or masks."""
    good, others = dict[Path, Path](), dict[Path, Path]()  # an image of each folder that was named
    for image in images:
        folders = image.name.parent.parts
        side = good if any(part.casefold() in GOOD for part in folders) else others
        side.setdefault(image.path.parents[len(folders)], image.path)
    for root in good.keys() & others.keys():
        raise UsageError(
            f"{root}: {others[root]} lies in no folder of good images, as {good[root]} does, so it may be defective or a mask; "
            f"name the folder of good images, e.g. {good[root].parent}"
        )
