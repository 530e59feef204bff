"""Commands around the main job: report, list, cache, eval-maps. Each parses, calls one core function, and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from adbench.cli import console
from adbench.cli import options as o
from adbench.cli import weights as cli_weights
from adbench.core.errors import UsageError

KINDS = (
    "backbones",
    "layers",
    "weights",
    "detectors",
    "datasets",
    "defects",
    "presets",
    "metrics",
    "formats",
    "studies",
    "analyses",
    "executors",
)
cache_app = typer.Typer(no_args_is_help=True, help="List or prune the feature cache.", rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Give `app` the commands of this module."""
    app.command()(report)
    app.command("list")(list_names)
    app.command("eval-maps")(eval_maps)
    app.add_typer(cache_app, name="cache")
    app.add_typer(cli_weights.weights_app, name="weights")


def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RESULTS]...", help="Default: $ADBENCH_RESULTS, else ./results; two for --compare."),
    ] = None,
    format_: Annotated[str, typer.Option("--format", metavar="F", help="table, markdown, latex, csv, json, html.")] = "table",
    rows: Annotated[list[str] | None, typer.Option("--rows", metavar="K", help="Keys that make a row; may be repeated.")] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="K", help="Key that makes the columns, e.g. category.")
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", metavar="M", help="The metric of those columns.")] = None,
    study: Annotated[
        str, typer.Option("--study", metavar="S", help="layers, image-size, pretraining, seeds, auto or none.")
    ] = "auto",
    show: Annotated[
        list[str] | None, typer.Option("--show", metavar="A", help="Further analyses, or all; may be repeated.")
    ] = None,
    max_latency: Annotated[
        float | None, typer.Option("--max-latency", metavar="MS", help="Leave out rows that take longer per image.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", metavar="MB", help="Leave out rows with a higher peak; or e.g. 2GB.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show how the jobs of two folders differ, one by one, and if that is chance.")
    ] = False,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Draw the figures there, as PNG and SVG.")
    ] = None,
    json: o.Json = False,
) -> None:
    """Print the table of a results folder, also of a sweep that still runs, and what its study found."""
    from adbench.reports.budget import Budget
    from adbench.reports.report import View, draw_figures, render, report_on

    name = "json" if json else format_
    limits = (max_latency, None if max_memory is None else o.megabytes("--max-memory", max_memory))
    budget = Budget(*limits) if any(limit is not None for limit in limits) else None
    view = View(_split(rows), columns, metric, study, _split(show), budget, complete=name.lower() == "html")
    made = report_on(results or [o.results_folder(None)], view, compare)
    console.answer(render(made, name, bold=console.colour(sys.stdout)))
    if figures:
        with console.progress() as (on_step, _):
            written = draw_figures(made, figures, on_step)
        names = ", ".join(dict.fromkeys(path.stem for path in written))
        console.say(f"in {figures}, as PNG and SVG: {names}" if names else "no figures: these results answer no study")


def _split(texts: list[str] | None) -> list[str]:
    return [item.strip() for text in texts or [] for item in text.split(",") if item.strip()]


def list_names(
    kind: Annotated[str, typer.Argument(metavar="|".join(KINDS))],
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A backbone, for layers and weights; a detector, for its parameters.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every layer, not only the last of each main stage.")] = False,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Print the names that other commands accept."""
    from adbench.cli.names import names
    from adbench.core.registry import match

    kind = match("list", kind, KINDS)
    if kind == "layers":
        return _layers(name, every, o.cache_folder(cache), json)
    if kind == "detectors" and name:
        return _parameters(name, json)
    found = names(kind, name)
    if json:
        return console.answer_json({kind: found})
    return console.answer("\n".join(found) or f"no {kind}")


def _layers(backbone: str | None, every: bool, cache: Path, json: bool) -> None:
    from adbench.cli.names import layers

    if backbone is None:
        raise UsageError("list layers: name a backbone, e.g. adbench list layers resnet50")
    found = layers(backbone, every, cache / "backbones")
    if json:
        return console.answer_json(found)
    rows = [[layer["layer"], layer["channels"], layer["stride"]] for layer in found["layers"]]
    return console.answer(console.table([f"layer of {found['backbone']}", "channels", "stride"], rows))


def _parameters(detector: str, json: bool) -> None:
    from adbench.cli.names import parameters

    found = parameters(detector)
    if json:
        return console.answer_json(found)
    rows = [list(item) for item in found["parameters"].items()]
    return console.answer(f"{console.table(['parameter', 'default'], rows)}\n\n{found['about']}")


def eval_maps(
    maps: Annotated[Path, typer.Option("--maps", metavar="DIR", help="Maps as DIR/CATEGORY/test/KIND/NAME.npy, .tiff or .png.")],
    data: o.Data = None,
    category: o.Categories = None,
    eval_size: o.EvalSize = "native",
    pro_limit: o.ProLimit = 0.3,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Measure anomaly maps that any other program made."""
    from adbench.metrics.support.external_maps import evaluate_maps
    from adbench.sweep.workspace import Workspace

    with console.progress() as (on_step, _):
        workspace = Workspace(o.data_folder(data), o.cache_folder(cache), tuple(category or ()), on_step=on_step)
        found = evaluate_maps(workspace.inputs(), maps, o.evaluation_size(eval_size), pro_limit)
    if json:
        return console.answer_json(found)
    rows = [[item["category"], *("-" if v is None else f"{v:.4f}" for v in item["metrics"].values())] for item in found]
    console.answer(console.table(["category", *(found[0]["metrics"] if found else ())], rows))
    for item in found:
        if item["reason"]:
            console.say(f"note: {item['category']}: {item['reason']}")


@cache_app.command("list")
def cache_list(cache: o.Cache = None, json: o.Json = False) -> None:
    """Print the entries of the feature cache, the least recently used first."""
    from adbench.features.cache import FeatureCache

    entries = FeatureCache(o.cache_folder(cache) / "features").describe()
    if json:
        return console.answer_json({"entries": entries, "bytes": sum(e["bytes"] for e in entries)})
    rows: list[list[Any]] = [
        [e["backbone"], e["layer"], e["image_size"], e["split"], "x".join(map(str, e["shape"])), console.size(e["bytes"])]
        for e in entries
    ]
    console.answer(console.table(["backbone", "layer", "px", "split", "shape", "size"], rows))
    console.say(f"{len(entries)} entries, {console.size(sum(e['bytes'] for e in entries))}, in {o.cache_folder(cache)}")


@cache_app.command("prune")
def cache_prune(
    max_size: Annotated[str, typer.Option("--max-size", metavar="SIZE", help="What may stay, e.g. 50GB; 0 empties the cache.")],
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Delete the least recently used entries until the rest fits."""
    from adbench.features.cache import FeatureCache, parse_size

    count, freed = FeatureCache(o.cache_folder(cache) / "features").prune(parse_size(max_size))
    if json:
        return console.answer_json({"deleted": count, "bytes": freed})
    console.answer(f"deleted {count} entries, {console.size(freed)}")
