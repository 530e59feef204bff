"""Numbers that a change of structure must not move: detectors, metrics, features, and the keys of jobs and cache entries.

`OMP_NUM_THREADS=1 python tests/golden/test_golden.py` measures them again and rewrites tests/golden/numbers.json (one thread, so
that the last digits are repeatable). Do that only for a change that is meant to move numbers, and say so under "Numbers" in
CHANGELOG.md.
"""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adbench.cli import main
from adbench.data.layouts.demo import CATEGORIES, draw
from adbench.detectors import DETECTORS
from adbench.features.cache import CacheKey
from adbench.features.view import View
from adbench.metrics import METRICS, evaluate
from adbench.types import Job, Scores, Truth

FILE = Path(__file__).with_name("numbers.json")
GOLDEN: dict[str, Any] = json.loads(FILE.read_text())
BACKBONE, LAYER = "efficientnet_lite0", "blocks.2.1.add"
SPEC = f"""
backbones: [{BACKBONE}]
layers: [{LAYER}]
image_sizes: [128]
eval_size: 128
detectors:
- patchcore
- padim
- mahalanobis
- {{name: fastflow, params: {{epochs: 4, batch_size: 4, steps: 2, min_steps: 0}}}}
- {{name: asymst, params: {{epochs: 4, batch_size: 4, teacher_hidden: 8, student_hidden: 16, steps: 2, min_steps: 0}}}}
- subspace
- {{name: supersimplenet, params: {{epochs: 4, batch_size: 4, hidden: 16, upscale: 1, min_steps: 0}}}}
"""
STRIDES = (  # reverse distillation needs layers of two strides; after a few steps, rounding decides its numbers
    "--set", f"layers=[{LAYER}+blocks.4.2.add]",
    "--set", "detectors=[{name: rd, params: {epochs: 1, batch_size: 12, learning_rate: 1.0e-4, min_steps: 0}}]",
)  # fmt: skip
COUNTS = {"train": 12, "good": 4, "each": 2}  # images per category, of each defect
# Training enlarges rounding: from AVX-512 to SSE4 on one machine, numbers of asymst move by 1.4e-4, of rd by 2e-4, of
# supersimplenet by 8e-5, all others by 2e-5.
TOLERANCE = dict.fromkeys(("asymst", "rd", "supersimplenet"), 1e-3)


def answer(*arguments: Any) -> Any:
    """Return the JSON answer of a command run in this process; it must end well."""
    with redirect_stdout(StringIO()) as out, pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--json"])
    assert not ended.value.code
    return json.loads(out.getvalue())


def draw_some(root: Path) -> Path:
    """Write the first images of two categories of the dataset `demo`, a texture and an object, and return `root`."""
    for category in ("fabric", "nut"):
        kinds = [("train", "good", COUNTS["train"]), ("test", "good", COUNTS["good"])]
        kinds += [("test", kind, COUNTS["each"]) for kind in CATEGORIES[category][1]]
        for split, kind, count in kinds:
            for number in range(count):
                image, mask = draw(category, split, kind, number)
                _save(image, root / category / split / kind / f"{number}.png")
                if kind != "good":
                    _save(mask.astype(np.uint8) * 255, root / category / "ground_truth" / kind / f"{number}_mask.png")
    return root


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def measure_detectors(data: Path, cache: Path) -> dict[str, dict[str, float | None]]:
    """Return the metrics of every detector on every category, as sweeps give them."""
    spec, out = cache / "spec.yaml", cache / "results"
    spec.write_text(SPEC)
    for changes in ((), STRIDES):
        answer("sweep", "--spec", spec, *changes, "--data", data, "--cache", cache, "--out", out, "--device", "cpu")
    return {f"{r['detector']} {r['category']}": r["metrics"] for r in answer("report", out)}


