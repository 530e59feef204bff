"""The command sweep: parse a study, plan it, run it while telling of each result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adbench import console
from adbench import options as o
from adbench.errors import UsageError


def add_to(app: typer.Typer) -> None:
    """Give `app` the command of this module."""
    app.command()(sweep)


def sweep(
    context: typer.Context,
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="A shipped study; 'adbench list presets'.")
    ] = None,
    spec: Annotated[Path | None, typer.Option("--spec", metavar="FILE", help="Your own study, a YAML file.")] = None,
    data: o.Data = None,
    category: o.Categories = None,
    out: o.Out = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and stop.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Run at most N jobs now.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=1, help="Worker processes.")] = 1,
    keep_maps: Annotated[
        int,
        typer.Option("--keep-maps", metavar="N", min=0, help="Keep N best and N worst maps of each job as pictures."),
    ] = 0,
    executor: Annotated[str, typer.Option("--executor", metavar="E", help="Where groups run.")] = "local",
    cache: o.Cache = None,
    device: o.Device = "auto",
    offline: o.Offline = False,
    json: o.Json = False,
) -> None:
    """Run a grid of jobs; what has a result already is not run again, so a stopped sweep goes on."""
    from adbench.tasks import plan_sweep

    study = _study(preset, spec, set_ or [])
    chosen = category or list(study.categories)
    with console.progress() as (on_step, _):
        setting = o.setting(o.data_folder(data, study.data), cache, chosen, device, offline, on_step)
        planned = plan_sweep(setting, study, o.results_folder(out), limit, keep_maps, context.obj or "")
    if dry_run:
        return _print_forecast(planned.forecast(), json)
    summary = _run(planned, jobs, executor)
    if json:
        console.answer_json(summary)
    else:
        console.answer(
            ", ".join(f"{name} {summary[name]}" for name in ("planned", "done", "cached", "skipped", "failed"))
        )
        console.say(f"results are in {summary['out']}; see them with: adbench report {summary['out']}")
    if summary["failed"] or summary["skipped"]:
        raise typer.Exit(1)


def _study(preset: str | None, spec: Path | None, overrides: list[str]) -> Any:
    from adbench.spec import parse, preset_text, read_spec

    if (preset is None) == (spec is None):
        raise UsageError("sweep: give either --preset NAME or --spec FILE; 'adbench list presets' shows the names")
    if preset is not None:
        return parse(preset_text(preset), overrides, f"preset '{preset}'")
    assert spec is not None  # noqa: S101  one of the two is given
    return parse(read_spec(spec), overrides, f"spec {spec}")


def _run(planned: Any, jobs: int, executor: str) -> dict[str, Any]:
    """Run a planned sweep, telling of each result as it comes."""
    from dataclasses import replace

    total = planned.todo.runnable
    new = []
    with console.progress(total) as (on_step, advance):
        live = replace(planned, setting=replace(planned.setting, on_step=on_step))
        for result in live.run(jobs, executor):
            new.append(result)
            advance()
            console.say(_told(result, len(new), total + len(planned.plan.skipped)))
    return dict(planned.summary(new))


def _told(result: Any, index: int, total: int) -> str:
    job = result.job
    cell = (
        f"[{index}/{total}] {job.category} {job.backbone} {job.weights} {job.layer} {job.image_size} px {job.detector}"
    )
    if result.status != "done":
        return f"{cell}: {result.status}: {result.reason}"
    shown = {"image AUROC": "image_auroc", "pixel AUROC": "pixel_auroc", "AU-PRO": "aupro"}
    return f"{cell}: " + ", ".join(
        f"{name} {'-' if result.metrics[key] is None else format(result.metrics[key], '.3f')}"
        for name, key in shown.items()
    )


def _print_forecast(forecast: dict[str, Any], json: bool) -> None:
    if json:
        return console.answer_json(forecast)
    text = (
        "{planned} jobs planned, {cached} have results, {skipped} cannot run; {jobs} to run in {groups} groups, "
        "{forward_passes} forward passes"
    )
    console.answer(text.format(**forecast) + f", {console.size(forecast['cache_bytes'])} of cache")
