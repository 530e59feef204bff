"""The command select: parse candidates, validation data and limits, rank, and print the ranking or what verifies it."""

from __future__ import annotations

import sys
from dataclasses import replace
from json import dumps as to_json
from pathlib import Path
from typing import Annotated, Any

import typer

from adbench.cli import console
from adbench.cli import options as o
from adbench.core.errors import UsageError

Names = Annotated[str | None, typer.Option("--backbones", metavar="A,B", help="Default: the study's, else efficientnet_lite0.")]
Weights = Annotated[str | None, typer.Option("--weights", metavar="W,..", help="Default: the study's, else imagenet.")]
Layers = Annotated[
    str | None,
    typer.Option("--layers", metavar="L,..|all", help="L+L joins layers; all: the last of each block. Default: main stages."),
]
Pairs = Annotated[bool, typer.Option("--pairs", help="Also join each single layer with the next deeper one.")]
ImageSizes = Annotated[str | None, typer.Option("--image-sizes", metavar="N,..", help="Default: the study's, else 256.")]
Detectors = Annotated[str | None, typer.Option("--detectors", metavar="D,..", help="Default: the study's, else patchcore.")]
Preset = Annotated[
    str | None, typer.Option("--preset", metavar="NAME", help="Candidates of a shipped study; see 'adbench list presets'.")
]
SpecFile = Annotated[
    Path | None, typer.Option("--spec", metavar="FILE", help="Candidates of your own study, a YAML file as for sweep.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study; may be repeated.")
]
Defects = Annotated[int, typer.Option("--defects", metavar="N", min=10, help="How many synthetic defects to paint.")]
Share = Annotated[float, typer.Option("--holdout", metavar="F", help="Share of the good images that is held out.")]
Kinds = Annotated[str | None, typer.Option("--kinds", metavar="K,..", help="Kinds of defects to paint. Default: all.")]
Like = Annotated[
    Path | None, typer.Option("--like", metavar="MASKS", help="Folder of masks: defects as large as those of known ones.")
]
MaxLatency = Annotated[
    float | None, typer.Option("--max-latency", metavar="MS", help="Leave out what takes longer per image, on this machine.")
]
MaxMemory = Annotated[
    str | None, typer.Option("--max-memory", metavar="SIZE", help="Leave out larger networks plus detectors, e.g. 50MB.")
]
Halving = Annotated[bool, typer.Option("--halving/--no-halving", help="Drop the worse half early, where there are many images.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Also measure all candidates on labelled test images, of all categories, and compare.")
]
Format = Annotated[str, typer.Option("--format", metavar="F", help="table, markdown, latex, csv, json, html.")]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", min=0, help="Decides all randomness. Default: the study's, else 0.")
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Results go into DIR/selection. Default: as for sweep.")]
_PICTURES = 3  # of each role, on the HTML page
_SHOWN = {"image AUROC": "image_auroc", "AU-PRO": "aupro"}


def add_to(app: typer.Typer) -> None:
    """Give `app` the command of this module."""
    app.command()(select)