def measure_features(data: Path, cache: Path) -> dict[str, Any]:
    """Return facts about the features of one layer over the test images of one category."""
    place = ("--data", data, "--category", "nut", "--cache", cache, "--device", "cpu")
    entries = answer("extract", BACKBONE, LAYER, *place, "--image-size", 128)["entries"]
    array = np.load(next(entry["path"] for entry in entries if entry["split"] == "test"))
    values = array.astype(np.float64).ravel()
    picked = values[:: values.size // 12][:12]
    return {
        "shape": list(array.shape), "dtype": array.dtype.name, "mean": values.mean(), "std": values.std(),
        "sum of squares": (values**2).sum(), "values": picked.tolist(),
    }  # fmt: skip


def measure_metrics() -> dict[str, dict[str, float | None]]:
    """Return every metric of synthetic scores: distinct ones, with many ties, and of masks that differ in size."""
    rng = np.random.default_rng(19)
    masks = np.zeros((8, 48, 40), bool)
    for index in range(4):
        y, x = rng.integers(0, 24, 2)
        masks[index, y : y + 5 * index + 3, x : x + 9] = True
        masks[index, 40:44, 2 : 3 + index] = True
    maps = (rng.random(masks.shape) + 0.4 * masks).astype(np.float32)
    anomalous = masks.any(axis=(1, 2))
    image = (rng.random(len(masks)) + 0.5 * anomalous).astype(np.float32)
    scores, truth = Scores(image, maps), Truth(anomalous, masks)
    sides = range(40, 24, -2)
    ragged = [maps[i, :side, :side] for i, side in enumerate(sides)]
    cut = [masks[i, :side, :side] for i, side in enumerate(sides)]
    return {
        "distinct": evaluate(scores, truth),
        "pro_limit 0.05": evaluate(scores, truth, pro_limit=0.05),
        "ties": evaluate(Scores(np.round(image, 1), np.round(maps, 1)), truth),
        "ragged": evaluate(Scores(image, ragged), Truth(anomalous, cut)),
        "without masks": evaluate(scores, Truth(anomalous, None)),
    }


def name_keys() -> dict[str, str]:
    """Return the keys of two jobs and the names of two cache entries: a change would orphan everyone's results and caches."""
    usual = Job(
        dataset="mvtec", fingerprint="0123456789abcdef0123", category="bottle", backbone="wide_resnet50_2",
        weights="imagenet", weights_sha256="ab" * 32, layers=("layer2",), image_size=256, eval_size=256,
        detector="patchcore", params={"coreset_fraction": 0.1, "distance": "l2", "coreset_max": 0}, revision=2, seed=0,
    )  # fmt: skip
    unusual = Job(
        dataset="visa", fingerprint="fedcba98765432100000", category="pipe_fryum", backbone="resnet18",
        weights="random", weights_sha256="random-0", layers=("layer1", "layer2"), image_size=320, eval_size="native",
        detector="fastflow", params={"epochs": 3, "logdet": True}, revision=3, seed=7, dtype="float32", pro_limit=0.05,
    )  # fmt: skip
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    entry = CacheKey(
        images="0123456789abcdef0123", backbone="wide_resnet50_2", weights_sha256="ab" * 32, **imagenet,
        view=View(256), layer="layer2", dtype="float16",
    )  # fmt: skip
    return {"job": usual.key, "job with other values": unusual.key, "cache entry": entry.name}


def measure_all(folder: Path) -> dict[str, Any]:
    """Return everything that tests/golden/numbers.json holds."""
    data, cache = draw_some(folder / "data"), folder / "cache"
    cache.mkdir()
    detectors, features = measure_detectors(data, cache), measure_features(data, cache)
    return {"detectors": detectors, "features": features, "metrics": measure_metrics(), "keys": name_keys()}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measure_all(tmp_path_factory.mktemp("golden"))


def compare(new: dict[str, float | None], golden: dict[str, float | None], tolerance: float) -> None:
    """Assert that the same metrics are there, the same of them undefined, and the others equal but for `tolerance`."""
    assert new.keys() == golden.keys()
    for name, value in golden.items():
        assert (new[name] is None) == (value is None), name
        assert value is None or new[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name


@pytest.mark.parametrize("cell", GOLDEN["detectors"])
def test_detectors(cell: str, found: dict[str, Any]) -> None:
    tolerance = TOLERANCE.get(cell.split()[0], 1e-4)
    compare(found["detectors"][cell], GOLDEN["detectors"][cell], tolerance)


def test_features(found: dict[str, Any]) -> None:
    new, golden = found["features"], GOLDEN["features"]
    assert (new["shape"], new["dtype"]) == (golden["shape"], golden["dtype"])
    for name in ("mean", "std", "sum of squares", "values"):  # one step of float16 is up to 0.00098 of a value
        assert new[name] == pytest.approx(golden[name], rel=1e-3, abs=1e-3), name


@pytest.mark.parametrize("case", GOLDEN["metrics"])
def test_metrics(case: str) -> None:
    compare(measure_metrics()[case], GOLDEN["metrics"][case], 1e-7)  # exact but for the order of float64 sums


def test_keys_of_jobs_and_cache_entries() -> None:
    assert name_keys() == GOLDEN["keys"]


def test_every_detector_and_metric_has_golden_numbers() -> None:
    assert {cell.split()[0] for cell in GOLDEN["detectors"]} >= set(DETECTORS.names())
    assert all(case.keys() >= set(METRICS.names()) for case in GOLDEN["metrics"].values())


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        FILE.write_text(json.dumps(measure_all(Path(temporary)), indent=1) + "\n")
