"""Weights of timm's tags: the hub's cache, downloads, licenses, and the list."""

from collections.abc import Iterator
from http.client import HTTPMessage
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import timm
import torch
from conftest import Run
from safetensors.torch import save, save_file

from adbench.backbones.licenses import is_noncommercial, terms
from adbench.backbones.weights import load, resolve
from adbench.core.errors import UsageError, WeightsError

BACKBONE, REPOSITORY = "test_vit", "timm/test_vit.r160_in1k"
URL = f"https://huggingface.co/{REPOSITORY}/resolve/main/"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of the hub, without an account."""
    for name in ("HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return tmp_path / "hf"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return {k: torch.randn(v.shape) for k, v in timm.create_model(BACKBONE).state_dict().items()}


@pytest.mark.parametrize("file", ["model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("label", ["imagenet", "r160_in1k", f"{BACKBONE}.r160_in1k"])
def test_weights_are_found_in_the_cache_of_the_hub(home: Path, state: dict[str, torch.Tensor], file: str, label: str) -> None:
    repository = home / "hub" / f"models--{REPOSITORY.replace('/', '--')}"
    (snapshot := repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    save_file(state, snapshot / file) if file.endswith("safetensors") else torch.save(state, snapshot / file)
    weights = resolve(BACKBONE, label, offline=True)
    assert weights.path == snapshot / file
    assert torch.equal(load(BACKBONE, weights).state_dict()["pos_embed"], state["pos_embed"])


def test_the_variable_of_the_hub_forbids_downloads(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(WeightsError) as error:
        resolve(BACKBONE, "imagenet")
    place = home / "adbench" / "timm--test_vit.r160_in1k.safetensors"
    assert str(error.value) == (
        f"weights 'imagenet' of test_vit: {place} is not there and HF_HUB_OFFLINE forbids its download; "
        f"get it from {URL}model.safetensors and put it there"
    )


def test_offline_says_where_the_file_belongs(home: Path) -> None:
    with pytest.raises(WeightsError) as error:
        resolve(BACKBONE, "imagenet", offline=True)
    place = home / "adbench" / "timm--test_vit.r160_in1k.safetensors"
    assert str(error.value) == (
        f"weights 'imagenet' of test_vit: {place} is not there; get it from {URL}model.safetensors and put it there"
    )


def test_weights_that_are_in_no_repository_have_their_own_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=rf"{tmp_path}/hub/checkpoints/gcvit_xxtiny_224_nvidia-d1d86009.pth is not there; get"):
        resolve("gcvit_xxtiny", "in1k", offline=True)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "gcvit_xxtiny_224_nvidia-d1d86009.pth").write_bytes(b"cut")
    with pytest.raises(WeightsError, match=r"is damaged \(SHA-256 .*, not d1d86009\)"):
        resolve("gcvit_xxtiny", "in1k", offline=True)


class Server:
    """Answers like the hub: files by address, the others with a status; keeps the requests."""

    def __init__(self, files: dict[str, bytes], status: int) -> None:
        self.files, self.status, self.asked = files, status, []  # type: ignore[var-annotated]

    def __call__(self, request: Any, timeout: float) -> Any:
        url = request if isinstance(request, str) else request.full_url
        self.asked.append((url, None if isinstance(request, str) else request.unredirected_hdrs.get("Authorization")))
        if url not in self.files:
            raise HTTPError(url, self.status, "no", HTTPMessage(), None)
        reply: Any = BytesIO(self.files[url])
        reply.headers = {"Content-Length": str(len(self.files[url]))}
        return reply


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def start(files: dict[str, bytes], status: int = 404) -> Server:
        server = Server(files, status)
        monkeypatch.setattr("urllib.request.urlopen", server)
        return server

    yield start


def test_a_missing_format_is_followed_by_the_next(home: Path, serve: Any, state: dict[str, torch.Tensor]) -> None:
    server = serve({f"{URL}pytorch_model.bin": bytes(_pickled(state))})
    path = resolve(BACKBONE, "imagenet").path
    assert path == home / "adbench" / "timm--test_vit.r160_in1k.bin"
    assert [url.rpartition("/")[2] for url, _ in server.asked] == [
        "model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin"]  # fmt: skip
    assert resolve(BACKBONE, "imagenet", offline=True).path == path


def _pickled(state: dict[str, torch.Tensor]) -> bytes:
    torch.save(state, out := BytesIO())
    return out.getvalue()


def test_a_gated_repository_says_what_to_accept_and_where_the_file_belongs(run: Run, home: Path, serve: Any) -> None:
    serve({}, status=401)
    answer = run("weights", "check", BACKBONE, "imagenet")
    assert (answer.code, answer.err.count("\n")) == (3, 1)
    place = home / "adbench" / "timm--test_vit.r160_in1k.safetensors"
    assert answer.err == (
        f"adbench: error: weights 'imagenet' of test_vit: {place} is not there and its download is denied (no); the license may "
        f"have to be accepted at https://huggingface.co/{REPOSITORY} first; then log in with 'hf auth login' or put a token of "
        "your account into HF_TOKEN, or get the file with your browser and put it there\n"
    )


def test_the_token_is_sent_to_the_hub_only(serve: Any, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    server = serve({f"{URL}model.safetensors": save(state)})
    resolve(BACKBONE, "imagenet")
    with pytest.raises(WeightsError):
        resolve("gcvit_xxtiny", "in1k")
    assert [token for _, token in server.asked] == ["Bearer secret", None]


def test_an_unknown_tag_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        resolve("vit_small_patch14_dinov2", "lvd142")
    assert str(error.value) == "unknown weights 'lvd142' of vit_small_patch14_dinov2; did you mean 'lvd142m'?"


@pytest.mark.parametrize(
    ("backbone", "label", "license", "gated", "mean"),
    [
        ("vit_base_patch16_224", "mae", "cc-by-nc-4.0", "no", "ImageNet"),
        ("vit_small_patch14_dinov2", "lvd142m (default)", "apache-2.0", "no", "ImageNet"),
        ("vit_small_patch16_dinov3", "lvd1689m (default)", "dinov3-license", "unknown", "ImageNet"),
        ("vit_base_patch16_siglip_224", "webli", "apache-2.0", "unknown", "0.5 / 0.5"),
        ("vit_base_patch16_clip_quickgelu_224", "openai", "apache-2.0", "unknown", "CLIP"),
        ("vit_b_16", "IMAGENET1K_V1 (default)", "unknown", "no", "ImageNet"),
    ],
)
def test_the_list_shows_license_gating_and_normalization(
    run: Run, backbone: str, label: str, license: str, gated: str, mean: str
) -> None:
    lines = run("weights", "list", backbone).out.splitlines()
    row = next(line for line in lines if line.startswith(f"{label} "))
    assert row.removeprefix(label).split()[:2] == [license, gated] and f" {mean} " in row
    assert any(present in row for present in (" missing ", " present "))


def test_the_list_in_json(run: Run) -> None:
    found = {item["name"]: item for item in run("weights", "list", "vit_large_patch16_dinov3", "--json").json["weights"]}
    assert [name for name, item in found.items() if item["default"]] == ["lvd1689m"]
    satellite = found["sat493m"]
    assert (satellite["mean"], satellite["gated"], satellite["noncommercial"]) == ([0.43, 0.411, 0.296], None, False)
    assert satellite["url"] == "https://huggingface.co/timm/vit_large_patch16_dinov3.sat493m/resolve/main/model.safetensors"
    assert satellite["note"].startswith("redistribution needs a copy of the license")


def test_licenses() -> None:
    assert [is_noncommercial(name) for name in ("cc-by-nc-4.0", "CC-BY-NC-4.0", "fair-noncommercial-research-license")] == [
        True
    ] * 3
    assert not any(is_noncommercial(name) for name in ("apache-2.0", "mit", "dinov3-license", "nvidia-open-model-license", None))
    assert (terms(None), terms("apache-2.0"), terms("cc-by-nc-4.0")) == ("", "", "no commercial use")
    assert terms("gemma") == "terms of its own: read them before commercial use"
