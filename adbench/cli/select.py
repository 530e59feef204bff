"""`adbench select`: candidates ranked on synthetic defects, from good images alone."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from json import dumps
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from adbench.cli import completion, console
from adbench.cli import options as o
from adbench.cli.report import print_report
from adbench.cli.sweep import result_line
from adbench.core.errors import UsageError

if TYPE_CHECKING:
    from adbench.selection.select import Selecting, Selection, SelectionRequest
    from adbench.selection.validation import ValidationRecipe
    from adbench.selection.verification import Verification
    from adbench.sweep.spec import Spec
    from adbench.sweep.workspace import Workspace
    from adbench.types import OnStep, Result

_LAYERS = "Layers to rank; L+L joins two; all: the last of each block. Default: the last of each main stage."
_TILES = "Sides of the overlapping tiles that larger images are cut into, in pixels; 0 = none. Default: those of the grid."
_SHOTS = "Numbers of good images to fit to, drawn by the seed. Default: those of the grid, else all."
_VERIFY = "Also measure all candidates on the labeled test images of all categories, and compare."
_RESERVE = "Share of good images that take no part, so that train can set a threshold on them. Default: 0.25, at most 99 images."
_HALVING = "Drop the worse half of the candidates early where there are many images."
_BUDGET = "Time for the whole command, e.g. 10m; candidates and synthetic defects are cut to fit, and what is cut is said."
_LINE_S = 30.0  # between two lines about the progress, where no bar is drawn
_PICTURES = 3  # maps of each kind on the HTML page


@dataclass(frozen=True)
class CandidateOptions(o.SpecOptions):
    """The grid of candidates: a specification, and lists that replace its keys."""

    panel: ClassVar[str] = "Candidates"
    backbones: Annotated[
        str | None,
        o.option("A,B", "Backbones to rank. Default: those of the grid, else efficientnet_lite0.", complete=completion.backbones),
    ] = None
    weights: Annotated[
        str | None, o.option("W,..", "Weights to rank. Default: those of the grid, else imagenet.", complete=completion.weights)
    ] = None
    layers: Annotated[str | None, o.option("L,..|all", _LAYERS, complete=completion.layers)] = None
    image_sizes: Annotated[str | None, o.option("N,..", f"{o.IMAGE_SIZE} Default: those of the grid, else 256.")] = None
    tiles: Annotated[str | None, o.option("N,..", _TILES)] = None
    overlap: Annotated[str | None, o.option("F,..", "Shares of a tile that its neighbor also covers. Default: 0.25.")] = None
    detectors: Annotated[
        str | None,
        o.option(
            "D,..",
            "Detectors to rank. Default: those of the grid, else patchcore.",
            complete=completion.table("detectors", separators=","),
        ),
    ] = None

    shots: Annotated[str | None, o.option("N,..|all", _SHOTS, complete=completion.fixed("all"))] = None

    def study(self) -> Spec:
        """Return the specification; the lists replace its keys, --layers also those of a single backbone."""
        keys = {name: name for name in ("backbones", "weights", "layers", "image_sizes", "detectors", "overlap", "shots")}
        lists = {key: o.split([getattr(self, option) or ""]) for option, key in (keys | {"tiles": "tile"}).items()}
        overrides = [f"{key}={dumps(list(map(_number, items)))}" for key, items in lists.items() if items]
        study = self.parsed("select", overrides)
        if given := [key for key in ("thresholds", "shifts") if getattr(study, key)]:
            raise UsageError(f"select: {given[0]} is a key of sweeps; leave it out, and measure the best candidate by a sweep")
        backbones = tuple(replace(choice, layers=()) for choice in study.backbones)
        return replace(study, backbones=backbones) if self.layers else study


def _number(text: str) -> int | float | str:
    """Return the number that a text is, else the text."""
    return int(text) if text.isdigit() else float(text) if text.replace(".", "", 1).isdigit() else text


@dataclass(frozen=True)
class DefectOptions:
    """The data to judge candidates by: good images that are held out, and synthetic defects."""

    panel: ClassVar[str] = "Synthetic defects"
    defects: Annotated[int, o.option("N", "Number of synthetic defects to paint.", low=10)] = 60
    kinds: o.Kinds = None
    like: o.Like = None
    holdout: Annotated[float, o.option("F", "Share of good images to hold out.")] = 0.25
    reserve: Annotated[float | None, o.option("F", _RESERVE)] = None

    def validation(self, on_step: OnStep) -> ValidationRecipe:
        """Return how to make the validation data; reading the masks of --like is reported to `on_step`."""
        from adbench.data.synthetic.generation import Recipe, sizes_of_masks
        from adbench.selection.validation import ValidationRecipe

        made = ValidationRecipe(self.holdout, self.defects, Recipe(tuple(o.split(self.kinds))), self.reserve)
        if not self.like:
            return made
        return replace(made, recipe=replace(made.recipe, sizes=sizes_of_masks(self.like, on_step=on_step)))


@dataclass(frozen=True)
class TimeOptions:
    """How long the command may take, and how long it would take."""

    panel: ClassVar[str] = "Time"
    budget: Annotated[str | None, o.option("TIME", _BUDGET)] = None
    dry_run: Annotated[bool, o.flag("--dry-run", "Print the candidates with their forecast times, and stop.")] = False

    @property
    def budget_s(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else o.seconds("--budget", self.budget)


def select(
    candidates: CandidateOptions,
    images: o.OneCategoryOptions,
    judged_on: DefectOptions,
    limits: o.CostLimits,
    duration: TimeOptions,
    runtime: o.RuntimeOptions,
    pairs: Annotated[bool, o.flag("--pairs", "Also join each layer with the next deeper one.", "Candidates")] = False,
    halving: Annotated[bool, o.flag("--halving/--no-halving", _HALVING, "Candidates")] = True,
    verify: Annotated[bool, o.flag("--verify", _VERIFY)] = False,
    top: Annotated[int, o.option("N", "Rows of the text table; 0 = all.", low=0)] = 15,
    seed: Annotated[int | None, o.option("N", "Random seed. Default: that of the grid, else 0.", low=0, high=o.MOST_SEED)] = None,
    out: o.Out = None,
    format_: o.Format = "table",
    json: o.Json = False,
) -> None:
    """Rank candidates on good images and synthetic defects.

    For a category without labeled defects: some good images are held out, defects are painted on them, and each candidate is
    fitted to other good images. A third part is kept for the threshold: the train command that select prints sets it on images
    that took no part in the choice. Nothing in test/ is read, unless --verify is given.

    Examples:
      adbench select --data demo --category nut
      adbench select --data DIR --category bolt --layers all --image-sizes 256,384
    """
    from adbench.reports.formats import FORMATS
    from adbench.selection.ranking import Limits
    from adbench.selection.select import SelectionRequest, with_layer_names
    from adbench.sweep.plan import check_names

    started, budget_s = time.monotonic(), duration.budget_s
    if verify and (duration.dry_run or duration.budget):
        raise UsageError("select: --verify takes neither --budget nor --dry-run; leave one out")
    name, study, folder = "json" if json else FORMATS.canonical(format_), candidates.study(), o.results_folder(out)
    with runtime.open(images, study) as workspace:
        most, grid = Limits(limits.max_latency, limits.memory_mb), with_layer_names(study, workspace.memo, pairs, seed)
        check_names(grid, workspace.memo)
        holdout = judged_on.validation(workspace.on_step)
        request = SelectionRequest(grid, holdout, most, halving, _PICTURES if name == "html" else 0)
        ready = None if verify else _ready(workspace, request, folder, budget_s, started)
    if ready and duration.dry_run:
        return _print_forecast(ready, name == "json")
    found = _run(ready, duration.budget) if ready else _verify(workspace, request, folder)
    _print(found, name, top)
    if found.incomplete:
        raise typer.Exit(1)


def _ready(workspace: Workspace, request: SelectionRequest, folder: Path, budget_s: float | None, started: float) -> Selecting:
    """Return the selection with its forecast, cut to the budget."""
    from adbench.selection.select import FOLDER, prepare

    ready = prepare(workspace, request, workspace.single(training_only=True), folder / FOLDER).forecast()
    return ready if budget_s is None else ready.within(budget_s, time.monotonic() - started)


def _run(ready: Selecting, budget: str | None) -> Selection:
    """Say the forecast, run the selection, and return it."""
    total, left_s = len(ready.estimates), ready.seconds
    if total:
        before = f", {ready.done} done before" * bool(ready.done)
        console.say(f"{_count(total)} to run{before}: about {console.duration(left_s)}")
    if ready.cut or ready.fewer_defects:
        fewer = f", {len(ready.validation.sizes)} synthetic defects instead of {ready.fewer_defects}" * bool(ready.fewer_defects)
        console.say(f"cut to fit --budget {budget}: {_count(len(ready.cut))} left out, the slowest{fewer}")
    jobs = ready.planned if total else 0
    with console.job_progress(jobs, left_s, ready.done, "candidates") as (on_step, advance):
        live = replace(ready, workspace=replace(ready.workspace, on_step=on_step))
        return live.run(_Teller(advance))


def _verify(workspace: Workspace, request: SelectionRequest, folder: Path) -> Verification:
    from adbench.selection.verification import verify

    with console.job_progress(0, name="candidates") as (on_step, advance):
        return verify(replace(workspace, on_step=on_step), request, folder, _Teller(advance))


def _count(candidates: int) -> str:
    return f"{candidates} candidate{'s' * (candidates != 1)}"


class _Teller:
    """Shows results as they arrive: in the bar; without one, in a line now and then; with --verbose, in a line each."""

    def __init__(self, advance: console.Advance) -> None:
        self._advance, self._last = advance, time.monotonic()

    def __call__(self, result: Result, number: int, total: int, left_s: float | None) -> None:
        self._advance(number, total, left_s)
        console.detail(result_line(result, f"[{number}/{total}] {result.job.dataset}"))
        now = time.monotonic()
        if not console.has_bars() and now - self._last > max(_LINE_S, (left_s or 0) / 10):
            self._last = now
            left = "" if left_s is None or number == total else f", about {console.duration(left_s)} left"
            console.say(f"{number} of {_count(total)}{left}")


def _print_forecast(ready: Selecting, json: bool) -> None:
    """Print the candidates, one row for each that differs in more than its image size, with their forecast times."""
    if json:
        return console.answer_json(ready.record())
    from adbench.selection.tables import forecast_table

    headings, rows = forecast_table(ready, console.duration)
    console.answer(console.table(headings, rows))
    console.answer(
        f"{_count(len(ready.estimates))} to run, {ready.done} done before, {len(ready.cut)} cut; "
        f"{len(ready.validation.sizes)} synthetic defects; about {console.duration(ready.seconds)}"
    )


def _print(found: Selection | Verification, name: str, top: int) -> None:
    """Print the answer in a format; a text table has the best `top` rows and fits the terminal."""
    from adbench.selection.tables import selection_report, verification_report
    from adbench.selection.verification import Verification

    if name == "json":
        return console.answer_json(found.record())
    if isinstance(found, Verification):
        made = verification_report(found)
    elif name == "table":
        made = selection_report(found, top or None, get_terminal_size((100, 24)).columns if sys.stdout.isatty() else None)
    else:
        made = selection_report(found)
    print_report(made, name)
