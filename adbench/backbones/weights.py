"""Weights of a backbone: found by label, downloaded, checked key by key, and loaded without running code from the file."""

from __future__ import annotations

import logging
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from adbench.backbones.checkpoints import Reading, compare, fit, read_checkpoint
from adbench.backbones.families import IMAGENET_MEAN, IMAGENET_STD, Family, WeightsFile, bare, find
from adbench.backbones.licenses import is_noncommercial, terms
from adbench.backbones.pretraining import PRETRAININGS, Pretraining, fitting, named
from adbench.core.errors import AdbenchError, UsageError, WeightsError
from adbench.core.files import replacing, sha256
from adbench.core.registry import match
from adbench.types import OnStep, ignore_step

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("adbench")
RANDOM = "random"  # label
SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".tar", ".bin")  # of checkpoints
_DENIED, _MISSING = (401, 403), 404  # answers of a server
_TIMEOUT_S, _BLOCK = 15, 1 << 20
_SLOW_S = 2.0
_silent_hosts: dict[str, str] = {}  # hosts that were slow to fail, with the reason: not tried again


@dataclass(frozen=True)
class Weights:
    """The weights of a job: label, SHA-256 of the file ("random-SEED" for random weights), preprocessing, file."""

    label: str
    sha256: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    path: Path | None

    @property
    def seed(self) -> int:
        """The seed that draws random weights."""
        return random_seed(self.sha256)

    def drawn_by(self, seed: int) -> Weights:
        """Return random weights with another seed, and others as they are."""
        return replace(self, sha256=f"{RANDOM}-{seed}") if self.label == RANDOM else self

    def record(self) -> dict[str, Any]:
        """Return the JSON form; its path is absolute."""
        return asdict(self) | {"path": os.path.abspath(self.path) if self.path else None}  # noqa: PTH100  keeps links

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Weights:
        """Return the weights of a JSON form that has been written by `record`."""
        path = Path(record["path"]) if record["path"] else None
        return Weights(record["label"], record["sha256"], tuple(record["mean"]), tuple(record["std"]), path)


def random_seed(sha256: str) -> int:
    """Return the seed of random weights, given what stands for their SHA-256; 0 for that of a file."""
    label, _, seed = sha256.partition("-")
    return int(seed) if label == RANDOM and seed.isdigit() else 0


def resolve(backbone: str, label: str, *, offline: bool = False, on_step: OnStep = ignore_step) -> Weights:
    """Return the weights called `label`; download them if they are missing.

    A label is "imagenet", "random", the name of a pretraining, a label of the library, or the path of a checkpoint. Images are
    normalized as in the training of published weights; for a path, see `Family.normalization`.
    "random" is the library's own initialization with seed 0; `drawn_by` gives it the seed of a job. (Table 1 of the supplement
    of Heckler et al. prints weights='DEFAULT' in its row "random", which would be the pretrained network.)

    Raises UsageError if the label is unknown or belongs to another backbone, WeightsError if the file is damaged, or is
    missing and cannot be downloaded.
    """
    family, name = find(backbone)
    label = expanded(label)
    if label == RANDOM:
        return Weights(label, f"{RANDOM}-0", IMAGENET_MEAN, IMAGENET_STD, None)
    label, file = _file(family, name, label)
    if file.refusal:
        raise UsageError(f"weights '{label}' do not belong to {name}: {file.refusal}")
    if not file.path.is_file():
        file = _fetch(name, label, file, offline, on_step)
    digest = sha256(file.path)
    if not digest.startswith(file.sha256_prefix):
        raise WeightsError(f"weights of {name}: {file.path} is damaged (SHA-256 {digest[:8]}, not {file.sha256_prefix}); "
                           "delete it and run again")  # fmt: skip
    return Weights(label, digest, file.mean, file.std, file.path)


def expanded(label: str) -> str:
    """Return a label as it is, and the path of a checkpoint with `~` expanded."""
    return os.path.expanduser(label)  # noqa: PTH111  leaves the home folder of an unknown user, which is then no such file


