"""Submissions to the MVTec AD 2 server: anomaly maps and masks of its private test images, checked and packed.

Each object has a detector of its own. Its good validation images, to which nothing was fitted, set a threshold on pixels and
the scale of its maps: value = 0.5 * (score - low) / (threshold - low), with the lowest validation score low. One affine map per
object keeps the order of all scores, and float16 keeps 11 bits of each. A mask is 255 where its map is above 0.5. The threshold
`sigma:K` is the mean plus K standard deviations of the validation images' pixel scores, as the benchmark's own utilities suggest.

OUT holds nothing but the submission. OUT.work beside it holds the models that were fitted, and of each object the state
from which a stopped command goes on.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adbench.core.errors import DataError, UsageError
from adbench.core.files import check_folder, replacing, write_text
from adbench.core.registry import match
from adbench.core.threads import ordered_map
from adbench.data.check import check_files
from adbench.data.datasets import open_dataset
from adbench.features.anomaly_maps import upsample
from adbench.features.view import View
from adbench.metrics import names as metric_names
from adbench.models.files import SUFFIX as MODEL_SUFFIX
from adbench.models.files import load_model
from adbench.models.prediction import Scorer
from adbench.models.submission_check import ABOVE, Sizes, extras, faults, files_of, misnumbered, uncounted
from adbench.models.training import TrainingRequest, train_model
from adbench.statistics.rules import Sigma, parse_rule
from adbench.sweep.results import ResultStore
from adbench.sweep.workspace import Workspace
from adbench.types import JOB_FIELDS, Category, Job, Result, Sample

log = logging.getLogger("adbench")
METRIC = "aupro_05"
RULE = "sigma:3"
_THREADS = 4  # that write maps
_AHEAD = 4  # maps that wait to be written
_SHOWN = 5  # faults named in a message
_APART = ("category", "fingerprint", "seed")  # what jobs of one row differ in
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Wish:
    """What to submit. sources: model files, or one results folder, whose best row by `metric` among those with `row` counts."""

    sources: Sequence[Path]
    out: Path
    rule: str = RULE
    metric: str = METRIC
    row: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.deviations  # noqa: B018  raises
        match("metric", self.metric, metric_names(), see="metrics")

    @property
    def deviations(self) -> float:
        """The K of `rule`; raise UsageError for another rule."""
        with suppress(UsageError):
            if isinstance(rule := parse_rule(self.rule), Sigma):
                return rule.deviations
        raise UsageError(f"--threshold '{self.rule}': write sigma:K, e.g. {RULE} (mean plus 3 standard deviations)")


@dataclass(frozen=True)
class Scale:
    """How an object's scores become values of its maps, and from what: see the module.

    model: SHA-256 of the model file. images: number of validation images.
    """

    low: float
    threshold: float
    rule: str
    model: str
    images: int

    def values(self, scores: NDArray[np.float32]) -> NDArray[np.float16]:
        """Return the values of a map (H, W)."""
        scaled = ABOVE * (scores.astype(np.float64) - self.low) / (self.threshold - self.low)
        return np.clip(scaled, -_LARGEST, _LARGEST).astype(np.float16)


def submit(workspace: Workspace, wish: Wish) -> dict[str, Any]:
    """Write, check and pack a submission; return its archive, and the model, threshold and maps of each object.

    Maps that are there already are kept if the same model made them. Raise UsageError for models that do not fit, DataError for
    data without private or validation images, files in OUT that are not of a submission, and one that fails the check.
    """
    check_folder("--out", wish.out)
    for left in wish.out.rglob(".*.tmp"):  # by a command that was killed while it wrote
        left.unlink(missing_ok=True)
    objects = private_objects(workspace)
    sizes = private_sizes(workspace, objects)
    if wrong := [*misnumbered(list(sizes)), *extras(wish.out, sizes)]:
        raise DataError(f"submission {wish.out}: {_some(wrong)}; correct this first")
    _warn_of_lacking(sizes)
    row, models = _models(workspace, objects, wish)
    made = [_write_object(workspace, category, models[category.name], wish, sizes) for category in objects]
    check_submission(wish.out, sizes)
    archive = pack(wish.out)
    return {"out": str(wish.out), "archive": str(archive), "maps": len(sizes), "row": row, "objects": made}


def check_only(workspace: Workspace, out: Path) -> dict[str, Any]:
    """Check a folder as `submit` checks what it has written; raise DataError that names the faults."""
    sizes = private_sizes(workspace, private_objects(workspace))
    check_submission(out, sizes)
    _warn_of_lacking(sizes)
    return {"out": str(out), "maps": len(sizes)}


def _warn_of_lacking(sizes: Sizes) -> None:
    if lacking := uncounted(list(sizes)):
        log.warning("the server will refuse this submission, since the data are incomplete: %s", _some(lacking))


def check_submission(root: Path, sizes: Sizes) -> None:
    """Raise DataError with the first faults of a submission, if it has any."""
    if not root.is_dir():
        raise DataError(f"submission {root}: no such folder; make it with 'adbench submit'")
    if found := faults(root, sizes):
        count = f"{len(found)} fault{'s' * (len(found) > 1)}"
        raise DataError(f"submission {root} has {count}: {_some(found)}; delete what is wrong and run 'adbench submit' again")


def _some(words: Sequence[str]) -> str:
    return " | ".join(words[:_SHOWN]) + (f" | and {len(words) - _SHOWN} more" if len(words) > _SHOWN else "")


def private_objects(workspace: Workspace) -> list[Category]:
    """Return the categories of the data; raise DataError if one has no private test images or no validation images."""
    found = open_dataset(workspace.data, workspace.cache, workspace.categories, workspace.on_step)
    for category in found:
        needed = {"test_private and test_private_mixed": category.unlabeled, "validation/good": category.validation}
        if missing := [what for what, images in needed.items() if not images]:
            where = f"'{category.name}' in {workspace.data}"
            raise DataError(f"{where} has no images in {missing[0]}; name a folder of MVTec AD 2 with --data")
    return found


def private_sizes(workspace: Workspace, objects: Sequence[Category]) -> dict[PurePosixPath, tuple[int, int]]:
    """Return (height, width) of each private image by OBJECT/SPLIT/STEM; raise DataError that names every bad file."""
    samples = [Sample(path, str(path)) for category in objects for path in category.unlabeled]
    memo, verify = workspace.cache / "files.json", workspace.verify_data
    facts = check_files([Category("", "", tuple(samples), ())], memo, workspace.on_step, verify=verify)
    return {
        name_of(category, path): (facts[path].height, facts[path].width) for category in objects for path in category.unlabeled
    }


def name_of(category: Category, image: Path) -> PurePosixPath:
    """Return OBJECT/SPLIT/STEM of a private image."""
    return PurePosixPath(category.name, image.parent.name, image.stem)


def _models(workspace: Workspace, objects: Sequence[Category], wish: Wish) -> tuple[dict[str, Any] | None, dict[str, Path]]:
    """Return the row of a results folder, None of model files, and the model file of each object."""
    folders = [path for path in wish.sources if path.is_dir()]
    if folders and len(wish.sources) > 1:
        raise UsageError(f"submit takes model files or one results folder, not {folders[0]} beside others")
    names = [category.name for category in objects]
    if not folders:
        if wish.row:
            raise UsageError("--row chooses a row of a results folder; leave it out for model files")
        return None, _given(wish.sources, names)
    jobs, row = best_row(folders[0], names, wish)
    return row, {name: _fitted(workspace, jobs[name], _work(wish.out) / f"{name}{MODEL_SUFFIX}") for name in names}


def _given(files: Sequence[Path], names: Sequence[str]) -> dict[str, Path]:
    if missing := [str(file) for file in files if not file.exists()]:
        raise DataError(f"{missing[0]}: no such results folder or model file; 'adbench sweep' and 'adbench train' make them")
    found: dict[str, Path] = {}
    for file in files:
        name = load_model(file).job.category
        if name in found:
            raise UsageError(f"submit: {found[name]} and {file} are both of object '{name}'; give one of them")
        found[name] = file
    if missing := [name for name in names if name not in found]:
        raise UsageError(f"submit: no model of {', '.join(missing)}; give one for each object, or fewer objects with --category")
    return found


def best_row(folder: Path, names: Sequence[str], wish: Wish) -> tuple[dict[str, Job], dict[str, Any]]:
    """Return the jobs by object of the row with the highest mean of the metric over all objects, and what the row is.

    A row is all of a job but its category, its data and its seed; of several seeds, the lowest counts. Raise DataError if no row
    has the metric of all objects.
    """
    rows: dict[str, dict[str, Result]] = {}
    for result in sorted(ResultStore(folder).all(), key=lambda result: -result.job.seed):
        if result.status == "done" and result.metrics.get(wish.metric) is not None and _has(result.job, wish.row):
            own = {key: value for key, value in result.job.record().items() if key not in _APART}
            rows.setdefault(json.dumps(own, sort_keys=True), {})[result.job.category] = result
    complete = [row for row in rows.values() if row.keys() >= set(names) and not next(iter(row.values())).job.external]
    if not complete:
        most = max((len(row.keys() & set(names)) for row in rows.values()), default=0)
        which = f"no row with {', '.join(wish.row)}" if wish.row else "no row"
        raise DataError(
            f"{folder}: {which} has {wish.metric} of all {len(names)} objects (at most {most}); sweep the same data, or choose "
            "another --metric"
        )
    means = [fmean(row[name].metrics[wish.metric] or 0 for name in names) for row in complete]
    best = complete[int(np.argmax(means))]
    job = best[names[0]].job
    shown = {key: getattr(job, key) for key in ("detector", "backbone", "weights", "layer", "image_size", "params", "seed")}
    return {name: best[name].job for name in names}, shown | {"metric": wish.metric, "mean": max(means), "rows": len(complete)}


def _has(job: Job, row: Sequence[str]) -> bool:
    """Return whether a job has the values of `KEY=VALUE` texts."""
    for text in row:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--row '{text}': write KEY=VALUE, e.g. --row layer=layer2")
        if str(getattr(job, match("row key", key.strip(), ("layer", *JOB_FIELDS)))) != value.strip():
            return False
    return True


def _fitted(workspace: Workspace, job: Job, file: Path) -> Path:
    """Return the model of a job, fitted to all training images unless it is there."""
    if not file.is_file() or _chosen(load_model(file).job) != _chosen(job):
        own = {field.name: getattr(job, field.name) for field in fields(TrainingRequest) if field.name in JOB_FIELDS}
        request = TrainingRequest(**own | {"layer": job.layer, "view": View.of(job), "smoothing": job.unusual_smoothing})
        train_model(replace(workspace, categories=(job.category,)), request, job.params, file)
    return file


def _chosen(job: Job) -> dict[str, Any]:
    """Return what decides a fit of this version to an object, without the state of the data."""
    return {key: value for key, value in job.record().items() if key not in ("fingerprint", "revision", "extraction")}


def _work(out: Path) -> Path:
    return out.with_name(f"{out.name}.work")


def _write_object(workspace: Workspace, category: Category, model: Path, wish: Wish, sizes: Sizes) -> dict[str, Any]:
    """Write the maps and masks of an object that are not there yet; return what was done."""
    saved = load_model(model)
    if saved.job.category != category.name:
        raise UsageError(f"submit: model {model} is of object '{saved.job.category}', not of '{category.name}'")
    if saved.job.crop != 1:
        raise UsageError(f"submit: {model} sees only the middle of an image (crop {saved.job.crop:g}); train it with crop 1")
    scorer = Scorer.of(saved, model, workspace)
    scale = _scale(workspace, category, scorer, model, wish)
    targets = {path: files_of(name_of(category, path)) for path in category.unlabeled}
    missing = [path for path, files in targets.items() if not all((wish.out / file).is_file() for file in files)]
    maps = _maps(scorer, missing, [sizes[name_of(category, path)] for path in missing], workspace)
    items = zip([targets[path] for path in missing], maps, strict=True)
    for _ in ordered_map(partial(_write, wish.out, scale), items, _THREADS, _AHEAD):
        pass
    return {"object": category.name, "model": str(model), "maps": len(targets), "made": len(missing), **asdict(scale)}


def _scale(workspace: Workspace, category: Category, scorer: Scorer, model: Path, wish: Wish) -> Scale:
    """Return the scale of an object: that of its state if model and rule are the same, else a new one; delete old maps then."""
    state, digest = _work(wish.out) / f"{category.name}.json", hashlib.sha256(model.read_bytes()).hexdigest()
    try:
        known = Scale(**json.loads(state.read_text(encoding="utf-8")))
        if (known.model, known.rule) == (digest, wish.rule):
            return known
    except (OSError, ValueError, TypeError):  # the first run, or one that was stopped before its end
        pass
    found = _measure_scale(workspace, category, scorer, digest, wish)
    for folder in {file.parents[1] for path in category.unlabeled for file in files_of(name_of(category, path))}:
        shutil.rmtree(wish.out / folder, ignore_errors=True)  # of another model or threshold
    write_text(state, json.dumps(asdict(found)) + "\n")
    return found


def _measure_scale(workspace: Workspace, category: Category, scorer: Scorer, model: str, wish: Wish) -> Scale:
    paths = [sample.path for sample in category.validation]
    facts = check_files([Category("", "", category.validation, ())], workspace.cache / "files.json", workspace.on_step)
    low, count, total, squares = np.inf, 0, 0.0, 0.0
    for scores in _maps(scorer, paths, [(facts[path].height, facts[path].width) for path in paths], workspace):
        exact = scores.astype(np.float64)
        low, count = min(low, float(exact.min())), count + exact.size
        total, squares = total + float(exact.sum()), squares + float(np.square(exact).sum())
    mean = total / count
    threshold = mean + wish.deviations * max(0.0, squares / count - mean**2) ** 0.5
    if not threshold > low:
        raise DataError(f"'{category.name}': all pixels of its validation images score {low:g}: they set no threshold")
    return Scale(low, threshold, wish.rule, model, len(paths))


def _maps(
    scorer: Scorer, paths: Sequence[Path], sizes: Sequence[tuple[int, int]], workspace: Workspace
) -> Iterator[NDArray[np.float32]]:
    """Yield the map of each image at the image's own size."""
    if not paths:
        return
    done = 0
    for scores in scorer.score(paths, workspace.on_step):
        for anomaly_map in scores.maps:
            (full,) = upsample([np.asarray(anomaly_map)], "native", [sizes[done]], scorer.smoothing)
            done += 1
            yield full


def _write(out: Path, scale: Scale, item: tuple[tuple[Path, Path], NDArray[np.float32]]) -> None:
    """Write a map, then its mask."""
    import tifffile  # slow to import

    (map_file, mask_file), scores = item
    values = scale.values(scores)
    with replacing(out / map_file, durable=False) as temporary:
        tifffile.imwrite(temporary, values)
    with replacing(out / mask_file, durable=False) as temporary:
        Image.fromarray(np.where(values > ABOVE, np.uint8(255), np.uint8(0))).save(temporary, format="PNG")


def pack(root: Path) -> Path:
    """Write ROOT.tar.gz beside a submission and return it; equal submissions give equal bytes."""
    target = root.with_name(f"{root.name}.tar.gz")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    with (
        replacing(target) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for path in files:
            entry = archive.gettarinfo(path, PurePosixPath(root.name, *path.relative_to(root).parts).as_posix())
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname, entry.mode = 0, 0, 0, "", "", 0o644
            with path.open("rb") as file:
                archive.addfile(entry, file)
    return target
