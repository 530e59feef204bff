"""Weights of a backbone: found by label, downloaded, checked key by key, and loaded without running code from the file."""

from __future__ import annotations

import os
import pickle
import shutil
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from adbench.backbones.families import IMAGENET_MEAN, IMAGENET_STD, Family, WeightsFile, bare, find
from adbench.backbones.pretraining import PRETRAININGS, Pretraining, fitting, named
from adbench.core.errors import UsageError, WeightsError
from adbench.core.files import replacing, sha256
from adbench.core.registry import match
from adbench.types import OnStep, ignore_step

if TYPE_CHECKING:
    from torch import Tensor, nn

RANDOM_SEED = 0
_TIMEOUT_S, _BLOCK = 15, 1 << 20
_SLOW_S = 2.0
_silent_hosts: dict[str, str] = {}  # hosts that were slow to fail, with the reason: not tried again


@dataclass(frozen=True)
class Weights:
    """The weights of a job: label, SHA-256 of the file ("random-0" for random weights), preprocessing, file."""

    label: str
    sha256: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    path: Path | None

    def record(self) -> dict[str, Any]:
        """Return the JSON form; its path is absolute."""
        return asdict(self) | {"path": os.path.abspath(self.path) if self.path else None}  # noqa: PTH100  keeps links

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Weights:
        """Return the weights of a JSON form that has been written by `record`."""
        path = Path(record["path"]) if record["path"] else None
        return Weights(record["label"], record["sha256"], tuple(record["mean"]), tuple(record["std"]), path)


def resolve(backbone: str, label: str, *, offline: bool = False, on_step: OnStep = ignore_step) -> Weights:
    """Return the weights called `label`; download them if they are missing.

    A label is "imagenet", "random", the name of a pretraining, a label of the library, or the path of a checkpoint.
    "random" is the library's own initialization with a fixed seed. (Table 1 of the supplement of Heckler et al. prints
    weights='DEFAULT' in its row "random", which would be the pretrained network.)

    Raises UsageError if the label is unknown or belongs to another backbone, WeightsError if the file is damaged, or is
    missing and cannot be downloaded.
    """
    family, name = find(backbone)
    if label == "random":
        return Weights(label, f"random-{RANDOM_SEED}", IMAGENET_MEAN, IMAGENET_STD, None)
    label, file = _file(family, name, label)
    if not file.path.is_file():
        _fetch(name, label, file, offline, on_step)
    digest = sha256(file.path)
    if not digest.startswith(file.sha256_prefix):
        raise WeightsError(f"weights of {name}: {file.path} is damaged (SHA-256 {digest[:8]}, not {file.sha256_prefix}); "
                           "delete it and run again")  # fmt: skip
    return Weights(label, digest, file.mean, file.std, file.path)


def _file(family: Family, name: str, label: str) -> tuple[str, WeightsFile]:
    if "/" in label or "\\" in label or Path(label).suffix in (".pth", ".pt", ".safetensors", ".tar", ".bin"):
        if not Path(label).is_file():
            raise WeightsError(f"weights '{label}': no such file; give a checkpoint's path or a name from 'adbench list weights'")
        return label, WeightsFile(Path(label))
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


def labels(backbone: str) -> list[str]:
    """Return the labels of weights that a backbone has: imagenet, random, its pretrainings, and those of its library."""
    family, name = find(backbone)
    return ["imagenet", "random", *fitting(name), *family.labels(bare(name))]


def at_hand(family: Family, name: str) -> list[str]:
    """Return which of `imagenet` and the pretrainings of a family's network need no download."""
    found = []
    for label in ("imagenet", *fitting(name)):
        with suppress(UsageError, WeightsError):  # no published weights, or the package that has them is missing
            if _file(family, name, label)[1].path.is_file():
                found.append(label)
    return found


def published_file(made: Pretraining) -> WeightsFile:
    """Return the file of a pretraining. The SHA-256 is that of a download; a present file is checked by its keys instead."""
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / made.file
    digits = "" if path.is_file() else made.sha256_prefix
    return WeightsFile(path, made.url, made.mean, made.std, digits, made.remedy)