def _file(family: Family, name: str, label: str) -> tuple[str, WeightsFile]:
    if is_path(label):
        if Path(label).is_dir():
            raise WeightsError(f"weights '{label}': is a folder; give the path of a checkpoint in it")
        if not Path(label).is_file():
            raise WeightsError(f"weights '{label}': no such file; give a checkpoint's path or a name from 'adbench list weights'")
        mean, std = family.normalization(bare(name), read_checkpoint(Path(label)))
        return label, WeightsFile(Path(label), mean=mean, std=std)
    made = named(label)
    if made and made.backbone != name and label in family.labels(bare(name)):
        made = None  # the library has weights of that name too: `dino` of a ViT
    if made is None:
        if fitting(name):
            match("weights", label, ["imagenet", "DEFAULT", *fitting(name), *family.labels(name)], where=f" of {name}")
        return label, family.weights_file(bare(name), label)
    if made.backbone != name:
        raise UsageError(f"weights '{made.name}' belong to {made.backbone}, not to {name}; "
                         f"'adbench list weights {name}' shows what fits")  # fmt: skip
    return made.name, published_file(made)


def is_path(label: str) -> bool:
    """Return whether a user who writes this means a file."""
    return "/" in label or "\\" in label or Path(label).suffix in SUFFIXES or Path(label).is_file()


def labels(backbone: str) -> list[str]:
    """Return the labels of weights that a backbone has: imagenet, random, its pretrainings, and those of its library."""
    family, name = find(backbone)
    return ["imagenet", "random", *fitting(name), *family.labels(bare(name))]


def usual_files(family: Family, name: str) -> dict[str, WeightsFile]:
    """Return the files of `imagenet` and of the pretrainings of a family's network by label, whether they are there or not."""
    found = {}
    for label in ("imagenet", *fitting(name)):
        with suppress(UsageError, WeightsError):  # no published weights, or the package that has them is missing
            found[label] = _file(family, name, label)[1]
    return found


def published_file(made: Pretraining) -> WeightsFile:
    """Return the file of a pretraining. The SHA-256 is that of a download; a present file is checked by its keys instead."""
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / made.file
    digits = "" if path.is_file() else made.sha256_prefix
    return WeightsFile(
        path, made.url, made.mean, made.std, digits, made.remedy,
        license=made.license, gated=False if made.url else None, megabytes=made.megabytes, source=made.source,
    )  # fmt: skip


def _fetch(name: str, label: str, file: WeightsFile, offline: bool, on_step: OnStep) -> WeightsFile:
    """Download the file, or the same weights in another format if the server has no such file; return the one that is there."""
    remedy = file.remedy or (f"get it from {file.url} and put it there" if file.url else "put it there")
    missing = f"weights '{label}' of {name}: {file.path} is not there"
    if offline or not file.url:
        raise WeightsError(f"{missing}; {remedy}")
    if _is_of_hub(file.url) and _hub_is_offline():
        raise WeightsError(f"{missing} and HF_HUB_OFFLINE forbids its download; {remedy}")
    problem: _UnreachableError | None = None
    for path, url in ((file.path, file.url), *file.others):
        try:
            _download_checked(name, label, replace(file, path=path, url=url), missing, remedy, on_step)
            return replace(file, path=path, url=url)
        except _UnreachableError as error:
            problem = problem or error
            if error.code in _DENIED and _is_of_hub(url):
                raise WeightsError(f"{missing} and its download is denied ({error}); {_gate(file)}") from error
            if error.code != _MISSING:
                break
    raise WeightsError(f"{missing} and cannot be downloaded ({problem}); {remedy}") from problem


def _gate(file: WeightsFile) -> str:
    return (f"the license may have to be accepted at {file.source or file.url} first; then log in with 'hf auth login' or put a "
            f"token of your account into HF_TOKEN, or get the file with your browser and put it there")  # fmt: skip


