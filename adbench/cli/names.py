"""Names that the commands accept, by kind."""

from __future__ import annotations

from inspect import cleandoc
from pathlib import Path
from typing import Any

from adbench.backbones.layers import describe

REGISTRIES = {  # of plug-ins: the package that holds them, and its table
    "analyses": ("reports.analyses", "ANALYSES"),
    "datasets": ("data.layouts", "DATASETS"),
    "defects": ("data.synthetic.kinds", "KINDS"),
    "detectors": ("detectors", "DETECTORS"),
    "executors": ("sweep.executors", "EXECUTORS"),
    "formats": ("reports.formats", "FORMATS"),
    "metrics": ("metrics", "METRICS"),
    "studies": ("reports.studies", "STUDIES"),
}


def names(kind: str, backbone: str | None = None) -> list[str]:
    """Return the sorted names of one kind; `backbone` narrows weights down to those that fit it."""
    if kind == "weights":
        return weights(backbone)
    if kind == "backbones":
        return backbones()
    if kind == "presets":
        from adbench.sweep.spec import preset_names

        return preset_names()
    return _plugins(kind)


def _plugins(kind: str) -> list[str]:
    from importlib import import_module

    package, registry = REGISTRIES[kind]
    return list(getattr(import_module(f"adbench.{package}"), registry).names())


def backbones() -> list[str]:
    """Return every family's names, with the prefix where the bare name is another family's network."""
    from adbench.backbones.families import sorted_families

    found: list[str] = []
    for family in sorted_families():
        taken = set(found)
        found += [f"{family.prefix}/{name}" if name in taken else name for name in family.names()]
    return sorted(found)


def weights(backbone: str | None) -> list[str]:
    """Return weights labels: the general ones, or all that is published for one backbone."""
    from adbench.backbones.families import bare, find
    from adbench.backbones.pretraining import fitting

    if backbone is None:
        return ["imagenet", "random"]
    family, name = find(backbone)
    return ["imagenet", "random", *fitting(name), *family.labels(bare(name))]


def parameters(detector: str) -> dict[str, Any]:
    """Return a detector's parameters with their defaults, and what they mean; raise UsageError for an unknown one."""
    from adbench.detectors import DETECTORS, Detector, detector_params

    kind = DETECTORS.get(detector)
    told = [cleandoc(base.__doc__ or "") for base in kind.mro() if issubclass(base, Detector) and base is not Detector]
    name = DETECTORS.canonical(detector)
    return {"detector": name, "parameters": detector_params(kind(), every=True), "about": "\n\n".join(told)}


def layers(backbone: str, every: bool, memo: Path) -> dict[str, Any]:
    """Return the last layer of each main stage, or every layer, with channels and stride."""
    description = describe(backbone, memo)
    chosen = description.layers if every else [description.layer(name) for name in description.stages]
    return {
        "backbone": description.backbone,
        "layers": [{"layer": layer.name, "channels": layer.channels, "stride": layer.stride} for layer in chosen],
    }