def select(
    data: o.Data = None,
    category: o.Categories = None,
    backbones: Names = None,
    weights: Weights = None,
    layers: Layers = None,
    pairs: Pairs = False,
    image_sizes: ImageSizes = None,
    detectors: Detectors = None,
    preset: Preset = None,
    spec: SpecFile = None,
    set_: Overrides = None,
    defects: Defects = 60,
    kinds: Kinds = None,
    like: Like = None,
    holdout: Share = 0.25,
    max_latency: MaxLatency = None,
    max_memory: MaxMemory = None,
    halving: Halving = True,
    verify: Verify = False,
    seed: Seed = None,
    out: Out = None,
    format_: Format = "table",
    cache: o.Cache = None,
    device: o.Device = "auto",
    offline: o.Offline = False,
    json: o.Json = False,
) -> None:
    """Rank candidates for parts of which only good images are at hand: on synthetic defects, without a look at test/."""
    from adbench.reports.formats import FORMATS
    from adbench.reports.report import render
    from adbench.selection.candidates import spelt_out
    from adbench.selection.select import Request

    format_ = "json" if json else FORMATS.canonical(format_)
    flags = {"backbones": backbones, "weights": weights, "layers": layers, "image_sizes": image_sizes}
    study = _study(preset, spec, flags | {"detectors": detectors}, set_ or [])
    chosen = category or list(study.categories)
    with console.progress() as (on_step, _):
        workspace = o.workspace(o.data_folder(data, study.data), cache, chosen, device, offline, on_step)
        held_out, limits = _holdout(holdout, defects, kinds, like, on_step), _limits(max_latency, max_memory)
        pictures = _PICTURES if format_ == "html" else 0
        request = Request(spelt_out(study, workspace.memo, pairs, seed), held_out, limits, halving, pictures)
        found, made = (_verified if verify else _selected)(workspace, request, o.results_folder(out))
    if format_ == "json":
        console.answer_json(found.record())
    else:
        console.answer(render(made, format_, bold=console.colour(sys.stdout)))
    if found.incomplete:
        raise typer.Exit(1)


def _selected(workspace: Any, request: Any, out: Path) -> tuple[Any, Any]:
    from adbench.selection.select import FOLDER, select
    from adbench.selection.tables import selection_report

    found = select(workspace, request, workspace.single(training_only=True), out / FOLDER, _tell)
    return found, selection_report(found)


def _verified(workspace: Any, request: Any, out: Path) -> tuple[Any, Any]:
    from adbench.selection.tables import verification_report
    from adbench.selection.verification import verify

    found = verify(workspace, request, out, _tell)
    return found, verification_report(found)


def _study(preset: str | None, spec: Path | None, flags: dict[str, str | None], overrides: list[str]) -> Any:
    """Return the study that candidates come from; a flag counts more than the study's own keys."""
    from adbench.sweep.spec import parse, preset_text, read_spec

    if preset is not None and spec is not None:
        raise UsageError("select: give --preset or --spec, not both")
    text = preset_text(preset) if preset else read_spec(spec) if spec else ""
    source = f"preset '{preset}'" if preset else f"spec {spec}" if spec else "select"
    lists = {key: [_item(part.strip()) for part in value.split(",") if part.strip()] for key, value in flags.items() if value}
    study = parse(text, [*(f"{key}={to_json(value)}" for key, value in lists.items()), *overrides], source)
    if flags["layers"]:  # also where a backbone of the study names its own
        study = replace(study, backbones=tuple(replace(choice, layers=()) for choice in study.backbones))
    return study


def _item(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def _holdout(share: float, defects: int, kinds: str | None, like: Path | None, on_step: Any) -> Any:
    from adbench.data.synthetic.generation import Recipe
    from adbench.data.synthetic.sizes import DEFAULT_SIZES, sizes_of_masks
    from adbench.selection.validation import Holdout

    names = tuple(kind.strip() for kind in (kinds or "").split(",") if kind.strip())
    sizes = sizes_of_masks(like, on_step=on_step) if like else DEFAULT_SIZES
    return Holdout(share, defects, Recipe(names, sizes))


def _limits(latency: float | None, memory: str | None) -> Any:
    from adbench.features.cache import parse_size
    from adbench.selection.ranking import Limits

    return Limits(latency, None if memory is None else parse_size(memory) / 1e6)


def _tell(result: Any, number: int, total: int) -> None:
    """Say what a candidate has reached, as it comes."""
    job, metrics = result.job, result.metrics
    names = (job.dataset, job.category, job.backbone, job.weights, job.layer, job.image_size, "px", job.detector)
    cell = f"[{number}/{total}] {' '.join(map(str, names))}"
    if result.status != "done":
        return console.say(f"{cell}: {result.status}: {result.reason}")
    shown = ", ".join(f"{label} {metrics[key]:.3f}" for label, key in _SHOWN.items() if metrics[key] is not None)
    return console.say(f"{cell}: {shown}")
