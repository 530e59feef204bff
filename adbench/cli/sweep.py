"""The command sweep: parse a study, plan it, run it while telling of each result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from adbench.cli import console
from adbench.cli import options as o
from adbench.core.errors import UsageError

Preset = Annotated[str | None, typer.Option("--preset", metavar="NAME", help="A shipped study; 'adbench list presets'.")]
SpecFile = Annotated[Path | None, typer.Option("--spec", metavar="FILE", help="Your own study, a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study; may be repeated.")
]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Run at most N jobs now.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and stop.")]
KeepMaps = Annotated[
    int, typer.Option("--keep-maps", metavar="N", min=0, help="Keep N best and N worst maps of each job as pictures.")
]
CacheLimit = Annotated[
    str | None, typer.Option("--cache-limit", metavar="SIZE", help="Delete finished groups' features beyond e.g. 50GB.")
]
Status = Annotated[bool, typer.Option("--status", help="Print what is done, what runs and what waits, and stop.")]


def add_to(app: typer.Typer) -> None:
    """Give `app` the command of this module."""
    app.command()(sweep)


def sweep(
    context: typer.Context,
    preset: Preset = None,
    spec: SpecFile = None,
    data: o.Data = None,
    category: o.Categories = None,
    out: o.Out = None,
    set_: Overrides = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    keep_maps: KeepMaps = 0,
    cache_limit: CacheLimit = None,
    status: Status = False,
    executor: o.Executor = "local",
    jobs: o.Jobs = None,
    gpus: o.Gpus = None,
    gpu_slots: o.GpuSlots = None,
    partition: o.Partition = None,
    time: o.Time = None,
    gpus_per_task: o.GpusPerTask = None,
    max_parallel: o.MaxParallel = None,
    no_wait: o.NoWait = False,
    ray_address: o.RayAddress = None,
    cache: o.Cache = None,
    device: o.Device = "auto",
    offline: o.Offline = False,
    json: o.Json = False,
) -> None:
    """Run a grid of jobs; what has a result already is not run again, so a stopped sweep goes on."""
    if status and not (preset or spec):
        return print_status(o.results_folder(out), None, json)
    from adbench.features.cache import parse_size
    from adbench.sweep.executors import Resources, choose_executor
    from adbench.sweep.run import plan_sweep

    study = _study(preset, spec, set_ or [])
    resources = Resources(
        jobs=jobs, gpus=o.gpu_numbers(gpus), gpu_slots=gpu_slots, partition=partition, time=o.minutes(time),
        gpus_per_task=gpus_per_task, max_parallel=max_parallel, ray_address=ray_address, no_wait=no_wait or None,
    )  # fmt: skip
    chosen, most = choose_executor(executor, resources), parse_size(cache_limit) if cache_limit else None
    with console.progress() as (on_step, _):
        data = o.data_folder(data, study.data)
        workspace = o.workspace(data, cache, category or list(study.categories), device, offline, on_step)
        typed, apart = context.obj or "", chosen.elsewhere and not dry_run
        planned = plan_sweep(workspace, study, o.results_folder(out), limit, keep_maps, most, typed, apart)
    if status:
        return print_status(o.results_folder(out), planned.plan.jobs, json)
    if dry_run:
        return _dry_run(planned, chosen.resources.jobs or 1, most, json)
    _print_summary(_run(planned, chosen), json)


def _print_summary(summary: dict[str, Any], json: bool) -> None:
    if json:
        console.answer_json(summary)
    else:
        console.answer(", ".join(f"{name} {summary[name]}" for name in ("planned", "done", "cached", "skipped", "failed")))
        console.say(f"results are in {summary['out']}; see them with: adbench report {summary['out']}")
    if summary["failed"] or summary["skipped"]:
        raise typer.Exit(1)


def _study(preset: str | None, spec: Path | None, overrides: list[str]) -> Any:
    from adbench.sweep.spec import parse, preset_text, read_spec

    if (preset is None) == (spec is None):
        raise UsageError("sweep: give either --preset NAME or --spec FILE; 'adbench list presets' shows the names")
    if preset is not None:
        return parse(preset_text(preset), overrides, f"preset '{preset}'")
    assert spec is not None  # noqa: S101  one of the two is given
    return parse(read_spec(spec), overrides, f"spec {spec}")


def _run(planned: Any, executor: Any) -> dict[str, Any]:
    """Run a planned sweep, telling of each result as it comes."""
    from dataclasses import replace

    total = planned.todo.runnable
    new = []
    with console.progress(total) as (on_step, advance):
        live = replace(planned, workspace=replace(planned.workspace, on_step=on_step))
        for result in live.run(executor):
            new.append(result)
            advance()
            console.say(_told(result, len(new), total + len(planned.plan.skipped)))
    if executor.resources.no_wait:
        console.say(f"submitted; see how it stands with: adbench sweep --status --out {planned.results.folder}")
    return dict(planned.summary(new))


def _told(result: Any, index: int, total: int) -> str:
    job = result.job
    cell = f"[{index}/{total}] {job.category} {job.backbone} {job.weights} {job.layer} {job.image_size} px {job.detector}"
    if result.status != "done":
        return f"{cell}: {result.status}: {result.reason}"
    shown = {"image AUROC": "image_auroc", "pixel AUROC": "pixel_auroc", "AU-PRO": "aupro"}
    return f"{cell}: " + ", ".join(
        f"{name} {'-' if result.metrics[key] is None else format(result.metrics[key], '.3f')}" for name, key in shown.items()
    )


def _dry_run(planned: Any, workers: int, cache_limit: int | None, json: bool) -> None:
    """Print what the sweep would take; exit with 1 where something stands in its way."""
    from dataclasses import replace

    with console.progress() as (on_step, _):
        live = replace(planned, workspace=replace(planned.workspace, on_step=on_step))
        forecast = live.tried_out(workers, cache_limit)
    if json:
        console.answer_json(forecast)
    else:
        _print_forecast(forecast)
    for obstacle in forecast["obstacles"]:
        console.say(f"adbench: {obstacle}")
    if forecast["obstacles"]:
        raise typer.Exit(1)


def _print_forecast(forecast: dict[str, Any]) -> None:
    headings = ["group", "jobs", "forward passes", "cache", "time", "memory", "GPU memory"]
    rows = [
        [g["group"], g["jobs"], g["forward_passes"], console.size(g["cache_bytes"]), console.duration(g["seconds"]),
         console.size(g["memory_bytes"]), console.size(g["accelerator_bytes"]) if g["accelerator_bytes"] else "-"]
        for g in forecast["per_group"]
    ]  # fmt: skip
    if rows:
        console.answer(console.table(headings, rows))
    text = (
        "{planned} jobs planned, {cached} have results, {skipped} cannot run; {jobs} to run in {groups} groups, "
        "{forward_passes} forward passes"
    )
    console.answer(text.format(**forecast) + f", {console.size(forecast['cache_bytes'])} of cache")
    if rows:
        console.answer(
            f"about {console.duration(forecast['seconds'])} with {forecast['workers']} worker(s), "
            f"up to {console.size(forecast['memory_bytes'])} of memory"
        )


_SHOWN = 30  # groups
_CELL = ("category", "backbone", "weights", "px")


def print_status(out: Path, jobs: Sequence[Any] | None, json: bool) -> None:
    """Print the state of these jobs, or of all that were ever planned into the folder."""
    from adbench.sweep.results import ResultStore
    from adbench.sweep.status import STATES, status

    results = ResultStore(out)
    found = status(results, results.planned() if jobs is None else jobs)
    if json:
        return console.answer_json(found)
    console.answer(", ".join(f"{name} {found[name]}" for name in ("planned", *STATES)))
    open_groups = [group for group in found["groups"] if group["running"] or group["waiting"] or group["failed"]]
    rows = [[*_cell(group), *(group[state] for state in STATES)] for group in open_groups[:_SHOWN]]
    if rows:
        console.answer("\n" + console.table([*_CELL, *STATES], rows))
    if len(open_groups) > _SHOWN:
        console.answer(f"... and {len(open_groups) - _SHOWN} more groups that are not finished")
    if found["workers"]:
        rows = [[f"{w['host']} {w['pid']}", f"{w['seconds']:.0f} s", *_cell(w), _at(w)] for w in found["workers"]]
        console.answer("\n" + console.table(["worker", "since", *_CELL, "at"], rows))


def _cell(facts: dict[str, Any]) -> list[Any]:
    return [facts["category"], facts["backbone"], facts["weights"], facts["image_size"]]


def _at(worker: dict[str, Any]) -> str:
    return f"{worker['detector']} on {worker['layer']}" if worker["layer"] else "extracts features"