def _download_checked(name: str, label: str, file: WeightsFile, missing: str, remedy: str, on_step: OnStep) -> None:
    with replacing(file.path, by="TORCH_HOME, HF_HOME") as temporary:
        _download(str(file.url), temporary, on_step)
        if not sha256(temporary).startswith(file.sha256_prefix):
            raise WeightsError(f"{missing} and its download is damaged (SHA-256); {remedy}")
        try:
            if label in PRETRAININGS.items():  # most publishers state no SHA-256
                load(name, Weights(label, "", file.mean, file.std, temporary))
        except WeightsError as error:
            raise WeightsError(f"{missing} and its download is not it; {remedy}") from error


class _UnreachableError(Exception):
    """A download that failed because of the network, not of the disk; code: the server's answer."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


def _download(url: str, target: Path, on_step: OnStep) -> None:
    done, total = 0, 0
    with target.open("wb") as file:
        for block, total in _blocks(url):
            file.write(block)
            done += len(block)
            on_step(done, total, f"downloading {url.rpartition('/')[2]}")
    if done < total:
        raise _UnreachableError(f"ended after {done} of {total} bytes")


def _blocks(url: str) -> Iterator[tuple[bytes, int]]:
    host, started = urlsplit(url).netloc, time.monotonic()
    if host in _silent_hosts:
        raise _UnreachableError(_silent_hosts[host])
    total: int | None = None
    try:
        with urllib.request.urlopen(_authorized(url), timeout=_TIMEOUT_S) as answer:  # noqa: S310  addresses are the project's
            total = int(answer.headers.get("Content-Length") or 0)
            while block := answer.read(_BLOCK):
                yield block, total
    except (OSError, HTTPException) as error:
        reason = str(getattr(error, "reason", None) or error).splitlines()[0]
        if total is None and time.monotonic() - started > _SLOW_S:
            _silent_hosts[host] = reason
        raise _UnreachableError(reason, getattr(error, "code", None)) from error


def _is_of_hub(url: str) -> bool:
    return url.startswith(os.environ.get("HF_ENDPOINT", "https://huggingface.co")) and "/resolve/" in url


def _hub_is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _authorized(url: str) -> str | urllib.request.Request:
    """Add the user's token to the address of a repository; it is not sent on to where that redirects."""
    if not _is_of_hub(url):
        return url
    from huggingface_hub import get_token

    if not (token := get_token()):
        return url
    request = urllib.request.Request(url)  # noqa: S310
    request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def load(backbone: str, weights: Weights) -> nn.Module:
    """Return the network with its weights, frozen and in evaluation mode.

    Raises WeightsError, with the difference, unless the file has exactly the network's keys and shapes, except the classifier's.
    """
    return _loaded(backbone, weights)[0]


def _loaded(backbone: str, weights: Weights) -> tuple[nn.Module, Reading]:
    import torch

    family, name = find(backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights.seed)
        module = family.build(bare(name))
    reading = Reading({}, (), {})
    if weights.path is not None:
        reading = _reading(family, name, weights.label, weights.path, module)
        module.load_state_dict(reading.state, strict=False)
    return module.eval().requires_grad_(False), reading


