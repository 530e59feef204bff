"""`adbench list`: the names that other commands accept."""

from inspect import cleandoc
from pathlib import Path
from typing import Annotated

from adbench.cli import console
from adbench.cli import options as o
from adbench.core.environment import cache_folder
from adbench.core.errors import UsageError
from adbench.core.registry import TABLES, match, table

_TABLES = sorted(TABLES.keys() - {"families", "pretrainings"})  # the names of these two are prefixes and parts of others
KINDS = ("backbones", "layers", "weights", "presets", *_TABLES)


def list_names(
    kind: Annotated[str, o.argument("|".join(KINDS), "Kind of names to list.")],
    name: Annotated[
        str | None, o.argument("[NAME]", "A backbone, for its layers or weights; a detector, for its parameters.")
    ] = None,
    every: Annotated[bool, o.flag("--all", "Every layer, not only the last of each main stage.")] = False,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Print the names that other commands accept."""
    kind = match("list", kind, KINDS)
    if kind == "layers":
        return _print_layers(name, every, cache, json)
    if kind == "detectors" and name:
        return _print_parameters(name, json)
    found = _names(kind, name)
    if json:
        return console.answer_json({kind: found})
    return console.answer("\n".join(found) or f"no {kind}")


def _names(kind: str, backbone: str | None) -> list[str]:
    """Return the names of one kind; `backbone` adds to the general weights those that are published for it."""
    if kind == "backbones":
        from adbench.backbones.families import sorted_families

        known: list[str] = []
        for family in sorted_families():  # with the family's prefix where an earlier family has the bare name
            taken = set(known)
            known += [f"{family.prefix}/{name}" if name in taken else name for name in family.names()]
        return sorted(known)
    if kind == "presets":
        from adbench.sweep.spec import preset_names

        return preset_names()
    if kind != "weights":
        return table(kind).names()
    found = ["imagenet", "random"]
    if backbone:
        from adbench.backbones.families import bare, find
        from adbench.backbones.pretraining import fitting

        family, name = find(backbone)
        found += [*fitting(name), *family.labels(bare(name))]
    return found


def _print_layers(backbone: str | None, every: bool, cache: Path | None, json: bool) -> None:
    from adbench.backbones.layers import describe

    if backbone is None:
        raise UsageError("list layers: name a backbone, e.g. adbench list layers resnet50")
    description = describe(backbone, cache_folder(cache) / "backbones")
    layers = description.layers if every else [description.layer(name) for name in description.stages]
    if json:
        facts = [{"layer": layer.name, "channels": layer.channels, "stride": layer.stride} for layer in layers]
        return console.answer_json({"backbone": description.backbone, "layers": facts})
    rows = [[layer.name, layer.channels, layer.stride] for layer in layers]
    console.answer(console.table([f"layer of {description.backbone}", "channels", "stride"], rows))


def _print_parameters(detector: str, json: bool) -> None:
    """Print a detector's parameters with their defaults, and the docstrings that explain them."""
    from adbench.detectors import DETECTORS, Detector, detector_params

    kind = DETECTORS.get(detector)
    texts = [cleandoc(base.__doc__ or "") for base in kind.mro() if issubclass(base, Detector) and base is not Detector]
    defaults, about = detector_params(kind(), every=True), "\n\n".join(texts)
    if json:
        return console.answer_json({"detector": DETECTORS.canonical(detector), "parameters": defaults, "about": about})
    console.answer(f"{console.table(['parameter', 'default'], list(defaults.items()))}\n\n{about}")
