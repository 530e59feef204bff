"""`adbench select`: candidates ranked on synthetic defects, from good images alone."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from json import dumps
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from adbench.cli import completion, console
from adbench.cli import options as o
from adbench.cli.sweep import result_line

if TYPE_CHECKING:
    from adbench.selection.validation import ValidationRecipe
    from adbench.sweep.spec import Spec
    from adbench.types import OnStep, Result

_LAYERS = "Layers to rank; L+L joins two; all: the last of each block. Default: the last of each main stage."
_VERIFY = "Also measure all candidates on the labeled test images of all categories, and compare."
_HALVING = "Drop the worse half of the candidates early where there are many images."
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
    image_sizes: Annotated[
        str | None, o.option("N,..", "Sides of the square input, in pixels. Default: those of the grid, else 256.")
    ] = None
    detectors: Annotated[
        str | None,
        o.option(
            "D,..",
            "Detectors to rank. Default: those of the grid, else patchcore.",
            complete=completion.table("detectors", separators=","),
        ),
    ] = None

    def study(self) -> Spec:
        """Return the specification; the lists replace its keys, --layers also those of a single backbone."""
        keys = ("backbones", "weights", "layers", "image_sizes", "detectors")
        lists = {key: o.split([getattr(self, key) or ""]) for key in keys}
        overrides = [
            f"{key}={dumps([int(item) if item.isdigit() else item for item in items])}" for key, items in lists.items() if items
        ]
        study = self.parsed("select", overrides)
        backbones = tuple(replace(choice, layers=()) for choice in study.backbones)
        return replace(study, backbones=backbones) if self.layers else study


@dataclass(frozen=True)
class DefectOptions:
    """The data to judge candidates by: good images that are held out, and synthetic defects."""

    panel: ClassVar[str] = "Synthetic defects"
    defects: Annotated[int, o.option("N", "Number of synthetic defects to paint.", low=10)] = 60
    kinds: o.Kinds = None
    like: o.Like = None
    holdout: Annotated[float, o.option("F", "Share of good images to hold out.")] = 0.25

    def validation(self, on_step: OnStep) -> ValidationRecipe:
        """Return how to make the validation data; reading the masks of --like is reported to `on_step`."""
        from adbench.data.synthetic.generation import DEFAULT_SIZES, Recipe, sizes_of_masks
        from adbench.selection.validation import ValidationRecipe

        sizes = sizes_of_masks(self.like, on_step=on_step) if self.like else DEFAULT_SIZES
        return ValidationRecipe(self.holdout, self.defects, Recipe(tuple(o.split(self.kinds)), sizes))


def select(
    candidates: CandidateOptions,
    images: o.OneCategoryOptions,
    judged_on: DefectOptions,
    limits: o.CostLimits,
    runtime: o.RuntimeOptions,
    pairs: Annotated[bool, o.flag("--pairs", "Also join each layer with the next deeper one.", "Candidates")] = False,
    halving: Annotated[bool, o.flag("--halving/--no-halving", _HALVING, "Candidates")] = True,
    verify: Annotated[bool, o.flag("--verify", _VERIFY)] = False,
    seed: Annotated[int | None, o.option("N", "Random seed. Default: that of the grid, else 0.", low=0)] = None,
    out: o.Out = None,
    format_: o.Format = "table",
    json: o.Json = False,
) -> None:
    """Rank candidates on good images and synthetic defects.

    For a category without labeled defects: some good images are held out, defects are painted on them, and each candidate is
    fitted to the other good images. Nothing in test/ is read, unless --verify is given.

    Examples:
      adbench select --data demo --category nut
      adbench select --data DIR --category bolt --layers all --image-sizes 256,384
    """
    from adbench.reports.formats import FORMATS
    from adbench.reports.report import render
    from adbench.selection.ranking import Limits
    from adbench.selection.select import FOLDER, Selection, SelectionRequest, with_layer_names
    from adbench.selection.select import select as select_candidates
    from adbench.selection.tables import selection_report, verification_report
    from adbench.selection.verification import Verification
    from adbench.selection.verification import verify as verify_selection

    format_ = "json" if json else FORMATS.canonical(format_)
    study, folder = candidates.study(), o.results_folder(out)
    with runtime.open(images, study) as workspace:
        holdout, most = judged_on.validation(workspace.on_step), Limits(limits.max_latency, limits.memory_mb)
        grid = with_layer_names(study, workspace.memo, pairs, seed)
        request = SelectionRequest(grid, holdout, most, halving, _PICTURES if format_ == "html" else 0)
        if verify:
            found: Selection | Verification = verify_selection(workspace, request, folder, _say)
        else:
            found = select_candidates(workspace, request, workspace.single(training_only=True), folder / FOLDER, _say)
    if format_ == "json":
        console.answer_json(found.record())
    else:
        made = verification_report(found) if isinstance(found, Verification) else selection_report(found)
        console.answer(render(made, format_, bold=console.has_color(sys.stdout)))
    if found.incomplete:
        raise typer.Exit(1)


def _say(result: Result, number: int, total: int) -> None:
    console.say(result_line(result, f"[{number}/{total}] {result.job.dataset}"))
