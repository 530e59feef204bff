"""A tiny dataset of two categories, a shared cache, and the command line run in this process."""

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from fresh import Nursery
from PIL import Image

from adbench.cli import main

if TYPE_CHECKING:
    from adbench.sweep.workspace import Workspace

SIDE = 64
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is imported


def _image(rng: np.random.Generator, defect: bool) -> tuple[np.ndarray, np.ndarray]:
    stripes = 110 + 40 * np.sin(np.arange(SIDE) / 3 + rng.uniform(0, 6))
    image = np.clip(stripes[None, :, None] + rng.normal(0, 6, (SIDE, SIDE, 3)), 0, 255)
    mask = np.zeros((SIDE, SIDE), bool)
    if defect:
        y, x = rng.integers(8, SIDE - 24, 2)
        mask[y : y + 14, x : x + 14] = True
        image[mask] = (250, 40, 40)
    return image.astype(np.uint8), mask


def make_category(root: Path, seed: int, train: int = 5, good: int = 3, bad: int = 3) -> Path:
    """Write one category in the layout of MVTec AD and return its folder."""
    rng = np.random.default_rng(seed)
    for split, kind, count in (("train", "good", train), ("test", "good", good), ("test", "spot", bad)):
        for index in range(count):
            image, mask = _image(rng, kind == "spot")
            target = root / split / kind / f"{index:03}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(target)
            if kind == "spot":
                truth = root / "ground_truth" / kind / f"{index:03}_mask.png"
                truth.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(truth)
    return root


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest test first, or the others would wait for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


def _once(measure: Callable[..., dict[str, Any]], key: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Let a function of a network and some of its layers answer for each layer once per process."""
    known: dict[Any, Any] = {}

    def measured(network: Any, layers: Any, *rest: Any) -> dict[str, Any]:
        keys = {name: (network.backbone, network.weights.sha256, name, *key(name, *rest)) for name in layers}
        missing = [name for name in layers if keys[name] not in known]
        found = measure(network, missing, *rest) if missing else {}
        known.update({keys[name]: answer for name, answer in found.items()})
        return {name: known[keys[name]] for name in layers}

    return measured


@pytest.fixture(scope="session", autouse=True)
def _networks_once() -> Iterator[None]:
    """A process builds, traces and times a network and measures its fields once, although an empty cache asks for it again."""
    from adbench.backbones import layers, network
    from adbench.features import latency
    from adbench.sweep import pipeline

    fields = _once(pipeline.remembered, lambda name, analytic, size, *rest: (analytic.get(name), size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "_trace", lru_cache(maxsize=None)(layers._trace))
        patch.setattr(network, "load", lru_cache(maxsize=4)(network.load))  # a test that changes a network draws its own
        patch.setattr(network.Network, "_graphs", property(lambda one: vars(one.module).setdefault("graphs", {})))
        patch.setattr(pipeline, "remembered", fields)
        patch.setattr(latency, "_timed", _once(latency._timed, lambda name, *rest: rest))
        yield


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the categories `alpha` and `beta`; not to be changed."""
    root = tmp_path_factory.mktemp("parts")
    make_category(root / "alpha", 1)
    make_category(root / "beta", 2)
    return root


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that tests share; a test that damages it makes its own."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def demo(cache: Path) -> Path:
    """The generated dataset `demo` in the shared cache; not to be changed."""
    from adbench.data.layouts.demo import Demo

    return Demo("demo").generate(cache)


def replace_in_disguise(path: Path, content: bytes) -> None:
    """Put content of the same length in a file's place, with the same modification time, as a copy that keeps times does."""
    status = path.stat()
    assert len(content) == status.st_size
    other = path.with_name("in disguise")
    other.write_bytes(content)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


_watched: list[list[str]] = []


def loaded_by(arguments: list[str]) -> set[str]:
    """Return the names of all modules that a command loads in a Python of its own; it must end well."""
    code = (
        "import sys\nfrom adbench.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir"):
        for seen in _watched:
            seen.append(str(arguments[0]))


sys.addaudithook(_note)  # a hook cannot be taken away again: it is idle while nobody watches


def write_deep_png(path: Path, values: np.ndarray) -> Path:
    """Write (H, W, 3) colors of 16 bits, which Pillow cannot; return the path."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@contextmanager
def opened_paths() -> Iterator[list[str]]:
    """Yield a list that fills with every file that this process opens and every folder that it lists."""
    _watched.append(seen := [])
    try:
        yield seen
    finally:
        _watched.remove(seen)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts processes that need not load torch."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture
def workers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the workers of a sweep run their task messages in this process, which has loaded torch already."""
    from adbench.sweep.executors import local
    from adbench.sweep.workers import run_task, task_message

    def start(pool: Any, groups: Any) -> dict[int, Any]:
        tasks = {}
        for group in groups:
            pool.count += 1
            message = json.dumps(task_message(group, pool.site.workspace, pool.site.out))
            tasks[pool.count] = (group,)
            assert all(result.status == "done" for result in run_task(json.loads(message)))
        return tasks

    monkeypatch.setattr(local._Workers, "start", start)


@pytest.fixture(scope="session")
def models(parts: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of the category `alpha`: with.safetensors has a threshold, without.safetensors none; not to be changed."""
    from adbench.features.view import View
    from adbench.models.calibration import HoldOut
    from adbench.models.training import TrainingRequest, train_model
    from adbench.sweep.workspace import Workspace

    folder = tmp_path_factory.mktemp("models")
    workspace = Workspace(str(parts), cache, ("alpha",), "cpu")
    choices = TrainingRequest("patchcore", "efficientnet_lite0", "blocks.1.1.add", view=View(64))
    train_model(workspace, choices, {}, folder / "with.safetensors", HoldOut(0.4, 0.4))
    train_model(workspace, choices, {}, folder / "without.safetensors")
    return folder


@pytest.fixture(scope="session")
def workspace(parts: Path, cache: Path) -> "Workspace":
    """The category `alpha` with the shared cache."""
    from adbench.sweep.workspace import Workspace

    return Workspace(str(parts), cache, ("alpha",), "cpu")


@pytest.fixture(scope="session")
def model(models: Path) -> Path:
    """The model that has a threshold; not to be changed."""
    return models / "with.safetensors"


class Answer(NamedTuple):
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Answer]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> Run:
    """Run the command line in this process, in an empty folder, with the shared cache."""
    for name in ("ADBENCH_DATA", "ADBENCH_RESULTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ADBENCH_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: Any) -> Answer:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(int(ended.value.code or 0), captured.out, captured.err)

    return call


def one_line(answer: Answer, code: int) -> str:
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("adbench: error: ")
    return answer.err.removeprefix("adbench: error: ").rstrip("\n")