def _fetch(name: str, label: str, file: WeightsFile, offline: bool, on_step: OnStep) -> None:
    remedy = file.remedy or (f"get it from {file.url} and put it there" if file.url else "put it there")
    missing = f"weights '{label}' of {name}: {file.path} is not there"
    if offline or not file.url:
        raise WeightsError(f"{missing}; {remedy}")
    try:
        with replacing(file.path) as temporary:
            _download(file.url, temporary, on_step)
            if not sha256(temporary).startswith(file.sha256_prefix):
                raise WeightsError(f"{missing} and its download is damaged (SHA-256); {remedy}")
            try:
                if label in PRETRAININGS.items():  # most publishers state no SHA-256
                    load(name, Weights(label, "", file.mean, file.std, temporary))
            except WeightsError as error:
                raise WeightsError(f"{missing} and its download is not it; {remedy}") from error
    except _UnreachableError as error:
        raise WeightsError(f"{missing} and cannot be downloaded ({error}); {remedy}") from error


class _UnreachableError(Exception):
    """A download that failed because of the network, not of the disk."""


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
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310  addresses are the project's own
            total = int(answer.headers.get("Content-Length") or 0)
            while block := answer.read(_BLOCK):
                yield block, total
    except (OSError, HTTPException) as error:
        reason = str(getattr(error, "reason", None) or error).splitlines()[0]
        if total is None and time.monotonic() - started > _SLOW_S:
            _silent_hosts[host] = reason
        raise _UnreachableError(reason) from error


def load(backbone: str, weights: Weights) -> nn.Module:
    """Return the network with its weights, frozen and in evaluation mode.

    Raises WeightsError, with the difference, unless the file's keys and shapes are exactly the network's.
    """
    import torch

    family, name = find(backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        module = family.build(bare(name))
    if weights.path is not None:
        module.load_state_dict(_fitting_state(family, name, weights.label, weights.path, module), strict=False)
    return module.eval().requires_grad_(False)


def _fitting_state(family: Family, name: str, label: str, path: Path, module: nn.Module) -> dict[str, Tensor]:
    made, given, wanted = PRETRAININGS.items().get(label), read_checkpoint(path), module.state_dict()
    made = made if made and made.backbone == name else None
    remedy = f"choose the checkpoint of {name}"
    if made:
        given = made.convert(given)
        wanted = {key: value for key, value in wanted.items() if not key.startswith(made.head)}
        remedy = f"this is not the published '{made.name}', see {made.source}"
    else:
        given = family.convert(bare(name), given)
    wanted, given = ({k: v for k, v in s.items() if not k.endswith("num_batches_tracked")} for s in (wanted, given))
    shapes = [key for key in sorted(wanted.keys() & given) if given[key].shape != wanted[key].shape]
    problems = {"missing": sorted(wanted.keys() - given), "unexpected": sorted(given.keys() - wanted), "of another shape": shapes}
    texts = [f"{len(k)} {what} ({', '.join(k[:3])}{', ...' if len(k) > 3 else ''})" for what, k in problems.items() if k]
    if texts:
        raise WeightsError(f"weights {path} do not fit {name}: keys {'; '.join(texts)}; {remedy}")
    return given


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint: a state dict, or a dict that holds one under `state_dict` or `model`.

    Raises WeightsError for a damaged file and for one that would run code when loaded.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"weights {path}: refused, holds more than tensors or is no checkpoint; "
                           "save its state dict alone") from error  # fmt: skip
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise WeightsError(f"weights {path}: damaged or no checkpoint ({type(error).__name__}); get it again") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise WeightsError(f"weights {path}: holds no state dict of tensors; save 'model.state_dict()'")
    return content


def inventory() -> list[dict[str, Any]]:
    """Return the facts of the file of every pretraining, with whether it is present."""
    return [_facts(PRETRAININGS.get(name)) for name in PRETRAININGS.names()]


def _facts(made: Pretraining) -> dict[str, Any]:
    path, facts = published_file(made).path, ("name", "backbone", "file", "license", "megabytes", "url", "source")
    return {fact: getattr(made, fact) for fact in facts} | {"path": str(path), "present": path.is_file()}


def locate(name: str) -> tuple[dict[str, Any], str | None]:
    """Return the facts of one pretraining, and the error message if its file is missing."""
    made = PRETRAININGS.get(name)
    facts = _facts(made)
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
    return _facts(made) | {"sha256": digest, "as_published": as_published}
