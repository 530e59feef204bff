"""A made-up folder in the structure of MVTec AD 2 goes through sweep, report and submit; the checker names every fault."""

import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import tifffile
from conftest import Run, one_line
from PIL import Image

from adbench.models import submission
from adbench.models.submission_check import faults, uncounted

HEIGHT, WIDTH = 40, 72
OBJECTS = ("can", "vial")
GRID = ("layers=blocks.1.1.add,blocks.2.1.add", "backbones=efficientnet_lite0", "image_sizes=64", "detectors=padim")


def make(root: Path) -> Path:
    """Write two objects in the structure of MVTec AD 2, with both private sets."""
    rng = np.random.default_rng(0)
    stripes = 120 + 50 * np.sin(np.arange(WIDTH) / 4)
    for name in OBJECTS:
        files = [*(f"train/good/{k:03d}_regular" for k in range(4)), *(f"validation/good/{k:03d}_regular" for k in range(2))]
        files += ["test_public/good/000_regular", "test_public/good/001_shift_1", "test_public/bad/000_overexposed"]
        files += [f"test_private/{k:03d}_regular" for k in range(2)] + [f"test_private_mixed/{k:03d}_mixed" for k in range(2)]
        for file in files:
            image = np.clip(stripes + rng.normal(0, 8, (HEIGHT, WIDTH)), 0, 255)
            if "bad" in file or "private" in file:
                image[10:24, 30:50] = 250
            save(root / name / f"{file}.png", image.astype(np.uint8))
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[10:24, 30:50] = 255
        save(root / name / "test_public/ground_truth/bad/000_overexposed_mask.png", mask)
    return root


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("ad2"))


SIZES = {
    PurePosixPath(name, split, f"{k:03d}_{ending}"): (HEIGHT, WIDTH)
    for name in OBJECTS for split, ending in (("test_private", "regular"), ("test_private_mixed", "mixed")) for k in range(2)
}  # fmt: skip


