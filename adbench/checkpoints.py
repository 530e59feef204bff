"""The pretrainings' files: which are here, where they belong, and a downloaded one checked and copied there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from adbench.errors import WeightsError
from adbench.files import replacing, sha256
from adbench.pretraining import PRETRAININGS, Pretraining
from adbench.weights import Weights, load, published_file


def inventory() -> list[dict[str, Any]]:
    """Return what is known of every pretraining's file, and whether it is here."""
    return [_facts(PRETRAININGS.get(name)) for name in PRETRAININGS.names()]


def _facts(made: Pretraining) -> dict[str, Any]:
    path = published_file(made).path
    facts: dict[str, Any] = {"name": made.name, "backbone": made.backbone, "file": made.file, "path": str(path)}
    facts |= {"present": path.is_file(), "licence": made.licence, "megabytes": made.megabytes}
    return facts | {"url": made.url, "source": made.source}


def locate(name: str) -> tuple[dict[str, Any], str | None]:
    """Return the facts of one pretraining, and the error to report if its file is not there."""
    made = PRETRAININGS.get(name)
    facts = _facts(made)
    problem = f"weights '{made.name}' of {made.backbone}: {facts['path']} is not there; {made.remedy}"
    return facts, None if facts["present"] else problem


def adopt(name: str, file: Path) -> dict[str, Any]:
    """Check that `file` loads as the pretraining, then copy it into place; return its facts with its SHA-256.

    Raises WeightsError, and leaves what is in place alone, unless every key of the backbone is there and no other.
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
    return _facts(made) | {"sha256": digest, "as_published": _same(made, digest)}


def _same(made: Pretraining, digest: str) -> bool | None:
    """Whether the file is the publisher's, where the publisher says its SHA-256."""
    return digest.startswith(made.sha256_prefix) if made.sha256_prefix else None
