"""adbench: which pretrained backbone, layer, image size, pretraining and detector to use for visual anomaly detection.

The functions here are the Python API. Importing this module loads no torch; the functions load it when they need it.
N images, C channels, h x w feature grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from adbench import detectors
    from adbench.sweep.workspace import Workspace
    from adbench.types import OnStep, Result, Scores

__version__ = "0.2.0"


def run_sweep(
    spec: Mapping[str, Any], data: str | Path, out: str | Path, cache: str | Path | None = None, *, device: str = "auto",
    jobs: int = 1, on_step: OnStep | None = None,
) -> list[Result]:  # fmt: skip
    """Run a sweep and return the results of all its jobs, as `adbench sweep` and `adbench report` would.

    spec: the keys of a specification. data: a folder, or "demo". out: the results folder; jobs that are finished there are read,
    not repeated. cache: the cache folder; default: ADBENCH_CACHE, else the platform's. jobs: worker processes.
    A failed or skipped job is a Result with that status and a reason. Raises UsageError for an unknown name or a wrong value,
    DataError for data that is missing or damaged.
    """
    import yaml

    from adbench.sweep.executors import Resources, choose_executor
    from adbench.sweep.run import plan_sweep
    from adbench.sweep.spec import parse

    study = parse(yaml.safe_dump(dict(spec)))
    workspace = replace(_workspace(data, cache, device, on_step), categories=study.categories)
    planned = plan_sweep(workspace, study, Path(out).expanduser())
    for _ in planned.run(choose_executor("local", Resources(jobs=jobs) if jobs > 1 else Resources())):
        pass
    results = (planned.results.outcome(job.key) for job in planned.plan.jobs)
    return [result for result in results if result]


def load_results(folder: str | Path) -> list[Result]:
    """Return all results of a results folder: done, failed and skipped ones. Raises DataError if there is no such folder."""
    from adbench.core.errors import DataError
    from adbench.sweep.results import ResultStore

    path = Path(folder).expanduser()
    if not path.is_dir():
        raise DataError(f"no results folder {path}; run a sweep with --out {path}, or name another folder")
    return ResultStore(path).all()


def to_dataframe(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row per result: the fields of its job, its status and reason, its metrics and its cost. Needs pandas."""
    import pandas as pd

    rows = []
    for result in results:
        record = result.record()
        rows.append({name: record[name] for name in (*result.job.record(), "layer", "status", "reason")})
        rows[-1] |= {**result.metrics, **result.cost}
    return pd.DataFrame(rows)


def extract_features(
    paths: Sequence[str | Path], backbone: str, layers: Sequence[str], weights: str = "imagenet", image_size: int = 256, *,
    cache: str | Path | None = None, device: str = "auto", on_step: OnStep | None = None,
) -> dict[str, NDArray[np.float32]]:  # fmt: skip
    """Return {layer: (N, C, h, w)} of N image files, computed in one forward pass per image.

    image_size: side of the square input in pixels. The features are not written to the cache folder. Raises UsageError for an
    unknown name, DataError for an image that cannot be read, WeightsError for weights that cannot be had.
    """
    import numpy as np

    from adbench.backbones.layers import check_size, describe, parse_layers
    from adbench.core.environment import choose_device
    from adbench.features.extraction import extract
    from adbench.features.tiling import Tiling
    from adbench.features.view import View

    workspace = _workspace("", cache, device, on_step)
    known = describe(backbone, workspace.memo)
    names = {layer: parse_layers(layer, known)[0] for layer in layers}
    view = View(image_size)
    check_size(known, view.size[0], workspace.memo)
    files, network = [Path(path).expanduser() for path in paths], workspace.network(backbone, weights)
    wanted = list(dict.fromkeys(names.values()))
    batches = list(extract(network, files, wanted, Tiling.whole(view), choose_device(device), workspace.on_step))
    return {layer: np.concatenate([batch[name] for batch in batches]).astype(np.float32) for layer, name in names.items()}


class FeatureDetector:
    """A detector on features as `extract_features` returns them.

    detector: the wrapped `adbench.detectors.Detector`, with its `details()` and `state_dict()` after the fit.
    """

    def __init__(self, detector: detectors.Detector, device: str = "auto") -> None:
        self.detector, self._device = detector, device

    def fit(self, features: Mapping[str, NDArray[np.floating]], on_step: OnStep | None = None) -> FeatureDetector:
        """Learn from the features of nominal images, {layer: (N, C, h, w)}, and return self.

        Raises UsageError if the detector cannot use features of these shapes, DetectorError if the fit diverges.
        """
        from adbench.core.environment import choose_device
        from adbench.core.errors import UsageError
        from adbench.features.feature_maps import FeatureMaps
        from adbench.types import ignore_step

        maps = FeatureMaps(tuple(features.values()))
        if reason := self.detector.unsupported(maps.shapes):
            raise UsageError(reason)
        self.detector.fit(maps, device=choose_device(self._device), on_step=on_step or ignore_step)
        return self

    def score(self, features: Mapping[str, NDArray[np.floating]]) -> Scores:
        """Return image scores (N,) and anomaly maps (N, h, w) on the feature grid; higher = more anomalous."""
        from adbench.core.environment import choose_device
        from adbench.features.feature_maps import FeatureMaps

        return self.detector.score(FeatureMaps(tuple(features.values())), device=choose_device(self._device))


def make_detector(name: str, *, seed: int = 0, device: str = "auto", **params: Any) -> FeatureDetector:
    """Return a detector by name; raise UsageError for an unknown name or parameter (see `adbench list detectors NAME`)."""
    from adbench.detectors import make_detector

    return FeatureDetector(make_detector(name, params, seed), device)


def _workspace(data: str | Path, cache: str | Path | None, device: str, on_step: OnStep | None) -> Workspace:
    from adbench.core.environment import cache_folder
    from adbench.sweep.workspace import Workspace
    from adbench.types import ignore_step

    folder = cache_folder(Path(cache).expanduser() if cache else None)
    return Workspace(str(data), folder, device=device, on_step=on_step or ignore_step)