def _reading(family: Family, name: str, label: str, path: Path, module: nn.Module) -> Reading:
    made, given = PRETRAININGS.items().get(label), read_checkpoint(path)
    made = made if made and made.backbone == name else None
    if made:
        wanted = {key: value for key, value in module.state_dict().items() if not key.startswith(made.head)}
        reading, remedy = compare(made.convert(given), wanted, ()), f"this is not the published '{made.name}', see {made.source}"
    else:
        try:
            reading, remedy = fit(family, module, given), f"choose the checkpoint of {name}"
        except WeightsError as error:
            raise WeightsError(f"weights {path} do not fit {name}: {error}") from error
    if reading.num_problems:
        raise WeightsError(f"weights {path} do not fit {name}: keys {reading}; {remedy}")
    if broken := [key for key, value in reading.state.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise WeightsError(f"weights {path}: {_few(broken)}: values that are not finite; get the file again or choose another")
    if reading.unused:
        log.info("weights %s: %d tensors are not used by %s: %s", path, len(reading.unused), name, ", ".join(reading.unused))
    return reading


def _few(keys: Sequence[str]) -> str:
    return f"{len(keys)} tensors, e.g. {keys[0]}" if len(keys) > 1 else keys[0]


def check(backbone: str, label: str, *, offline: bool = False, on_step: OnStep = ignore_step) -> dict[str, Any]:
    """Load weights; return their facts with the number of tensors that were loaded and the keys of the unused ones."""
    weights = resolve(backbone, label, offline=offline, on_step=on_step)
    _, name = find(backbone)
    _, reading = _loaded(backbone, weights)
    facts = {"backbone": name, "name": weights.label, "path": weights.record()["path"], "sha256": weights.sha256}
    facts |= {"mean": list(weights.mean), "std": list(weights.std), "license": license_of(backbone, label)}
    return facts | {"loaded": len(reading.state), "unused": list(reading.unused)}


def license_of(backbone: str, label: str) -> str | None:
    """Return the license of weights as their publisher names it; None if it is unknown, or for random weights and own files."""
    if label == "random" or is_path(label):
        return None
    try:
        return _file(*find(backbone), label)[1].license
    except AdbenchError:  # not installed
        return None


def inventory(backbone: str | None = None) -> list[dict[str, Any]]:
    """Return the facts of the file of every pretraining, or of all published weights of one backbone."""
    if backbone is None:
        return [_pretraining_facts(PRETRAININGS.get(name)) for name in PRETRAININGS.names()]
    family, name = find(backbone)
    found = [_pretraining_facts(PRETRAININGS.get(label)) for label in fitting(name)]
    labels = family.labels(bare(name)) or ["imagenet"]
    default = family.weights_file(bare(name), "imagenet")
    for label in labels:
        file = family.weights_file(bare(name), label)
        found.append(_facts(label, name, file) | {"default": (file.path, file.url) == (default.path, default.url)})
    return found


def _pretraining_facts(made: Pretraining) -> dict[str, Any]:
    return _facts(made.name, made.backbone, published_file(made)) | {"file": made.file, "default": False}


def _facts(label: str, backbone: str, file: WeightsFile) -> dict[str, Any]:
    """Return the JSON form; megabytes is null and gated is null if unknown, note says what binds or excludes a user."""
    present = file.path.is_file()
    size = file.path.stat().st_size / 1e6 if present and file.megabytes is None else file.megabytes
    return {
        "name": label, "backbone": backbone, "file": file.path.name, "license": file.license,
        "megabytes": size and round(size), "url": file.url, "source": file.source, "path": str(file.path),
        "present": present, "mean": list(file.mean), "std": list(file.std), "gated": file.gated,
        "noncommercial": is_noncommercial(file.license), "note": file.refusal or file.note or terms(file.license),
    }  # fmt: skip


def locate(name: str) -> tuple[dict[str, Any], str | None]:
    """Return the facts of one pretraining, and the error message if its file is missing."""
    made = PRETRAININGS.get(name)
    facts = _pretraining_facts(made)
    problem = f"weights '{made.name}' of {made.backbone}: {facts['path']} is not there; {made.remedy}"
    return facts, None if facts["present"] else problem


def adopt(name: str, file: Path) -> dict[str, Any]:
    """Check that `file` loads as the pretraining, then copy it into place; return its facts with its SHA-256.

    Raises WeightsError, and keeps the file that is in place, unless the keys are exactly those of the backbone.
    """
    made = PRETRAININGS.get(name)
    if not file.is_file():
        raise WeightsError(f"weights import: {file}: no such file; {made.remedy}")
    if file.suffix == ".safetensors":
        raise WeightsError(f"weights import: {file}: '{made.name}' is published as {made.file}; {made.remedy}")
    load(made.backbone, Weights(made.name, "", made.mean, made.std, file))
    target = published_file(made).path
    with replacing(target) as temporary:
        shutil.copyfile(file, temporary)
    digest = sha256(target)
    as_published = digest.startswith(made.sha256_prefix) if made.sha256_prefix else None
    return _pretraining_facts(made) | {"sha256": digest, "as_published": as_published}
