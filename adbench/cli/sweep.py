"""`adbench sweep`: a grid of jobs planned, forecast, run, and watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from adbench.cli import completion, console
from adbench.cli import options as o
from adbench.core.errors import UsageError

if TYPE_CHECKING:
    from adbench.sweep.executors import Executor
    from adbench.sweep.run import Sweep
    from adbench.types import Job, Result

_MOST_GROUPS = 30  # rows of --status
_GROUP = ("category", "backbone", "weights", "image_size")
_GROUP_HEADINGS = ("category", "backbone", "weights", "px")
_CHOICES = ("category", "backbone", "weights", "layer", "view", "detector", "shots", "rotations", "shift", "seed")
_FORMS = {"shots": "shots {}", "rotations": "rotations {}", "seed": "seed {}"}
_METRICS = {"image AUROC": "image_auroc", "pixel AUROC": "pixel_auroc", "AU-PRO": "aupro"}

_DRY_RUN = "Print the groups of jobs, their cost (forward passes, cache, time, memory) and why jobs cannot run; then stop."
_KEEP_MAPS = "Keep the N best and the N worst anomaly maps of each job as pictures."
_CACHE_LIMIT = "Delete the features of finished groups while the cache is larger than this, e.g. 50GB."
_EXECUTOR = "Where groups run: local (this machine), slurm or ray (a cluster)."


@dataclass(frozen=True)
class ExecutorOptions:
    """Where the groups run, and with which resources."""

    panel: ClassVar[str] = "Executor"
    executor: Annotated[str, o.option("E", _EXECUTOR, complete=completion.table("executors"))] = "local"
    jobs: Annotated[int | None, o.option("N", "Worker processes. Default: 1, or one per GPU slot.", low=1)] = None
    gpus: Annotated[str | None, o.option("N,..", "GPUs of this machine to use, e.g. 0,1.")] = None
    gpu_slots: Annotated[int | None, o.option("K", "Workers per GPU. Default: 1.", low=1)] = None
    partition: Annotated[str | None, o.option("P", "Slurm: partition to submit to.")] = None
    time: Annotated[str | None, o.option("T", "Slurm: time limit of a task, as minutes, H:MM:SS or D-HH. Default: 240.")] = None
    gpus_per_task: Annotated[float | None, o.option("G", "Slurm, Ray: GPUs per group (Ray: also 0.5). Default: none.", low=0)] = (
        None
    )
    max_parallel: Annotated[int | None, o.option("N", "Slurm, Ray: groups that run at the same time.", low=1)] = None
    no_wait: Annotated[bool, o.flag("--no-wait", "Slurm: submit the tasks and return.")] = False
    ray_address: Annotated[str | None, o.option("A", "Ray: address. Default: $RAY_ADDRESS, else a local cluster.")] = None

    def choose(self) -> Executor:
        """Return the executor; raise UsageError for a resource that it does not take."""
        from adbench.sweep.executors import Resources, choose_executor

        gpus = None if self.gpus is None else o.gpu_numbers(self.gpus)
        time = None if self.time is None else o.minutes(self.time)
        given = vars(self) | {"gpus": gpus, "time": time, "no_wait": self.no_wait or None}
        return choose_executor(given.pop("executor"), Resources(**given))


def sweep(
    context: typer.Context,
    spec: o.SpecOptions,
    images: o.DataOptions,
    *,
    out: Annotated[Path | None, o.path_option("DIR", o.RESULTS, "Run")] = None,
    dry_run: Annotated[bool, o.flag("--dry-run", _DRY_RUN, "Run")] = False,
    status: Annotated[bool, o.flag("--status", "Print which jobs are done, running or waiting, and stop.", "Run")] = False,
    limit: Annotated[int | None, o.option("N", "Run at most N jobs now.", low=1, panel="Run")] = None,
    keep_maps: Annotated[int, o.option("N", _KEEP_MAPS, low=0, panel="Run")] = 0,
    cache_limit: Annotated[str | None, o.option("SIZE", _CACHE_LIMIT, panel="Run")] = None,
    resources: ExecutorOptions,
    runtime: o.RuntimeOptions,
    json: o.Json = False,
) -> None:
    """Measure a grid of backbones, layers, sizes and detectors.

    A job is one cell of the grid. Finished jobs are not repeated, so the same command resumes a stopped sweep. Jobs that share
    a forward pass are a group: one worker runs it.

    Examples:
      adbench sweep --preset quickstart --dry-run
      adbench sweep --preset layers --data DIR --out layers --jobs 2
      adbench sweep --spec study.yaml --set image_sizes=128,256 --gpus 0,1
    """
    folder = o.results_folder(out)
    if spec.preset is None and spec.spec is None:
        if status:
            return _print_status(folder, None, json)
        raise UsageError("sweep: give either --preset NAME or --spec FILE; 'adbench list presets' shows the names")
    from adbench.sweep.run import plan_sweep

    study, executor = spec.parsed("sweep"), resources.choose()
    most, remote = o.parse_size("--cache-limit", cache_limit) if cache_limit else None, executor.elsewhere and not dry_run
    with runtime.open(images, study) as workspace:
        planned = plan_sweep(workspace, study, folder, limit, keep_maps, most, context.obj or "", remote)
    if status:
        return _print_status(folder, planned.plan.jobs, json)
    if dry_run:
        return _print_forecast(planned, executor.resources.jobs or 1, most, json)
    return _run(planned, executor, json)


def _run(planned: Sweep, executor: Executor, json: bool) -> None:
    """Run a planned sweep and print each result as it arrives, the first of equal failures only; then reasons and summary."""
    total: int = planned.todo.runnable
    new: list[Result] = []
    varying = varying_choices(planned.todo.jobs)
    if planned.todo.jobs and (shared := shared_choices(planned.todo.jobs[0], varying)):
        console.say(f"all jobs: {shared}")
    failures: set[str | None] = set()
    with console.job_progress(total) as (on_step, advance):
        live = replace(planned, workspace=replace(planned.workspace, on_step=on_step))
        for result in live.run(executor):
            new.append(result)
            advance()
            if result.status == "done" or (result.status == "failed" and result.reason not in failures):
                console.say(result_line(result, f"[{len(new)}/{total + len(planned.plan.skipped)}]", varying))
            failures.add(result.reason)
    if executor.resources.no_wait:
        console.say(f"submitted; see its progress with: adbench sweep --status --out {planned.results.folder}")
    _say_reasons(new, planned.plan.jobs)
    summary = planned.summary(new)
    if json:
        console.answer_json(summary)
    else:
        console.answer(", ".join(f"{name} {summary[name]}" for name in ("planned", "done", "cached", "skipped", "failed")))
        console.say(f"results are in {summary['out']}; see them with: adbench report {summary['out']}")
    if summary["failed"] or summary["skipped"]:
        raise typer.Exit(1)


def _say_reasons(results: Sequence[Result], among: Sequence[Job]) -> None:
    """Print each reason for which jobs were skipped or failed, once."""
    from adbench.sweep.reasons import by_reason, sentence

    for status in ("skipped", "failed"):
        for entry in by_reason([(result.job, result.reason) for result in results if result.status == status], among):
            console.say(sentence(entry, status))


def varying_choices(jobs: Sequence[Job]) -> list[str]:
    """Return in which of the choices that a line names these jobs differ; the category is always named."""
    return [name for name in _CHOICES if name == "category" or len({str(getattr(job, name)) for job in jobs}) > 1]


def shared_choices(job: Job, varying: Sequence[str]) -> str:
    """Return the choices of a job, but those that vary, in words."""
    return ", ".join(_words(job, [name for name in _named(job) if name not in varying]))


def _named(job: Job) -> list[str]:
    """Return the choices of a job that a line names; a later axis only where it is not at its default."""
    from adbench.types import LATER

    return [name for name in _CHOICES if name not in LATER or getattr(job, name) != LATER[name]]


def _words(job: Job, choices: Sequence[str]) -> list[str]:
    found = [_FORMS.get(name, "{}").format(getattr(job, name)) for name in choices]
    return [text for text in found if text]


def result_line(result: Result, prefix: str, choices: Sequence[str] | None = None) -> str:
    """Return a job, by some of its choices, and its main metrics, or why it has none, in one line."""
    cell = " ".join([prefix, *_words(result.job, _named(result.job)[:-1] if choices is None else choices)])
    if result.status != "done":
        return f"{cell}: {result.status}: {result.reason}"
    return f"{cell}: " + ", ".join(f"{name} {console.number(result.metrics[key], 3)}" for name, key in _METRICS.items())


def _print_forecast(planned: Sweep, workers: int, cache_limit: int | None, json: bool) -> None:
    """Print what the sweep would cost, and why jobs cannot run; exit with code 1 if the machine prevents it."""
    from adbench.sweep.reasons import sentence

    with console.progress() as on_step:
        live = replace(planned, workspace=replace(planned.workspace, on_step=on_step))
        forecast = live.forecast(workers, cache_limit)
    console.answer_json(forecast) if json else _print_costs(forecast)
    reasons = [sentence(entry, "cannot run") for entry in forecast["cannot_run"]]
    if reasons and not json:
        console.answer("\n" + "\n".join(reasons))
    for obstacle in forecast["obstacles"]:
        if json or obstacle not in reasons:
            console.say(f"adbench: {obstacle}")
    if forecast["obstacles"]:
        raise typer.Exit(1)


def _print_costs(forecast: Mapping[str, Any]) -> None:
    headings = ["group", "jobs", "forward passes", "cache", "time", "memory", "GPU memory"]
    rows = [
        [g["group"], g["jobs"], g["forward_passes"], console.size(g["cache_bytes"]), console.duration(g["seconds"]),
         console.size(g["memory_bytes"]), console.size(g["accelerator_bytes"]) if g["accelerator_bytes"] else "-"]
        for g in forecast["per_group"]
    ]  # fmt: skip
    if rows:
        console.answer(console.table(headings, rows))
    console.answer(
        "{planned} jobs planned, {cached} have results, {skipped} cannot run; {jobs} to run in {groups} groups, "
        "{forward_passes} forward passes, {cache} of cache".format(**forecast, cache=console.size(forecast["cache_bytes"]))
    )
    if rows:
        time, memory = console.duration(forecast["seconds"]), console.size(forecast["memory_bytes"])
        console.answer(f"about {time} with {forecast['workers']} worker(s), up to {memory} of memory")


def _group_cells(group: Mapping[str, Any]) -> list[str]:
    """Return the cells that name a group; a tile stands behind the size."""
    tile = f", tile {group['tile']}" if group.get("tile") else ""
    return [f"{group[key]}{tile * (key == 'image_size')}" for key in _GROUP]


def _print_status(out: Path, jobs: Sequence[Job] | None, json: bool) -> None:
    """Print the state of these jobs (default: of all that were ever planned into the folder)."""
    from adbench.sweep.heartbeat import STATES, status
    from adbench.sweep.results import ResultStore

    results = ResultStore(out)
    found = status(results, results.planned() if jobs is None else jobs)
    if json:
        return console.answer_json(found)
    console.answer(", ".join(f"{name} {found[name]}" for name in ("planned", *STATES)))
    unfinished = [group for group in found["groups"] if group["running"] or group["waiting"] or group["failed"]]
    rows = [[*_group_cells(group), *(group[key] for key in STATES)] for group in unfinished[:_MOST_GROUPS]]
    if rows:
        console.answer("\n" + console.table([*_GROUP_HEADINGS, *STATES], rows))
    if len(unfinished) > _MOST_GROUPS:
        console.answer(f"... and {len(unfinished) - _MOST_GROUPS} more unfinished groups")
    if found["workers"]:
        rows = [
            [f"{w['host']} {w['pid']}", f"{w['seconds']:.0f} s", *_group_cells(w),
             f"{w['detector']} on {w['layer']}" if w["layer"] else "extracting features"]
            for w in found["workers"]
        ]  # fmt: skip
        console.answer("\n" + console.table(["worker", "since", *_GROUP_HEADINGS, "at"], rows))
