"""Whatever a file holds, its reader gives what was written, or the project's own error in one line; nothing else, ever."""

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from adbench.core.errors import AdbenchError
from adbench.data.datasets import open_dataset, open_training
from adbench.data.images import read_image, read_mask
from adbench.data.layouts.visa import VisA
from adbench.detectors.patchcore import PatchCore
from adbench.features.cache import CacheKey, FeatureCache
from adbench.features.view import View
from adbench.models.files import Model, load_model, save_model
from adbench.sweep.results import ResultStore
from adbench.sweep.spec import Spec, parse, preset_text
from adbench.types import Job, Result

FEW = settings(
    max_examples=40, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
KEYS = [*Spec.__dataclass_fields__, "unknown"]
JOB = Job("parts", "f", "nut", "resnet18", "random", "random-0", ("layer1",), 64, 64, "patchcore", {}, 1, 0)

Damage = tuple[float, str, bytes]  # where in the file, what is done there, with which bytes
DAMAGE = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["replace", "insert", "cut", "flip"]), st.binary(min_size=1, max_size=6)),
    min_size=1, max_size=3,
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**20) | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def damaged(content: bytes, steps: list[Damage]) -> bytes:
    for place, kind, new in steps:
        at = int(place * len(content))
        if kind == "cut":
            content = content[:at]
        elif kind == "insert":
            content = content[:at] + new + content[at:]
        elif kind == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ (1 << new[0] % 8)]) + content[at + 1 :]
        elif kind == "replace":
            content = content[:at] + new + content[at + len(new) :]
    return content


def told(call: Callable[[], Any]) -> Any:
    """Return what `call` gives, or the error that it may raise, which must be one line that says something."""
    try:
        return call()
    except AdbenchError as error:
        assert str(error).strip()
        assert "\n" not in str(error)
        return error


@FEW
@given(st.text(max_size=60))
def test_any_text_is_a_study_or_an_error(text: str) -> None:
    assert isinstance(told(lambda: parse(text)), Spec | AdbenchError)
    for override in (text, f"{text}=\n{text}"):
        assert isinstance(told(lambda override=override: parse("", [override])), Spec | AdbenchError)  # type: ignore[misc]


@FEW
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_any_values_are_a_study_or_an_error(content: dict[str, Any]) -> None:
    assert isinstance(told(lambda: parse(yaml.safe_dump(content, allow_unicode=True))), Spec | AdbenchError)


@FEW
@given(DAMAGE)
def test_a_damaged_study_is_a_study_or_an_error(steps: list[Damage]) -> None:
    text = damaged(preset_text("layers-small").encode(), steps).decode(errors="replace")
    assert isinstance(told(lambda: parse(text)), Spec | AdbenchError)


@FEW
@given(DAMAGE)
def test_a_damaged_result_is_what_was_written_or_counts_as_not_run(tmp_path: Path, steps: list[Damage]) -> None:
    store = ResultStore(tmp_path)
    store.write(Result(JOB, "done", None, {"image_auroc": 0.5}, {"fit_s": 1.0}))
    path = tmp_path / f"{JOB.key}.json"
    written = path.read_bytes()
    path.write_bytes(damaged(written, steps))
    found = store.read(JOB.key)
    assert found is None or found.record() == store_record(written, tmp_path)
    assert path.exists() == (found is not None)


@FEW
@given(DAMAGE)
def test_a_damaged_plan_is_what_was_written_or_counts_as_none(tmp_path: Path, steps: list[Damage]) -> None:
    store = ResultStore(tmp_path)
    store.write_plan("study", [JOB], "adbench sweep")
    path = tmp_path / "plans" / "study.jsonl"
    path.write_bytes(damaged(path.read_bytes(), steps))
    assert store.planned() in ([JOB], [])


def store_record(content: bytes, folder: Path) -> dict[str, Any]:
    (folder / f"{JOB.key}.json").write_bytes(content)
    found = ResultStore(folder).read(JOB.key)
    assert found
    return found.record()


@FEW
@given(steps=DAMAGE, sidecar=st.booleans())
def test_a_damaged_cache_entry_is_what_was_written_or_made_again(tmp_path: Path, steps: list[Damage], sidecar: bool) -> None:
    key = CacheKey("f", "resnet18", "random-0", (0.5,), (0.5,), View(64), "layer1", "float16")
    maps = np.random.default_rng(0).normal(size=(3, 4, 5, 5)).astype(np.float32)
    store = FeatureCache(tmp_path)
    if store.read(key) is None:
        with store.writing({"layer1": key}, 3, {}) as writers:
            writers.append({"layer1": maps})
    path = store.sidecar(key) if sidecar else store.path(key)
    path.write_bytes(damaged(path.read_bytes(), steps))
    found = FeatureCache(tmp_path).read(key)  # which has verified nothing yet
    assert found is None or np.array_equal(found.array, maps.astype(np.float16))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "nut.safetensors"
    detector = PatchCore()
    detector.bank_ = np.arange(12, dtype=np.float32).reshape(3, 4)
    save_model(path, Model(JOB, detector, {"fit_s": 1.0}))
    return path.read_bytes()


@FEW
@given(steps=DAMAGE)
def test_a_damaged_model_is_what_was_written_or_an_error(model: bytes, tmp_path: Path, steps: list[Damage]) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(damaged(model, steps))
    found = told(lambda: load_model(path))
    if not isinstance(found, AdbenchError):
        assert found.job == JOB
        np.testing.assert_array_equal(found.detector.bank_, np.arange(12).reshape(3, 4))


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@FEW
@given(steps=DAMAGE)
def test_a_damaged_image_is_an_image_or_an_error(tmp_path: Path, kind: str, steps: list[Damage]) -> None:
    path = tmp_path / f"image.{kind.lower()}"
    path.write_bytes(damaged(encoded(kind), steps))
    for read, dimensions in ((read_image, 3), (read_mask, 2)):
        found = told(lambda read=read: read(path))  # type: ignore[misc]
        assert isinstance(found, AdbenchError) or found.ndim == dimensions


@FEW
@given(
    st.lists(
        st.sampled_from(["object,split,label,image,mask", "a,train,normal,a/b.png,", "a,test,anomaly,../x,", ",,,,", "a"])
        | st.text(max_size=12),
        max_size=4,
    )
)
def test_any_csv_is_a_dataset_or_an_error(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "split_csv").mkdir(exist_ok=True)
    (tmp_path / "split_csv" / "1cls.csv").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    found = told(lambda: [VisA("visa").load(tmp_path, name) for name in VisA("visa").categories(tmp_path)])
    if not isinstance(found, AdbenchError):
        for category in found:
            for sample in (*category.train, *category.test):
                assert tmp_path in sample.path.parents
                assert ".." not in sample.path.parts


PARTS = ["train", "test", "good", "crack", "ground_truth", "test_public", "validation", "000.png", "000_mask.png", "a.csv"]


@FEW
@given(st.lists(st.lists(st.sampled_from(PARTS), min_size=1, max_size=5), max_size=8))
def test_any_tree_is_a_dataset_or_an_error(paths: list[list[str]]) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for parts in paths:
            with suppress(OSError):  # a file is in the way, or a folder
                root.joinpath(*parts[:-1]).mkdir(parents=True, exist_ok=True)
                root.joinpath(*parts).touch()
        for opened in (open_dataset, open_training):
            found = told(lambda opened=opened: opened(folder, root / "cache"))  # type: ignore[misc]
            assert isinstance(found, AdbenchError) or all(category.train for category in found)
