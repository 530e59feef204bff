"""The Python API: `import adbench` for notebooks. The example of docs/python.md runs in test_docs.py."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import adbench
from adbench.core.errors import DataError, UsageError

SPEC = {"layers": ["blocks.1.1.add"], "image_sizes": [64], "eval_size": 64, "categories": ["alpha"]}


def test_importing_it_is_light() -> None:
    code = "import sys, adbench; print([m for m in ('torch', 'numpy', 'timm', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_sweep_gives_the_results_of_the_command(parts: Path, cache: Path, tmp_path: Path) -> None:
    (first,) = adbench.run_sweep(SPEC, parts, tmp_path / "r", cache, device="cpu")
    (again,) = adbench.run_sweep(SPEC, str(parts), str(tmp_path / "r"), str(cache), device="cpu", jobs=2)
    (loaded,) = adbench.load_results(tmp_path / "r")
    assert first.status == "done"
    assert first.metrics == again.metrics == loaded.metrics


def test_failed_jobs_are_results(parts: Path, cache: Path, tmp_path: Path) -> None:
    spec = SPEC | {"detectors": [{"name": "fastflow", "params": {"learning_rate": 1e30, "epochs": 1}}]}
    (result,) = adbench.run_sweep(spec, parts, tmp_path / "r", cache, device="cpu")
    assert result.status == "failed"
    assert result.reason


def test_results_become_a_table(parts: Path, cache: Path, tmp_path: Path) -> None:
    (result,) = results = adbench.run_sweep(SPEC, parts, tmp_path / "r", cache, device="cpu")
    frame = adbench.to_dataframe(results)
    assert frame.loc[0, "image_auroc"] == result.metrics["image_auroc"]
    assert frame.loc[0, "layer"] == "blocks.1.1.add"


def test_features_are_those_of_the_cache(parts: Path, cache: Path) -> None:
    paths = sorted((parts / "alpha" / "train" / "good").glob("*.png"))
    found = adbench.extract_features(
        paths, "efficientnet-lite0", ["blocks.1.1.add", "blocks.2.1.add"], image_size=64, cache=cache
    )
    assert {layer: maps.shape for layer, maps in found.items()} == {
        "blocks.1.1.add": (5, 24, 16, 16), "blocks.2.1.add": (5, 40, 8, 8)}  # fmt: skip
    assert {maps.dtype for maps in found.values()} == {np.dtype(np.float32)}


def test_a_detector_takes_such_features() -> None:
    rng = np.random.default_rng(0)
    train, test = ({"layer": rng.normal(size=(count, 6, 8, 8)).astype(np.float32)} for count in (8, 3))
    scores = adbench.make_detector("patchcore", coreset_fraction=0.5, device="cpu").fit(train).score(test)
    assert scores.image.shape == (3,)
    assert np.shape(scores.maps) == (3, 8, 8)


def test_mistakes_are_errors_of_one_line(parts: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown key 'layer' in spec; did you mean 'layers'"):
        adbench.run_sweep({"layer": "x"}, parts, tmp_path, cache)
    with pytest.raises(UsageError, match="unknown detector 'patchcor'; did you mean 'patchcore'"):
        adbench.make_detector("patchcor")
    with pytest.raises(UsageError, match="unknown parameter 'coreset_size' of patchcore"):
        adbench.make_detector("patchcore", coreset_size=1)
    with pytest.raises(UsageError, match=r"did you mean 'blocks\.1\.1\.add'"):
        adbench.extract_features([], "efficientnet_lite0", ["blocks.1.1.ad"], cache=cache)
    with pytest.raises(DataError, match="no results folder"):
        adbench.load_results(tmp_path / "nothing")
