"""The catalog of backbones: for each one its size, its license and the weights at hand, without a download."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adbench.backbones.families import Family, all_backbones, bare
from adbench.backbones.weights import usual_files
from adbench.core.memo import Memo, code_and_libraries
from adbench.core.registry import fits, unknown
from adbench.types import OnStep, ignore_step

MOST_BUILT = 60  # networks that one call builds to count their parameters; a large one takes half a second


def matching(pattern: str = "") -> dict[str, Family]:
    """Return the family of each backbone whose name fits `pattern`; raise UsageError if there is none."""
    known = all_backbones()
    found = {name: family for name, family in known.items() if fits(bare(name), pattern) or fits(name, pattern)}
    if not found:
        raise unknown("backbone", pattern, known)
    return found


def catalog(backbones: Mapping[str, Family], memo: Path, on_step: OnStep = ignore_step) -> list[dict[str, Any]]:
    """Return {name, parameters, license, weights_at_hand} of backbones; what is unknown is None.

    Parameters are counted once and kept in the folder `memo`. If more than `MOST_BUILT` networks are uncounted, they stay so.
    """
    counts = Memo(memo / "parameters.json", code_and_libraries())
    uncounted = [name for name in backbones if counts.get(name) is None]
    for number, name in enumerate(uncounted if len(uncounted) <= MOST_BUILT else ()):
        on_step(number, len(uncounted), f"counting the parameters of {name}")
        counts.put(name, _count(backbones[name], bare(name)))
    counts.write()
    return [{"name": name, "parameters": counts.get(name) or None} | _weights(family, name) for name, family in backbones.items()]


def _weights(family: Family, name: str) -> dict[str, Any]:
    """Return the license of a network's default weights, and the labels of those that need no download."""
    files = usual_files(family, name)
    license = files["imagenet"].license if "imagenet" in files else None
    return {"license": license, "weights_at_hand": [label for label, file in files.items() if file.path.is_file()]}


def _count(family: Family, name: str) -> int:
    """Return the number of parameters of a network, 0 if it cannot be built without memory for them."""
    import torch

    try:
        with torch.device("meta"):
            module = family.build(name)
    except (RuntimeError, NotImplementedError):
        return 0
    return sum(parameter.numel() for parameter in module.parameters())