def test_from_sweep_to_submission(run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ("--data", data, "--out", "sent", "--json")
    changed = [word for pair in GRID for word in ("--set", pair)]
    swept = run("sweep", "--preset", "mvtec-ad-2", *changed, "--data", data, "--out", "results")
    assert swept.code == 0 and "images without published labels are not measured" in swept.err
    for result in run("report", "results", "--json").json:
        assert result["dataset"] == "mvtec2" and result["pro_limit"] == 0.05
        assert result["metrics"]["aupro_05"] == result["metrics"]["aupro"] is not None
    with monkeypatch.context() as stopped:  # after the first map
        stopped.setattr(submission, "_write", fail_after(1, submission._write))
        assert run("submit", "results", *place).code == 130
    assert len(list(Path("sent").rglob("*.tiff"))) == 1
    (tmp_path / "sent/anomaly_images/can/test_private/.000_regular.tiff.x.tmp").touch()  # left by a killed process
    made = run("submit", "results", *place)
    assert made.code == 0 and "the server will refuse this submission" in made.err
    found = made.json
    facts = [(one["object"], one["maps"], one["made"], one["images"]) for one in found["objects"]]
    assert facts == [("can", 4, 3, 2), ("vial", 4, 4, 2)]
    assert (found["maps"], found["row"]["rows"], found["row"]["metric"]) == (8, 2, "aupro_05")
    assert faults(Path("sent"), SIZES) == []
    with tarfile.open(found["archive"]) as archive:
        assert len(archive.getnames()) == 16
        assert archive.getnames()[0] == "sent/anomaly_images/can/test_private/000_regular.tiff"
    scores = tifffile.imread("sent/anomaly_images/can/test_private/000_regular.tiff")
    assert scores.dtype == np.float16 and scores.shape == (HEIGHT, WIDTH)
    mask = np.asarray(Image.open("sent/anomaly_images_thresholded/can/test_private/000_regular.png"))
    assert mask[12:22, 33:47].mean() > 200 and mask[:, :12].mean() < 50  # the defect is found
    archive_before = Path(found["archive"]).read_bytes()
    again = run("submit", *(Path("sent.work") / f"{name}.safetensors" for name in OBJECTS), *place).json
    assert [one["made"] for one in again["objects"]] == [0, 0] and Path(again["archive"]).read_bytes() == archive_before
    assert run("submit", "--check", *place).json == {"out": "sent", "maps": 8}
    stricter = run("submit", "results", *place, "--threshold", "sigma:5", "--row", "layer=blocks.1.1.add").json
    assert [one["made"] for one in stricter["objects"]] == [4, 4] and stricter["row"]["layer"] == "blocks.1.1.add"


def test_validation_images_set_the_threshold_and_the_fit_has_all_others(run: Run, data: Path) -> None:
    layer = ("padim", "efficientnet_lite0", "blocks.1.1.add", "--image-size", 64, "--model", "can.safetensors")
    command = ("train", *layer, "--data", data, "--category", "can", "--fpr", 0.4, "--json")
    found, other = run(*command).json, run(*command, "--holdout", 0.25).json
    assert (found["fitted_images"], found["threshold"]["count"], found["validation_images"]) == (4, 2, 2)
    assert (other["fitted_images"], other["threshold"]["count"], "validation_images" in other) == (3, 1, False)


def fail_after(count: int, write: Callable[..., None]) -> Callable[..., None]:
    """Return `write` for threads, interrupted at every call after the first ones."""
    calls: list[int] = []

    def wrapped(*arguments: object) -> None:
        calls.append(1)
        if len(calls) > count:
            raise KeyboardInterrupt
        write(*arguments)

    return wrapped


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A submission without faults."""
    rng = np.random.default_rng(1)
    for name in SIZES:
        scores = rng.random((HEIGHT, WIDTH)).astype(np.float16)
        put_map(tmp_path / "sent", name, scores)
        save(tmp_path / "sent/anomaly_images_thresholded" / f"{name}.png", np.where(scores > 0.5, 255, 0).astype(np.uint8))
    return tmp_path / "sent"


def put_map(root: Path, name: PurePosixPath | str, scores: np.ndarray) -> None:
    path = root / "anomaly_images" / f"{name}.tiff"
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, scores)


ONE = "can/test_private/000_regular"
TIFF, PNG = f"anomaly_images/{ONE}.tiff", f"anomaly_images_thresholded/{ONE}.png"
EXTRA = "can/test_private/002_regular"
FLOATS = np.zeros((HEIGHT, WIDTH), np.float16)


@pytest.mark.parametrize(("change", "says"), [
    (lambda root: (root / TIFF).unlink(), f"{TIFF} is missing"),
    (lambda root: (root / PNG).unlink(), f"{PNG} is missing"),
    (lambda root: put_map(root, ONE, FLOATS[:-1]), f"{TIFF} has the shape (39, 72), its image (40, 72)"),
    (lambda root: put_map(root, ONE, np.stack([FLOATS] * 2)), f"{TIFF} has the shape (2, 40, 72), its image (40, 72)"),
    (lambda root: put_map(root, ONE, FLOATS.astype(np.float32)), f"{TIFF} is of type float32, not float16"),
    (lambda root: put_map(root, ONE, FLOATS + np.float16("nan")), f"{TIFF} has values that are not finite"),
    (lambda root: put_map(root, ONE, FLOATS), f"{PNG} is not 255 exactly where its map is above 0.5"),
    (lambda root: save(root / PNG, np.ones((HEIGHT, WIDTH), np.uint8)), f"{PNG} has the value 1, but only 0 and 255 are allowed"),
    (lambda root: save(root / PNG, np.zeros((HEIGHT, WIDTH, 3), np.uint8)), f"{PNG} has the shape (40, 72, 3), its image"),
    (lambda root: (root / TIFF).write_bytes(b"no tiff"), f"{TIFF} or its mask cannot be read"),
    (lambda root: (root / "run.log").touch(), "run.log does not belong to it"),
    (lambda root: put_map(root, EXTRA, FLOATS), f"anomaly_images/{EXTRA}.tiff does not belong to it"),
    (lambda root: (root / "anomaly_images/tin").mkdir(), "anomaly_images/tin does not belong to it"),
])  # fmt: skip
def test_every_fault_is_named(whole: Path, change: Callable[[Path], object], says: str) -> None:
    assert faults(whole, SIZES) == []
    change(whole)
    assert faults(whole, SIZES)[0].startswith(says)


def test_names_and_counts_are_those_of_the_server() -> None:
    odd = {PurePosixPath("can/test_private/7_regular"): (1, 1), PurePosixPath("can/test_private/000_regular"): (1, 1)}
    assert faults(Path("nowhere"), odd)[0] == (
        "can/test_private has the image 7_regular, but the server asks for 000_regular to 001_regular"
    )
    assert uncounted(list(SIZES))[:2] == ["can/test_private: 2 of 321 images", "can/test_private_mixed: 2 of 321 images"]
    assert "object walnuts" in uncounted(list(SIZES))


def test_mistakes_are_one_line(run: Run, data: Path, parts: Path, models: Path) -> None:
    model = models / "with.safetensors"
    assert "give model files or a results folder" in one_line(run("submit", "--data", data, "--out", "sent"), 2)
    assert "no model of can, vial" in one_line(quiet(run, model, data), 2)
    text = "'alpha' in {} has no images in test_private and test_private_mixed; name a folder of MVTec AD 2 with --data"
    assert text.format(parts) in one_line(quiet(run, model, parts), 3)
    assert "write sigma:K" in one_line(run("submit", model, "--data", data, "--out", "sent", "--threshold", "3"), 2)


def quiet(run: Run, model: Path, data: Path):  # type: ignore[no-untyped-def]
    """Return the answer of a submit command, without the warnings before its error."""
    answer = run("submit", model, "--data", data, "--out", "sent")
    return answer._replace(err="".join(line for line in answer.err.splitlines(True) if "warning" not in line))
