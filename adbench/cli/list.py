"""`adbench list`: the names that other commands accept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any

from adbench.cli import completion, console, names
from adbench.cli import options as o
from adbench.core.environment import cache_folder
from adbench.core.errors import UsageError
from adbench.core.registry import fits, match, table, unknown

_KIND = f"{', '.join(names.KINDS[:-1])} or {names.KINDS[-1]}."
_NAME = (
    "With layers or weights: a backbone. With detectors: the detector whose parameters to print. Otherwise: part of the names to "
    "print, or a pattern such as 'vit*dinov2*'."
)


def list_names(
    kind: Annotated[str, o.argument("KIND", _KIND, complete=completion.kind)],
    name: Annotated[str | None, o.argument("[NAME]", _NAME, complete=completion.listed)] = None,
    every: Annotated[bool, o.flag("--all", "Print every layer, not only the last of each main stage.")] = False,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Print the names that other commands accept.

    Each name has a sentence beside it. Backbones have their number of parameters, the license of their ImageNet weights, and the
    weights that need no download.

    Examples:
      adbench list backbones 'vit*dinov2*'
      adbench list layers resnet50
      adbench list detectors patchcore
    """
    kind = match("list", kind, names.KINDS)
    if kind == "layers":
        return _print_layers(name, every, cache, json)
    if kind == "weights":
        return _print_weights(name, json)
    if kind == "backbones":
        return _print_backbones(name or "", cache, json)
    if kind == "detectors" and name:
        return _print_parameters(name, json)
    return _print_names(kind, name or "", cache, json)


def _print_names(kind: str, pattern: str, cache: Path | None, json: bool) -> None:
    known = names.about(kind, cache)
    found = {name: text for name, text in known.items() if fits(name, pattern)}
    if pattern and not found:
        raise unknown("preset" if kind == "presets" else table(kind).kind, pattern, known, kind)
    if json:
        return console.answer_json({kind: list(found), "about": found})
    console.answer(console.definitions(found) or f"no {kind}")


def _print_weights(backbone: str | None, json: bool) -> None:
    """Print the general weights and, for a backbone, those that are published for it."""
    found = ["imagenet", "random"]
    if backbone:
        from adbench.backbones.weights import labels

        found = labels(backbone)
    console.answer_json({"weights": found}) if json else console.answer("\n".join(found))


def _print_backbones(pattern: str, cache: Path | None, json: bool) -> None:
    from adbench.backbones.catalog import MOST_BUILT, catalog, matching

    with console.progress() as on_step:
        found = catalog(matching(pattern), cache_folder(cache) / "backbones", on_step)
    if json:
        return console.answer_json({"backbones": [facts["name"] for facts in found], "facts": found})
    console.answer(_backbone_table(found))
    if any(facts["parameters"] is None for facts in found):
        console.say(
            f"parameters are counted where at most {MOST_BUILT} backbones are listed, e.g. adbench list backbones 'resnet*'"
        )


def _backbone_table(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [facts["name"], f"{facts['parameters'] / 1e6:.1f} M" if facts["parameters"] else "-", facts["license"] or "-",
         ", ".join(facts["weights_at_hand"]) or "-"]
        for facts in found
    ]  # fmt: skip
    return console.table(["backbone", "parameters", "license", "weights at hand"], rows)


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
